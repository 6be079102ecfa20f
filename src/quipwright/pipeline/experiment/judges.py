"""Further judges of a grid: they read the recorded answers of its runs, and train nobody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from quipwright.core.errors import QuipwrightError
from quipwright.core.records import Comparison, Pair
from quipwright.core.results import Sample
from quipwright.critics.base import Critic
from quipwright.critics.copy_filter import CopyFilter
from quipwright.critics.loading import opened_settings
from quipwright.data.run_summary import RunSummary
from quipwright.evaluation.audit import judge_all
from quipwright.evaluation.experiment import Experiment, Run, Verdicts
from quipwright.evaluation.pairwise import SELECTOR, orders_won


def judged(
    experiment: Experiment, found: Mapping[Run, RunSummary | str], folder: Path, base: Path, task: str
) -> dict[str, Verdicts | str]:
    """What each further judge of ``experiment`` says of the runs in ``found``, or in one line why it says nothing.

    Answers of language models are kept in ``folder``: a judge that is added later asks only its own questions.
    """
    made = {run: summary for run, summary in found.items() if not isinstance(summary, str)}
    return {name: _verdicts(experiment, name, made, folder, base, task) for name in experiment.judges}


def _verdicts(
    experiment: Experiment, name: str, made: Mapping[Run, RunSummary], folder: Path, base: Path, task: str
) -> Verdicts | str:
    try:
        with opened_settings([(experiment.judges[name], base)], folder, task) as (loaded,):
            if loaded.store:
                loaded.store.stage = lambda: f"judge {name}"
            return {run: _won(experiment, run, loaded.critic, summary) for run, summary in made.items()}
    except QuipwrightError as error:
        return str(error)


def _won(experiment: Experiment, run: Run, critic: Critic, summary: RunSummary) -> dict[str, float | None]:
    names = experiment.variants[run[0]].student, experiment.opponent
    both = [s for s in summary.samples if s.split == experiment.split and all(n in s.answers for n in names)]
    compared = [_comparison(sample, *names) for sample in both]
    judge = CopyFilter(critic) if summary.recipe["copies_lose"] else critic
    return orders_won(compared, [j for own in judge_all(judge, compared) for j in own])


def _comparison(sample: Sample, mine: str, theirs: str) -> Comparison:
    a_id, b_id = (sample.response_ids.get(name, name) for name in (mine, theirs))
    pair = Pair(example_id=sample.example_id, a_id=a_id, b_id=b_id, selector=SELECTOR)
    return Comparison(pair, sample.literal, sample.answers[mine], sample.answers[theirs])
