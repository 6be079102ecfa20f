"""The tables of a page as rows of cells: built from a summary, without a column that says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quipwright.core.format import UNKNOWN, counts, number, p_value, percent, percent_range, signed, signed_range
from quipwright.core.results import Figure, PairedDifference, PairwiseResult, Quality
from quipwright.evaluation.report import words


@dataclass(frozen=True)
class Cell:
    """``text`` with something less important ``beside`` it; ``strong`` for the figure that the row is about."""

    text: str
    beside: str = ""
    strong: bool = False

    @property
    def empty(self) -> bool:
        """Whether it says nothing."""
        return self.text in ("", UNKNOWN)


@dataclass(frozen=True)
class Table:
    """``names`` leading columns are words and stand to the left; the others are figures, to the right."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    names: int


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell | str]], names: int = 1) -> Table:
    """A table of ``rows`` without the columns in which every cell is empty."""
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    kept = [i for i in range(len(heads)) if any(not row[i].empty for row in cells)]
    return Table(
        tuple(heads[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in cells),
        sum(i < names for i in kept),
    )


def interval(figure: Figure | None, strong: bool = False, raw: bool = False) -> Cell:
    """A share in per cent (a number, if ``raw``) with its interval beside it."""
    if figure is None or figure.value is None:
        return Cell(UNKNOWN)
    if raw:
        beside = "" if figure.low is None else f"{number(figure.low)} to {number(figure.high)}"
        return Cell(number(figure.value), beside, strong)
    return Cell(percent(figure.value), "" if figure.low is None else percent_range(figure.low, figure.high), strong)


def score(figure: Figure, strong: bool = False) -> Cell:
    """A score times 100 with its interval: 50 is even."""
    if figure.value is None:
        return Cell(UNKNOWN)
    ends = "" if figure.low is None or figure.high is None else f"{100 * figure.low:.0f} to {100 * figure.high:.0f}"
    return Cell(f"{100 * figure.value:.0f}", ends, strong)


def meeting(candidate: str, baseline: str) -> str:
    """Who meets whom."""
    return f"{words.system(candidate)} against {words.system(baseline)}"


def win_rates(results: Sequence[PairwiseResult]) -> Table:
    """One row a comparison: the score, its length-controlled companion, the win-tie rate with its noise floor, counts."""
    several = [len({r.judge for r in results}) > 1, len({r.split for r in results}) > 1]
    heads = (
        "who", "judge", "split", "score", "corrected", "length-controlled", "win-tie rate", "noise floor", "win / tie / loss",
        "inputs", "length ratio",
    )  # fmt: skip
    rows = [
        (
            meeting(r.candidate, r.baseline),
            words.judge(r.judge) if several[0] else "",
            r.split if several[1] else "",
            score(r.score, strong=True),
            score(r.corrected) if r.corrected else UNKNOWN,
            score(r.length_controlled),
            interval(r.headline.rate),
            interval(r.noise_floor),
            counts(r.headline),
            Cell(str(r.n), f"{r.unparsed} unread" if r.unparsed else ""),
            number(r.length_ratio),
        )
        for r in results
    ]
    return table(heads, rows, names=3)


def rules(results: Sequence[PairwiseResult]) -> Table:
    """The same judgments under every scoring rule, with the tests."""
    named = [rule.rule for rule in results[0].rules] if results else []
    rows: list[tuple[Cell | str, ...]] = [
        (
            meeting(r.candidate, r.baseline),
            words.judge(r.judge),
            r.split,
            *[Cell(interval(c.rate).text, f"{interval(c.rate).beside}; {counts(c)}") for c in r.rules],
            percent(r.order_changes),
            p_value(r.p_even),
            p_value(r.p_holm),
        )
        for r in results
    ]
    heads = ("who", "judge", "split", *named, "turns with the order", "p", "p after Holm")
    return table(heads, rows, names=3)


def differences(found: Sequence[PairedDifference]) -> Table:
    """Paired differences of mean scores against one opponent."""
    heads = ("who", "difference", "against", "judge", "split", "inputs", "p", "p after Holm", "McNemar")
    rows = [
        (
            f"{words.system(d.candidate)} minus {words.system(d.baseline)}",
            Cell(signed(d.difference.value), signed_range(d.difference.low, d.difference.high), strong=True),
            words.system(d.opponent),
            words.judge(d.judge),
            d.split,
            str(d.n),
            p_value(d.p),
            p_value(d.p_holm),
            p_value(d.p_mcnemar),
        )
        for d in found
    ]
    return table(heads, rows)


def outputs(rows: Sequence[tuple[str, Quality]], grades: Sequence[str]) -> Table:
    """What the outputs of each system of each run look like; the best grade comes first."""
    order = list(range(len(grades)))[::-1]
    heads = (
        "run", "system", *(grades[i] for i in order), "harm", "split", "inputs", "copies", "stock turns", "cut off", "empty", "words",
        "length / literal", "repeats", "distinct-2", "self-BLEU", "meaning",
    )  # fmt: skip
    shown: list[tuple[Cell | str, ...]] = []
    for run, q in rows:
        shares = q.shares(len(grades))
        cells: tuple[Cell | str, ...] = (
            run, words.system(q.system), *(interval(shares[i], strong=i == order[0]) for i in order),
            interval(q.harm), q.split, str(q.n),
            percent(q.copy_rate), percent(q.stock_turns), percent(q.truncated), percent(q.empty), number(q.words, 1),
            number(q.length_ratio), number(q.repetition), number(q.distinct_2), number(q.self_bleu), number(q.meaning),
        )  # fmt: skip
        shown.append(cells)
    return table(heads, shown, names=2)
