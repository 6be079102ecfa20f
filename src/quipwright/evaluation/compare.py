"""Any systems against one another, by any judges: the same readings as a run's own evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from rich.table import Table

from quipwright.core.errors import DataError
from quipwright.core.records import Example, Grade, Quality, Record, Response
from quipwright.core.statistics import RESAMPLES
from quipwright.critics.base import Critic, GradesOnFile
from quipwright.critics.copy_filter import CopyFilter
from quipwright.evaluation.audit import judge_all
from quipwright.evaluation.pairwise import DEFINITIONS, Contest, Duel, Figure, adjusted, contest, duel, scores_by_input
from quipwright.evaluation.quality import System, comparisons, quality
from quipwright.evaluation.similarity import Meaning
from quipwright.evaluation.systems import Outputs, aligned


class Outcome(Record):
    """Everything that ``compare`` found. Holm's adjustment is over all contests, and over all duels."""

    systems: tuple[str, ...]
    judges: tuple[str, ...]
    contests: tuple[Contest, ...]
    duels: tuple[Duel, ...]
    quality: tuple[Quality, ...]
    warnings: tuple[str, ...]


def compare(
    systems: Sequence[Outputs], judges: Sequence[Critic], *,
    tie: float = 0.05, resamples: int = RESAMPLES, guard: bool = True, meaning: Meaning | None = None,
) -> Outcome:  # fmt: skip
    """Every system against the last one, by every judge, on every split; and the others with one another, paired.

    ``guard``: the rule that copies and broken texts lose stands before each judge. Raises :class:`DataError` when
    there are fewer than two systems or they have no literal in common.
    """
    if len(systems) < 2:
        raise DataError("compare needs two systems.", "For example: quipwright compare runs/a runs/b.")
    examples, answers = aligned(systems)
    *candidates, baseline = [system.name for system in systems]
    contests, duels, looks = list[Contest](), list[Duel](), list[Quality]()
    literal_of, responses = {e.id: e.text for e in examples}, [r for own in answers.values() for r in own.values()]
    literals = [literal_of[r.example_id] for r in responses]
    kept = _kept(meaning, literals, responses)
    marks = _recorded_grades(judges, literals, responses)
    for split in dict.fromkeys(e.split for e in examples):
        own = [e for e in examples if e.split == split]
        for judge in judges:
            _judge_split(CopyFilter(judge) if guard else judge, split, own, answers, candidates, baseline, contests, duels,
                         tie, resamples)  # fmt: skip
        looks += [
            quality(name, split, system, own, marks, kept) for name, system in answers.items() if _any(system, own)
        ]
    if not contests:
        raise DataError(
            f"No literal was answered both by {baseline} and by another system.",
            "Give them the same literals (--data FILE).",
        )
    return Outcome(
        systems=tuple(system.name for system in systems),
        judges=tuple(judge.name for judge in judges),
        contests=tuple(adjusted(contests)),
        duels=tuple(adjusted(duels)),
        quality=tuple(looks),
        warnings=tuple(_warnings(systems, judges, contests)),
    )


def _judge_split(
    judge: Critic, split: str, examples: Sequence[Example], answers: Mapping[str, System], candidates: Sequence[str], baseline: str,
    contests: list[Contest], duels: list[Duel], tie: float, resamples: int,
) -> None:  # fmt: skip
    scores = {}
    for name in candidates:
        compared = comparisons(name, baseline, answers, examples)
        if not compared:
            continue
        judgments = [j for own in judge_all(judge, compared) for j in own]
        found = contest((name, baseline), judge.name, split, compared, judgments, tie=tie, resamples=resamples)
        contests.append(found)
        scores[name] = scores_by_input(compared, judgments)
    for one, other in combinations(scores, 2):
        duels.append(
            duel((one, other), baseline, judge.name, split, scores[one], scores[other], tie=tie, resamples=resamples)
        )


def _kept(meaning: Meaning | None, literals: Sequence[str], responses: Sequence[Response]) -> dict[str, float]:
    found = meaning.kept(responses, literals) if meaning else []
    return {one.response_id: one.cosine for one in found}


def _recorded_grades(
    judges: Sequence[Critic], literals: Sequence[str], responses: Sequence[Response]
) -> dict[str, Grade]:
    """The grades of the first recorded judge that has any, by response id."""
    each = (judge.recorded_grades(literals, responses) for judge in judges if isinstance(judge, GradesOnFile))
    return next(filter(None, each), {})


def _any(system: System, examples: Sequence[Example]) -> bool:
    return any(e.id in system for e in examples)


