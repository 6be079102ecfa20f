"""The table of an experiment: pure numbers from its runs' summaries, and their Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Any

from pydantic import Field
from scipy.stats import t as student_t

from quipwright.core.results import PairScores
from quipwright.core.settings import Settings
from quipwright.core.statistics import holm, paired_bootstrap, share, sign_flip_test
from quipwright.data.run_summary import RunSummary
from quipwright.evaluation.experiment import Experiment, Verdicts
from quipwright.evaluation.pairwise import scores_between, share_won
from quipwright.llm.costs import Spent

Scores = dict[str, dict[int, float]]
"""By example id and seed: s, or the share of showings won."""


WTR = (
    "WTR is the win-tie rate against {} as the paper defines it: how often the critic finds the variant at least as good, "
    "each order of showing read alone at one half and both averaged (a critic that is shown no order is read once)."
)


class Judged(Settings):
    """A variant's win-tie rate by a further judge, as in :class:`Row`."""

    n: int = 0
    rate: float | None = None
    low: float | None = None
    high: float | None = None
    paper: float | None = None


class Row(Settings):
    """One variant's findings. ``rate``: mean over seeds of the paper's win-tie rate (each showing read alone at 1/2, both
    averaged; Ravi et al. 2024 sec. 4); ``low``/``high`` its 95 % interval over inputs;
    ``seeds_low``/``seeds_high`` the t interval over seeds; ``difference`` of mean scores to the baseline over the same
    inputs and seeds, its interval, and ``p`` after Holm. ``harm``: share of answers that may hurt, by the embedded
    classifier. ``None`` is unknown. ``minutes``: of all invocations; ``spent`` on answered calls, ``None`` where none were
    made; work and answers that variants share are on the first one's account.
    ``unfit``: why the critic cannot tell this variant, or the baseline, from the opponent; its figures are then part of no
    verdict, and it has no ``p``.
    """

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
    harm: float | None = None
    length_ratio: float | None = None
    copy_rate: float | None = None
    stock_turns: float | None = None
    distinct_2: float | None = None
    minutes: float = 0.0
    spent: Spent | None = None
    paper: float | None = None
    unfit: str = ""
    judges: dict[str, Judged] = Field(default_factory=dict)


class Result(Settings):
    """The table, and what it is of. ``silent``: why a further judge said nothing, by its name. ``spent``: on all calls, those
    included that are on no variant's account: of further judges, and those that were given up on."""

    name: str
    baseline: str
    opponent: str
    split: str
    rows: tuple[Row, ...]
    silent: dict[str, str] = Field(default_factory=dict)
    spent: Spent | None = None


def tabulate(
    experiment: Experiment,
    found: Mapping[tuple[str, int], RunSummary | str],
    minutes: Mapping[tuple[str, int], float],
    judged: Mapping[str, Verdicts | str] = MappingProxyType({}),
) -> Result:
    """The table of the summaries in ``found``, by variant and seed, and of what further judges said."""
    scores = {name: _scores(experiment, name, found, _score) for name in experiment.variants}
    rows = [_row(experiment, name, found, scores, minutes) for name in experiment.variants]
    unfit = next((row.unfit for row in rows if row.variant == experiment.baseline), "")
    rows = [row.model_copy(update={"unfit": unfit or row.unfit}) for row in rows]
    rows = [row.model_copy(update={"p": None}) if row.unfit else row for row in rows]
    tested = [i for i, row in enumerate(rows) if row.p is not None]
    for i, p in zip(tested, holm([rows[i].p or 0.0 for i in tested]), strict=True):
        rows[i] = rows[i].model_copy(update={"p": p})
    verdicts = {judge: said for judge, said in judged.items() if not isinstance(said, str)}
    for i, row in enumerate(rows):
        by_judge = {judge: _judged(experiment, row.variant, judge, said) for judge, said in verdicts.items()}
        rows[i] = row.model_copy(update={"judges": by_judge})
    return Result(
        name=experiment.name,
        baseline=experiment.baseline,
        opponent=experiment.opponent,
        split=experiment.split,
        rows=tuple(rows),
        silent={judge: why for judge, why in judged.items() if isinstance(why, str)},
    )


def _scores(
    experiment: Experiment,
    name: str,
    found: Mapping[tuple[str, int], RunSummary | str],
    read: Callable[[PairScores], Mapping[str, float | None]],
) -> Scores:
    """What ``read`` finds in each seed's scores of the variant's student against the opponent."""
    names = experiment.variants[name].student, experiment.opponent, experiment.split
    made = {seed: s for seed in experiment.seeds if not isinstance(s := found[name, seed], str)}
    scores = {seed: scores_between(s.scores, *names) for seed, s in made.items()}
    return _by_example({seed: read(one) for seed, one in scores.items() if one is not None})


