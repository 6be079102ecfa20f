"""The figures of a page: which numbers of a summary or a table each one shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from quipwright.core.format import percent, signed
from quipwright.core.results import PairwiseResult
from quipwright.evaluation.report.figures import Dot, Point, around_zero, bars, dot_plot, line_chart
from quipwright.evaluation.report.view import seconds_of

if TYPE_CHECKING:
    from quipwright.data.run_summary import RunSummary
    from quipwright.evaluation.experiment_table import Result

CURVE = 300  # points of a loss curve


def rates(s: RunSummary) -> Markup:
    """All win-tie rates of a run with their Wilson intervals."""
    several = len({r.split for r in s.pairwise}) > 1
    dots = [
        dot
        for r in s.pairwise
        for dot in rate_dot(f"{r.candidate} vs {r.baseline}" + (f" ({r.split})" if several else "") + by(s, r), r)
    ]
    return dot_plot(dots, "Win-tie rate with Wilson 95 % interval; the dashed line is one half.")


def rates_of_runs(runs: Sequence[tuple[str, RunSummary]]) -> Markup:
    """The win-tie rates of every run's students against the teacher and the imitation student."""
    dots = [
        dot
        for name, s in runs
        for r in s.pairwise
        if r.candidate in s.checkpoints and r.baseline in ("teacher", "imitation")
        for dot in rate_dot(f"{name}: {r.candidate} vs {r.baseline} ({r.split}){by(s, r)}", r)
    ]
    return dot_plot(dots, "Win-tie rate of every student with Wilson 95 % interval; the dashed line is one half.")


def rate_dot(label: str, r: PairwiseResult) -> list[Dot]:
    """One dot for the headline of ``r``; none where no input was read."""
    rate = r.headline.rate
    return (
        [] if rate.value is None else [Dot(label, rate.value, rate.low, rate.high, f"{percent(rate.value)}, n {r.n}")]
    )


def by(s: RunSummary, r: PairwiseResult) -> str:
    """Whose result ``r`` is, where a run has several judges."""
    return f" by {r.judge}" if len({other.judge for other in s.pairwise}) > 1 else ""


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
        if r.rate is not None
    ]
    paper = " Hollow squares are the paper's figures." if any(dot.other is not None for dot in dots) else ""
    return dot_plot(
        dots,
        f"Win-tie rate against {result.opponent}, mean over seeds, with the 95 % interval over inputs.{paper}",
    )


def differences(result: Result) -> Markup:
    """Every variant's difference to the baseline."""
    dots = [
        Dot(r.variant, r.difference, r.difference_low, r.difference_high, signed(r.difference))
        for r in result.rows
        if r.difference is not None
    ]
    reach = [x for dot in dots for x in (dot.value, dot.low, dot.high) if x is not None]
    caption = (
        f"Mean score minus {result.baseline}'s on the same inputs, paired-bootstrap 95 %; right of the line is better."
    )
    return dot_plot(dots, caption, around_zero(reach))


def over_rounds(s: RunSummary) -> list[Markup]:
    """Length, copies and win rate from imitation through every round, on the first split."""
    order = [n for n in s.checkpoints if n in {q.system for q in s.quality}]
    if len(order) < 2:
        return []
    split = s.quality[0].split
    looks = {q.system: q for q in s.quality if q.split == split}
    judge = s.pairwise[0].judge if s.pairwise else ""  # the critic's; other judges stand in the table
    wanted = (split, "teacher", judge)
    rates = {r.candidate: r.headline.rate.value for r in s.pairwise if (r.split, r.baseline, r.judge) == wanted}
    charts = [
        line_chart(
            "Words per literal word", [Point(n, looks[n].length_ratio) for n in order if n in looks], percent=False
        ),
        line_chart("Copies of the literal", [Point(n, looks[n].copy_rate) for n in order if n in looks], percent=True),
    ]
    points = [Point(n, rate) for n in order if (rate := rates.get(n)) is not None]
    if len(points) == len(order):
        charts.append(line_chart("Win-tie rate against the teacher", points, percent=True))
    return charts


def training(s: RunSummary) -> list[Markup]:
    """Loss of every training; of a long one some steps, the lowest and the highest among them."""
    charts = []
    for name, facts in s.training.items():
        losses = [v for v in facts.losses if isinstance(v, int | float)]
        if len(losses) > 1:
            points = [Point("first step" if i == 0 else f"step {i + 1}", float(losses[i]), i) for i in _spread(losses)]
            charts.append(line_chart(f"Loss of {name}", points, percent=False))
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
        rows.append((stage.name, took or 0.0, ("unknown" if took is None else f"{took:.1f} s") + before))
    return bars(rows, "Seconds each stage took, in this run of the command or an earlier one.")
