"""The figures of a page: which numbers of a summary or a table each one shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from quipwright.core.format import hundred, percent, signed
from quipwright.core.results import PairwiseResult
from quipwright.evaluation.report import words
from quipwright.evaluation.report.figures import Axis, Dot, Point, around_zero, bars, dot_plot, line_chart
from quipwright.evaluation.report.tables import meeting
from quipwright.evaluation.report.view import seconds_of

if TYPE_CHECKING:
    from quipwright.data.run_summary import RunSummary
    from quipwright.evaluation.experiment_table import Result

CURVE = 300  # points of a loss curve
SCORE = Axis(title="score (50 is even)", even=True)
_SCORES = "Scores with their 95 % intervals; right of the dashed line the first named is better."


def scores(s: RunSummary) -> Markup:
    """The scores of all comparisons of a run by fit judges."""
    fit = [r for r in s.pairwise if not r.unfit]
    several = len({r.split for r in fit}) > 1
    dots = [
        dot
        for r in fit
        for dot in score_dot(meeting(r.candidate, r.baseline) + (f" ({r.split})" if several else "") + by(fit, r), r)
    ]
    return dot_plot(dots, _SCORES, SCORE) if dots else Markup("")


def scores_of_runs(runs: Sequence[tuple[str, RunSummary]]) -> Markup:
    """The scores of every run's students against the teacher and the imitation student, by fit judges."""
    dots = [
        dot
        for name, s in runs
        for r in s.pairwise
        if r.candidate in s.checkpoints and r.baseline in ("teacher", "imitation") and not r.unfit
        for dot in score_dot(f"{name}: {meeting(r.candidate, r.baseline)} ({r.split}){by(s.pairwise, r)}", r)
    ]
    return dot_plot(dots, _SCORES, SCORE) if dots else Markup("")


def verdict(r: PairwiseResult) -> Markup:
    """The score that the verdict rests on, and what it would be with both equally long."""
    dots = score_dot("score", r)
    if r.length_controlled.value is not None:
        c = r.length_controlled
        dots.append(Dot("both equally long", r.length_controlled.value, c.low, c.high, hundred(c)))
    return dot_plot(dots, "", SCORE)


def score_dot(label: str, r: PairwiseResult) -> list[Dot]:
    """One dot for the score of ``r``; none where no input was read."""
    return [] if r.score.value is None else [Dot(label, r.score.value, r.score.low, r.score.high, hundred(r.score))]


def by(results: Sequence[PairwiseResult], r: PairwiseResult) -> str:
    """Whose result ``r`` is, where there are several judges."""
    return f", {words.judge(r.judge)}" if len({other.judge for other in results}) > 1 else ""


def variants(result: Result) -> Markup:
    """Every variant's win-tie rate, with the paper's where it has one."""
    dots = [
        Dot(
            r.variant,
            r.rate,
            r.low,
            r.high,
            f"{percent(r.rate)}, n {r.n}",
            None if r.paper is None else r.paper / 100,
        )
        for r in result.rows
        if r.rate is not None and not r.unfit
    ]
    paper = " Hollow squares are the paper's figures." if any(dot.other is not None for dot in dots) else ""
    return dot_plot(
        dots,
        f"Win-tie rate against {result.opponent}, mean over seeds, with the 95 % interval over inputs.{paper}",
        Axis(title="win-tie rate, %"),
    )


def differences(result: Result) -> Markup:
    """Every variant's difference to the baseline."""
    dots = [
        Dot(r.variant, r.difference, r.difference_low, r.difference_high, signed(r.difference))
        for r in result.rows
        if r.difference is not None and not r.unfit
    ]
    reach = [x for dot in dots for x in (dot.value, dot.low, dot.high) if x is not None]
    caption = (
        f"Mean score minus {result.baseline}'s on the same inputs, paired-bootstrap 95 %; right of the line is better."
    )
    return dot_plot(dots, caption, around_zero(reach, "difference of scores (0 to 1)"))


def over_rounds(s: RunSummary) -> list[Markup]:
    """Length, copies and win rate from imitation through every round, on the first split."""
    order = [n for n in s.checkpoints if n in {q.system for q in s.quality}]
    if len(order) < 2:
        return []
    split = s.quality[0].split
    looks = {q.system: q for q in s.quality if q.split == split}
    charts = [
        line_chart(
            "Length",
            [Point(words.system(n), looks[n].length_ratio) for n in order if n in looks],
            scale="number",
            unit="words for each word of the literal",
        ),
        line_chart(
            "Copies of the literal",
            [Point(words.system(n), looks[n].copy_rate) for n in order if n in looks],
            scale="share",
            unit="share of the answers",
        ),
    ]
    against = [r for r in s.pairwise if r.split == split and r.baseline == "teacher" and not r.unfit]
    judge = against[0].judge if against else ""
    rates = {r.candidate: r.score.value for r in against if r.judge == judge}
    points = [Point(words.system(n), rate) for n in order if (rate := rates.get(n)) is not None]
    if len(points) == len(order):
        charts.append(
            line_chart("Score against the teacher", points, scale="score", unit=f"50 is even; by {words.judge(judge)}")
        )
    return charts


def training(s: RunSummary) -> list[Markup]:
    """Loss of every training; of a long one some steps, the lowest and the highest among them."""
    charts = []
    for name, facts in s.training.items():
        losses = [v for v in facts.losses if isinstance(v, int | float)]
        if len(losses) > 1:
            points = [Point("first step" if i == 0 else f"step {i + 1}", float(losses[i]), i) for i in _spread(losses)]
            charts.append(line_chart(f"Loss: {words.stage(name)}", points, scale="number", unit="loss by step"))
    return charts


def _spread(values: Sequence[float]) -> list[int]:
    """Places of about ``CURVE`` of ``values``, evenly spaced, with the first, the last and both extremes."""
    last = len(values) - 1
    even = {round(step * last / (CURVE - 1)) for step in range(CURVE)}
    return sorted(even | {values.index(min(values)), values.index(max(values))})


def time_by_stage(s: RunSummary) -> Markup:
    """Seconds that each stage took to make, whenever that was."""
    rows = []
    for stage in s.stages:
        took, before = seconds_of(stage), ", finished before" if stage.skipped else ""
        rows.append((words.stage(stage.name), took or 0.0, ("unknown" if took is None else f"{took:.1f} s") + before))
    return bars(rows, "Seconds each stage took, in this run of the command or an earlier one.")
