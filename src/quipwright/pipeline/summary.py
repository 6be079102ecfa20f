"""What a run found, in one object and one file (``summary.json``) that reports and tools read."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict

from quipwright.core.metrics import Metrics
from quipwright.core.records import Checkpoint, Ranking
from quipwright.core.results import PairedDifference, PairScores, PairwiseResult, Quality, Sample
from quipwright.core.storage.files import write_atomic
from quipwright.core.version import VERSION
from quipwright.critics.base import BuildContext, figures
from quipwright.critics.config import CriticConfig, outsiders
from quipwright.llm.costs import Spent
from quipwright.pipeline.evaluate import Evaluation
from quipwright.pipeline.stages import Stages


class Summary(BaseModel):
    """What a run found. Rates carry their intervals; nothing here is computed twice elsewhere.

    ``spent``: on calls, of this run's folder.
    ``scores``: the training critic's, input by input, for paired comparisons of runs.
    ``task``: the whole task file, so that a student can be used where that file is not. ``models``: what is known of
    what each teacher or critic can do.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    recipe: dict[str, Any]
    versions: dict[str, str]
    pairwise: list[PairwiseResult]
    differences: list[PairedDifference]
    quality: list[Quality]
    stages: list[dict[str, Any]]
    critic: dict[str, Any]
    checkpoints: dict[str, dict[str, Any]]
    training: dict[str, dict[str, Any]]
    counts: dict[str, Any]
    warnings: list[str]
    samples: list[Sample]
    scores: list[PairScores] = []
    spent: list[Spent] = []
    task: dict[str, Any] = {}
    models: dict[str, dict[str, Any]] = {}


def summarise(
    stages: Stages, students: Mapping[str, Checkpoint], rankings: Sequence[Sequence[Ranking]], evaluation: Evaluation
) -> Summary:
    """Gather the run's findings and write them to ``summary.json``."""
    import torch
    import transformers

    run = stages.run
    summary = Summary(
        name=stages.recipe.name,
        recipe=stages.recipe.model_dump(mode="json"),
        versions={
            "quipwright": VERSION,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        pairwise=evaluation.pairwise,
        differences=evaluation.differences,
        quality=evaluation.quality,
        stages=[asdict(stage) for stage in run.stages],
        critic=figures(stages.models.critic),
        checkpoints={name: {"id": c.id, **c.model_dump(mode="json")} for name, c in students.items()},
        training=run.facts,
        counts={**_counts(stages, rankings), **evaluation.data},
        warnings=[*_warnings(evaluation, _outsiders(stages)), *stages.notes],
        samples=evaluation.samples,
        scores=evaluation.scores,
        spent=stages.models.spent(),
        task=stages.task.model_dump(mode="json"),
        models=run.manifest().get("models", {}),
    )
    write_atomic(run.path / "summary.json", summary.model_dump_json(indent=1))
    _record(summary, stages.metrics)
    return summary


def _record(summary: Summary, metrics: Metrics) -> None:
    """Every evaluation figure as a point of the stream, at the round of the student it is of (0: no student's)."""

    def add(system: str, split: str, figures: Mapping[str, Any]) -> None:
        rounds = [
            c["round"] for name, c in summary.checkpoints.items() if system == name or system.startswith(f"{name}-")
        ]
        at = rounds[-1] if rounds else 0
        numbers = {f"{system}/{name}": float(v) for name, v in figures.items() if isinstance(v, int | float)}
        metrics.add(f"evaluate-{split}", at, at, numbers)

    for w in summary.pairwise:
        against = {"win_tie_rate": w.headline.rate.value, "length_controlled": w.length_controlled.value}
        by = _by(summary, w.judge)
        add(w.candidate, w.split, {f"{by}against-{w.baseline}/{name}": value for name, value in against.items()})
    for d in summary.differences:
        add(
            d.candidate,
            d.split,
            {f"{_by(summary, d.judge)}minus-{d.baseline}/against-{d.opponent}": d.difference.value},
        )
    names = summary.task.get("grades", ())
    for q in summary.quality:
        levels = dict(zip(names, q.levels or (), strict=False))
        add(q.system, q.split, q.model_dump(exclude={"system", "split", "levels"}) | levels)


def _by(summary: Summary, judge: str) -> str:
    """How the figures of a judge beside the critic are told from the critic's."""
    return "" if judge == summary.critic["name"] else f"by-{judge}/"


def _counts(stages: Stages, rankings: Sequence[Sequence[Ranking]]) -> dict[str, Any]:
    taught = {} if stages.taught is None else {"yield": stages.taught.model_dump(mode="json")}
    return {
        **taught,
        "rankings": [len(ranked) for ranked in rankings],
        "selected": stages.selected,
        "dropped": {name: dict(Counter(reasons)) for name, reasons in stages.run.dropped.items()},
        "strength": [round(sum(r.strength for r in ranked) / len(ranked), 4) for ranked in rankings if ranked],
    }


def _outsiders(stages: Stages) -> list[CriticConfig]:
    """The judges of the evaluation that share no model with the critic."""
    recipe = stages.recipe
    return outsiders(recipe.critic, recipe.evaluate.judges, BuildContext(stages.base, stages.task))


def _warnings(evaluation: Evaluation, outside_judges: Sequence[CriticConfig]) -> list[str]:
    """What a reader must know before believing a number."""
    found = []
    if not outside_judges:
        found.append(
            "The critic that trained the student is the only judge here: an outside judge is needed for a claim."
        )
    by_name = {(q.system, q.split): q for q in evaluation.quality}
    for (name, split), q in by_name.items():
        taught = by_name.get(("teacher", split))
        worst = None if taught is None or taught.levels is None else taught.levels[0]
        if name == "imitation" and worst is not None and q.levels is not None and worst > q.levels[0]:
            found.append(
                f"The critic gives the teacher the worst grade more often than the student on {split} ({worst:.0%} against "
                f"{q.levels[0]:.0%}): it does not know such texts, and win rates against the teacher mean nothing."
            )
        if name not in ("teacher", "base") and q.empty > 0.05:
            found.append(f"{name} answers nothing at all on {q.empty:.0%} of {split}.")
        base = by_name.get(("imitation", split))
        if base is None or not base.words or name in ("imitation", "teacher", "base"):
            continue
        if q.copy_rate > base.copy_rate + 0.05:
            found.append(
                f"{name} copies the literal more often than imitation on {split}: {q.copy_rate:.0%} against {base.copy_rate:.0%}."
            )
        if q.length_ratio > 1.25 * base.length_ratio:
            found.append(
                f"{name} writes {q.length_ratio / base.length_ratio:.2f} times as long as imitation on {split}."
            )
        if q.distinct_2 < 0.75 * base.distinct_2:
            found.append(
                f"{name} is less varied than imitation on {split}: distinct-2 {q.distinct_2:.2f} against {base.distinct_2:.2f}."
            )
    return found
