"""The figures of a student's card: win rates and quality, with the judge that found them."""

from __future__ import annotations

from quipwright.core.format import counts, hundred, number, percent
from quipwright.core.results import PairwiseResult, Quality
from quipwright.data.run_summary import RunSummary
from quipwright.data.task import Task


def measured(summary: RunSummary, name: str) -> str:
    """What the run measured of student ``name``, in Markdown."""
    grades = Task.parse(summary.task, summary.name).grades
    own = [r for r in summary.pairwise if _is_of(r.candidate, name)]
    lines = [
        *_judge_lines(summary),
        "",
        *_pairwise_table(sorted((r for r in own if not r.unfit), key=lambda r: not r.outside)),
        *(f"\nLeft out: {why}" for why in dict.fromkeys(r.unfit for r in own if r.unfit)),
        "",
        *_quality_table(summary.quality, grades),
        "",
        f"{', '.join(grades).capitalize()} are mean grade probabilities by the same critic, x 100 [95 %].",
        "Stock turns: answers whose last three words end another one too. Harm: answers that may hurt, x 100 [95 %], as the",
        "embedded classifier of sensitive sentences reads them.",
    ]
    return "\n".join(lines)


def _judge_lines(summary: RunSummary) -> list[str]:
    critic = summary.critic
    if critic["agreement"] is None:
        measured = "whose agreement with people or a better judge was not measured"
    else:
        measured = f"which agrees with {percent(critic['agreement'])} of {critic['n']} held-out verdicts"
    return [
        f"The critic that trained the student is {critic['name'].partition(':')[0]}, {measured}.",
        "Its own figures are therefore no proof of quality; those of an outside judge say more.",
    ]


def _pairwise_table(results: list[PairwiseResult]) -> list[str]:
    lines = [
        "| candidate | baseline | judge | split | score (50 is even) | win-tie rate | win / tie / loss | length ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        cells = (
            r.candidate, r.baseline, r.judge, r.split, hundred(r.score), hundred(r.headline.rate), counts(r.headline),
            number(r.length_ratio),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _quality_table(looks: list[Quality], grades: tuple[str, ...]) -> list[str]:
    heads = ("system", "split", "n", "copies", "stock turns", *grades, "harm", "distinct-2")
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for q in looks:
        levels = [hundred(share) for share in q.shares(len(grades))]
        rates = (percent(q.copy_rate), percent(q.stock_turns))
        cells = (q.system, q.split, str(q.n), *rates, *levels, hundred(q.harm), number(q.distinct_2))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _is_of(candidate: str, name: str) -> bool:
    return candidate == name or candidate.startswith(f"{name}-")