def _warnings(systems: Sequence[Outputs], judges: Sequence[Critic], contests: Sequence[Contest]) -> list[str]:
    found = []
    trainers = {system.critic: system.name for system in systems if system.critic}
    involved = [judge.name for judge in judges if judge.name in trainers]
    if involved and len(involved) == len(judges):
        found.append(
            f"{involved[0]} trained {trainers[involved[0]]} (or learnt from the same verdicts) and is the only judge here:"
            " an outside judge is needed for a claim."
        )
    elif involved:
        found.append(f"{involved[0]} trained {trainers[involved[0]]}: believe the other judges first.")
    elif trainers and not judges:
        found.append("There is no judge.")
    for c in contests:
        if c.unparsed:
            found.append(
                f"{c.judge} could not be read on {c.unparsed} of {c.n + c.unparsed} inputs ({c.candidate}, {c.split})."
            )
        if not 0.8 <= c.length_ratio <= 1.25:
            found.append(
                f"{c.candidate} writes {c.length_ratio:.2f} times as long as {c.baseline} on {c.split}:"
                " read the length-controlled rate."
            )
    return list(dict.fromkeys(found))


# --- printed ---------------------------------------------------------------------------------------------------------


def tables(outcome: Outcome) -> list[Table]:
    """Win rates, paired differences (if several candidates) and the outputs' quality."""
    found = [_contest_table(outcome.contests)]
    if outcome.duels:
        found.append(_duel_table(outcome.duels))
    return [*found, _quality_table(outcome.quality)]


def definitions() -> list[str]:
    """What the four readings are, a line each."""
    return [f"{rule}: {meaning}" for rule, meaning in DEFINITIONS.items()]


def percent(figure: Figure) -> str:
    """``62 [55, 69]``; an unknown value is a dash."""
    if figure.value is None:
        return "–"
    interval = "" if figure.low is None else f" [{100 * figure.low:.0f}, {100 * (figure.high or 0):.0f}]"
    return f"{100 * figure.value:.0f}{interval}"


def _headed(title: str, names: Sequence[str], figures: Sequence[str]) -> Table:
    """An empty table: ``names`` to the left, ``figures`` to the right of their columns."""
    table = Table(title=title, title_justify="left")
    for head in names:
        table.add_column(head)
    for head in figures:
        table.add_column(head, justify="right")
    return table


def _contest_table(contests: Sequence[Contest]) -> Table:
    table = _headed(
        "Win-tie rates, x 100 [95 %]",
        ("candidate", "baseline", "judge", "split"),
        ("n", *DEFINITIONS, "win/tie/loss", "score", "length-controlled", "p", "Holm"),
    )
    for c in contests:
        counts = c.reading("tolerant")
        unread = f" (+{c.unparsed} unread)" if c.unparsed else ""
        table.add_row(
            c.candidate, c.baseline, c.judge, c.split, f"{c.n}{unread}", *(percent(c.reading(rule).rate) for rule in DEFINITIONS),
            f"{counts.wins:g}/{counts.ties:g}/{counts.losses:g}", percent(c.score), percent(c.length_controlled),
            probability(c.p_even), probability(c.p_holm),
        )  # fmt: skip
    return table


def _duel_table(duels: Sequence[Duel]) -> Table:
    table = _headed(
        "Candidates with one another: difference of scores against the baseline, x 100",
        ("candidate", "minus", "judge", "split"),
        ("n", "difference", "p", "Holm", "McNemar p"),
    )
    for d in duels:
        table.add_row(
            d.candidate, d.other, d.judge, d.split, str(d.n), percent(d.difference),
            probability(d.p), probability(d.p_holm), probability(d.p_mcnemar),
        )  # fmt: skip
    return table


def _quality_table(looks: Sequence[Quality]) -> Table:
    graded = ("broken", "plain", "funny") if any(q.funny is not None for q in looks) else ()
    table = _headed(
        "The outputs",
        ("system", "split"),
        ("n", "copies", *graded, "cut off", "words", "length ratio", "repeats", "distinct-2", "self-BLEU", "meaning"),
    )
    for q in looks:
        shares = ["–" if (x := getattr(q, name)) is None else f"{x:.0%}" for name in graded]
        rest = ["–" if x is None else f"{x:.2f}" for x in (q.repetition, q.distinct_2, q.self_bleu, q.meaning)]
        table.add_row(
            q.system,
            q.split,
            str(q.n),
            f"{q.copy_rate:.0%}",
            *shares,
            f"{q.truncated:.0%}",
            f"{q.words:.1f}",
            f"{q.length_ratio:.2f}",
            *rest,
        )
    return table


def probability(p: float | None) -> str:
    """A p-value with three digits."""
    return "–" if p is None else "<.001" if p < 0.001 else f"{p:.3f}"
