"""The table of an experiment: pure numbers from its runs' summaries, and their Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from pydantic import Field
from scipy.stats import t as student_t

from understudy.evaluation import score_key
from understudy.llm.spend import Spent
from understudy.settings import Settings
from understudy.statistics import bootstrap_mean, holm, paired_bootstrap, sign, sign_flip_test
from understudy.summary import Summary

if TYPE_CHECKING:
    from understudy.experiment import Experiment

Scores = dict[str, dict[int, float]]
"""s by example id and seed."""


class Row(Settings):
    """One variant's findings. ``rate``: mean win-tie rate over seeds; ``low``/``high`` its 95 % bootstrap interval over
    inputs; ``seeds_low``/``seeds_high`` the t interval over seeds; ``difference`` of mean scores to the baseline over the
    same inputs, its interval, and ``p`` after Holm. ``None`` is unknown. ``minutes``: of
    all invocations; ``spent`` on calls, ``None`` where none were made; work that variants share is on the first one's
    account."""

    variant: str
    runs: int
    failed: dict[int, str] = Field(default_factory=dict)
    n: int = 0
    rates: dict[int, float] = Field(default_factory=dict)
    rate: float | None = None
    low: float | None = None
    high: float | None = None
    seeds_low: float | None = None
    seeds_high: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p: float | None = None
    length_ratio: float | None = None
    copy_rate: float | None = None
    distinct_2: float | None = None
    minutes: float = 0.0
    spent: Spent | None = None
    paper: float | None = None


class Result(Settings):
    """The table, and what it is of."""

    name: str
    baseline: str
    opponent: str
    split: str
    rows: tuple[Row, ...]


def tabulate(
    experiment: Experiment,
    found: Mapping[tuple[str, int], Summary | str],
    minutes: Mapping[tuple[str, int], float],
) -> Result:
    """The table of the summaries in ``found``, by variant and seed."""
    scores = {name: _scores(experiment, name, found) for name in experiment.variants}
    rows = [_row(experiment, name, found, scores, minutes) for name in experiment.variants]
    tested = [i for i, row in enumerate(rows) if row.p is not None]
    for i, p in zip(tested, holm([rows[i].p or 0.0 for i in tested]), strict=True):
        rows[i] = rows[i].model_copy(update={"p": p})
    return Result(
        name=experiment.name,
        baseline=experiment.baseline,
        opponent=experiment.opponent,
        split=experiment.split,
        rows=tuple(rows),
    )


def _scores(experiment: Experiment, name: str, found: Mapping[tuple[str, int], Summary | str]) -> Scores:
    key, scores = score_key(experiment.variants[name].student, experiment.opponent, experiment.split), Scores()
    for seed in experiment.seeds:
        summary = found[name, seed]
        if not isinstance(summary, str):
            for example, s in summary.scores.get(key, {}).items():
                if s is not None:
                    scores.setdefault(example, {})[seed] = s
    return scores


def _row(
    experiment: Experiment,
    name: str,
    found: Mapping[tuple[str, int], Summary | str],
    scores: Mapping[str, Scores],
    minutes: Mapping[tuple[str, int], float],
) -> Row:
    own = {seed: found[name, seed] for seed in experiment.seeds}
    made = [s for s in own.values() if not isinstance(s, str)]
    row: dict[str, Any] = {
        "variant": name,
        "runs": len(made),
        "failed": {seed: s for seed, s in own.items() if isinstance(s, str)},
        "minutes": sum(minutes[name, seed] for seed in experiment.seeds),
        "spent": _spent([one for s in made for one in s.spent]),
        "paper": experiment.paper.get(name),
    }
    if made and scores[name]:
        row |= _rates(scores[name], made[0]) | _outputs(experiment, name, made)
        if name != experiment.baseline:
            row |= _difference(scores[name], scores[experiment.baseline])
    return Row(**row)


def _spent(spent: Sequence[Spent]) -> Spent | None:
    found = None
    for one in spent:
        found = one if found is None else found + one
    return found


def _rates(scores: Scores, any_run: Summary) -> dict[str, Any]:
    tie = float(any_run.recipe["evaluate"]["tie"])
    won = {example: {seed: float(sign(s, tie) >= 0) for seed, s in by.items()} for example, by in scores.items()}
    seeds = sorted({seed for by in won.values() for seed in by})
    rates = {seed: fmean(by[seed] for by in won.values() if seed in by) for seed in seeds}
    mean = bootstrap_mean([fmean(by.values()) for by in won.values()])
    found: dict[str, Any] = {"n": len(won), "rates": rates, "rate": fmean(rates.values())}
    found |= {"low": mean.low, "high": mean.high}
    if len(rates) > 1:
        half = float(student_t.ppf(0.975, len(rates) - 1)) * stdev(rates.values()) / len(rates) ** 0.5
        found |= {"seeds_low": max(0.0, found["rate"] - half), "seeds_high": min(1.0, found["rate"] + half)}
    return found


def _outputs(experiment: Experiment, name: str, made: Sequence[Summary]) -> dict[str, float]:
    student = experiment.variants[name].student
    read = [q for s in made for q in s.quality if (q.system, q.split) == (student, experiment.split)]
    fields = ("length_ratio", "copy_rate", "distinct_2")
    return {field: fmean(getattr(q, field) for q in read) for field in fields} if read else {}


def _difference(mine: Scores, theirs: Scores) -> dict[str, Any]:
    """Mean scores over seeds, input by input: the unit that is resampled and flipped is the input."""
    both = [e for e in mine if e in theirs]
    a, b = ([fmean(scores[e].values()) for e in both] for scores in (mine, theirs))
    if not both:
        return {}
    gap = paired_bootstrap(a, b)
    return {
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
        "p": sign_flip_test(a, b),
    }


def markdown(result: Result) -> str:
    """The table as Markdown, with a line for each failure."""
    lines = [
        f"# {result.name}",
        "",
        f"Win-tie rate against {result.opponent} on {result.split} (judge: the recipe's critic); difference of mean "
        f"scores to {result.baseline}, paired over inputs; p by sign flips, Holm-adjusted.",
        "",
        "| variant | runs | WTR | 95 % inputs | 95 % seeds | difference | 95 % | p | length | copies | distinct-2 | minutes "
        "| cost | paper |",
        "| --- " * 14 + "|",
    ]
    for r in result.rows:
        cells = (
            r.variant, str(r.runs), _percent(r.rate), _interval(r.low, r.high, _percent),
            _interval(r.seeds_low, r.seeds_high, _percent), _signed(r.difference),
            _interval(r.difference_low, r.difference_high, _signed), "–" if r.p is None else f"{r.p:.3f}",
            *("–" if x is None else f"{x:.2f}" for x in (r.length_ratio, r.copy_rate, r.distinct_2)),
            f"{r.minutes:.1f}", "–" if r.spent is None else r.spent.money, "–" if r.paper is None else f"{r.paper:g} %",
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    failures = [f"- {r.variant}, seed {seed}: {why}" for r in result.rows for seed, why in r.failed.items()]
    return "\n".join([*lines, *(["", "Failed:", "", *failures] if failures else []), ""])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _interval(low: float | None, high: float | None, form: Callable[[float], str]) -> str:
    return "–" if low is None or high is None else f"{form(low)} to {form(high)}"