def _by_example(by_seed: Mapping[int, Mapping[str, float | None]]) -> Scores:
    """The known values, turned from seed and example to example and seed."""
    scores = Scores()
    for seed, values in by_seed.items():
        for example, value in values.items():
            if value is not None:
                scores.setdefault(example, {})[seed] = value
    return scores


def _score(pair: PairScores) -> Mapping[str, float | None]:
    return pair.scores


def _won(pair: PairScores) -> Mapping[str, float | None]:
    """The share of presentation orders won; a judge that is shown no order is read once."""
    if pair.orders_won is not None:
        return pair.orders_won
    return {example: share_won(score) for example, score in pair.scores.items()}


def _row(
    experiment: Experiment,
    name: str,
    found: Mapping[tuple[str, int], RunSummary | str],
    scores: Mapping[str, Scores],
    minutes: Mapping[tuple[str, int], float],
) -> Row:
    summaries = {seed: found[name, seed] for seed in experiment.seeds}
    made = [s for s in summaries.values() if not isinstance(s, str)]
    row: dict[str, Any] = {
        "variant": name,
        "runs": len(made),
        "failed": {seed: s for seed, s in summaries.items() if isinstance(s, str)},
        "minutes": sum(minutes[name, seed] for seed in experiment.seeds),
        "spent": total([one for s in made for one in s.spent]),
        "paper": experiment.paper.get(name),
        "unfit": next(filter(None, (_unfit(experiment, name, s) for s in made)), ""),
    }
    if made and scores[name]:
        row |= _rates(_scores(experiment, name, found, _won)) | _outputs(experiment, name, made)
        if name != experiment.baseline:
            row |= _difference(scores[name], scores[experiment.baseline])
    return Row(**row)


def _unfit(experiment: Experiment, name: str, summary: RunSummary) -> str:
    """Why the run's own critic cannot judge the variant's student against the opponent."""
    wanted = experiment.variants[name].student, experiment.opponent, experiment.split, summary.critic.get("name")
    met = (r for r in summary.pairwise if (r.candidate, r.baseline, r.split, r.judge) == wanted)
    return next((r.unfit for r in met), "")


def total(spent: Sequence[Spent]) -> Spent | None:
    """All of ``spent`` together, ``None`` where that is nothing."""
    whole = None
    for one in spent:
        whole = one if whole is None else whole + one
    return whole


def _rates(shares: Scores) -> dict[str, Any]:
    if not shares:
        return {}
    seeds = sorted({seed for by in shares.values() for seed in by})
    rates = {seed: fmean(by[seed] for by in shares.values() if seed in by) for seed in seeds}
    mean = share([fmean(by.values()) for by in shares.values()])
    row: dict[str, Any] = {"n": len(shares), "rates": rates, "rate": fmean(rates.values())}
    row |= {"low": mean.low, "high": mean.high}
    if len(rates) > 1:
        half = float(student_t.ppf(0.975, len(rates) - 1)) * stdev(rates.values()) / len(rates) ** 0.5
        row |= {"seeds_low": max(0.0, row["rate"] - half), "seeds_high": min(1.0, row["rate"] + half)}
    return row


def _judged(experiment: Experiment, name: str, judge: str, said: Verdicts) -> Judged:
    rates = _rates(_by_example({seed: said.get((name, seed), {}) for seed in experiment.seeds}))
    figures = {field: rates[field] for field in ("n", "rate", "low", "high") if field in rates}
    return Judged(**figures, paper=experiment.judges[judge].paper.get(name))


def _outputs(experiment: Experiment, name: str, made: Sequence[RunSummary]) -> dict[str, float]:
    student = experiment.variants[name].student
    read = [q for s in made for q in s.quality if (q.system, q.split) == (student, experiment.split)]
    fields = ("length_ratio", "copy_rate", "stock_turns", "distinct_2")
    values = {field: [value for q in read if (value := getattr(q, field)) is not None] for field in fields}
    values["harm"] = [q.harm.value for q in read if q.harm.value is not None]
    return {field: fmean(known) for field, known in values.items() if known}


def _difference(mine: Scores, theirs: Scores) -> dict[str, Any]:
    """Mean scores over the seeds that both have, input by input: the unit that is resampled and flipped is the input."""
    both = {e: seeds for e in mine if e in theirs and (seeds := mine[e].keys() & theirs[e].keys())}
    if not both:
        return {}
    a, b = ([fmean(scores[e][seed] for seed in seeds) for e, seeds in both.items()] for scores in (mine, theirs))
    gap = paired_bootstrap(a, b)
    return {
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
        "p": sign_flip_test(a, b),
    }
