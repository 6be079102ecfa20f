"""Tables of experiments as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quipwright.core.format import (
    UNKNOWN,
    hundred,
    number,
    p_value,
    percent,
    percent_range,
    signed,
    signed_range,
)
from quipwright.evaluation.audit import AuditReport
from quipwright.evaluation.experiment_table import WTR, Judged, Result, Row
from quipwright.evaluation.harm import HARM_NOTE

_HEADS = (
    "variant", "runs", "WTR", "95 % inputs", "95 % seeds", "difference", "95 %", "p", "harm", "length", "copies", "stock turns",
    "distinct-2", "minutes", "cost", "paper",
)  # fmt: skip


def experiment_markdown(result: Result) -> str:
    """The table of a grid of variants, with a line for each failure."""
    judges = list(dict.fromkeys(judge for row in result.rows for judge in row.judges))
    lines = [
        f"# {result.name}",
        "",
        f"{WTR.format(result.opponent)} On {result.split}; judge: the recipe's critic. Difference of mean scores to "
        f"{result.baseline}, paired over inputs and seeds; p by sign flips, Holm-adjusted. {HARM_NOTE}",
        "",
        _line([*_HEADS, *judges]),
        "| --- " * (len(_HEADS) + len(judges)) + "|",
        *(_line([*_cells(row), *(_by_judge(row.judges[judge]) for judge in judges)]) for row in result.rows),
    ]
    if result.spent:
        lines += ["", f"All calls: {result.spent.calls}, cost {result.spent.money}."]
    if judges:
        names = ", ".join(judges)
        lines += ["", f"{names}: WTR by that judge, its 95 % over inputs, and the paper's figure in brackets."]
    aside = [
        f"- {r.variant} {percent(r.rate)} ({percent_range(r.low, r.high)}): {r.unfit}" for r in result.rows if r.unfit
    ]
    if aside:
        lines += ["", "Set aside, part of no verdict (WTR by the critic, 95 % over inputs):", "", *aside]
    failures = [f"{r.variant}, seed {seed}: {why}" for r in result.rows for seed, why in r.failed.items()]
    failures += [f"judge {judge}: {why}" for judge, why in result.silent.items()]
    return "\n".join([*lines, *_failed(failures), ""])


def critics_markdown(
    name: str,
    source: str,
    measured: Mapping[str, AuditReport | str],
    columns: Mapping[str, str],
    paper: Mapping[str, Mapping[str, float]],
) -> str:
    """The layout of Ravi et al. (2024) Table 1, x 100 with 95 % intervals, and a line for each critic that failed.

    ``measured`` holds a report by row, or in one line why there is none. ``columns``: heads of the agreement columns
    with their questions. ``paper``: figures to print in brackets, by row and column.
    """
    reports = {row: report for row, report in measured.items() if not isinstance(report, str)}
    pairs = max((report.pairs for report in reports.values()), default=0)
    asked = ", ".join(f"{question} ({head})" for head, question in columns.items())
    lines = [
        f"# {name}",
        "",
        f"{pairs} pairs of {source}. Agreement per judgment on {asked}, verdicts that change with the order (PB), the "
        "label is the shorter text and the critic took the longer (LB): x 100 [95 %] (paper).",
        "",
        _line(["critic", *columns, "PB", "LB", "unread"]),
        "| --- " * (len(columns) + 4) + "|",
    ]
    for row, report in reports.items():
        main = report.audits[report.main]
        cells = {
            c: hundred(report.audits[q].agreement.mean) if q in report.audits else UNKNOWN for c, q in columns.items()
        }
        cells |= {"PB": hundred(main.position.changed), "LB": hundred(main.length.paper.mean)}
        known = paper.get(row, {})
        shown = [f"{cell} ({known[c]:g})" if c in known else cell for c, cell in cells.items()]
        lines.append(_line([row, *shown, str(main.unparsed)]))
    failures = [f"{row}: {why}" for row, why in measured.items() if isinstance(why, str)]
    return "\n".join([*lines, *_failed(failures), ""])


def _cells(r: Row) -> list[str]:
    judged = [
        percent(r.rate), percent_range(r.low, r.high), percent_range(r.seeds_low, r.seeds_high),
        signed(r.difference), signed_range(r.difference_low, r.difference_high), p_value(r.p),
    ]  # fmt: skip
    return [
        r.variant, str(r.runs), *(["set aside", *[UNKNOWN] * 5] if r.unfit else judged), percent(r.harm),
        number(r.length_ratio), number(r.copy_rate), number(r.stock_turns), number(r.distinct_2), f"{r.minutes:.1f}",
        UNKNOWN if r.spent is None else r.spent.money, UNKNOWN if r.paper is None else f"{r.paper:g} %",
    ]  # fmt: skip


def _by_judge(judged: Judged) -> str:
    paper = "" if judged.paper is None else f" ({judged.paper:g} %)"
    return f"{percent(judged.rate)}, {percent_range(judged.low, judged.high)}{paper}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _failed(failures: list[str]) -> list[str]:
    return ["", "Failed:", "", *(f"- {failure}" for failure in failures)] if failures else []
