"""A summary made by hand through the real readings: two rounds, a teacher, the untrained weights."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from quipwright.core.records import Checkpoint, Example, Grade, Response
from quipwright.core.results import Note, PairScores, Sample
from quipwright.core.storage.run_folder import RunFolder
from quipwright.core.storage.stage_cache import StageTime
from quipwright.critics.heuristics import HeuristicCritic
from quipwright.data.run_summary import Counts, RunSummary, TrainingFacts
from quipwright.data.task import Task
from quipwright.evaluation.pairwise import (
    adjusted,
    comparisons,
    meetings,
    paired_difference,
    pairwise_result,
    scores_by_input,
)
from quipwright.evaluation.quality import quality

SYSTEMS = ("imitation", "round-1", "feedback", "base", "teacher")
ENDS = {
    "imitation": ", and nobody was surprised.",
    "round-1": ", a classic of the genre.",
    "feedback": ", and somewhere a spreadsheet quietly updated itself.",
    "base": ".",
    "teacher": ", which the household now celebrates as a minor public holiday.",
}


def made_summary(n: int = 30, name: str = "made", text: str = "", seed: int = 0) -> RunSummary:
    """``n`` inputs; ``text`` is added to every literal and answer, a hostile payload say."""
    rng = random.Random(seed)
    examples = [
        Example(text=f"Reading number {i} was late again {'very ' * (i % 4)}today.{text}", split="test")
        for i in range(n)
    ]
    systems = {
        s: {e.id: Response(example_id=e.id, text=_answer(e, s, rng) + text, author=s) for e in examples}
        for s in SYSTEMS
    }
    grades = {
        r.id: Grade(response_id=r.id, judge="reward:made", score=0.0, levels=(0.2, 0.8 - f, f))
        for own in systems.values()
        for r in own.values()
        for f in [round(0.7 * rng.random(), 3)]
    }
    judge = HeuristicCritic("coin")
    pairwise, scores = [], {}
    for names in meetings(systems, ("teacher", "base"), ("round-1", "feedback")):
        compared = comparisons(*names, systems, examples)
        judgments = judge.judge(compared)
        scores[names] = scores_by_input(compared, judgments)
        pairwise.append(pairwise_result(names, judge.name, "test", compared, judgments, resamples=100))
    samples = [
        Sample(
            literal=e.text,
            split=e.split,
            answers={s: own[e.id].text for s, own in systems.items()},
            levels={s: grades[own[e.id].id].levels or () for s, own in systems.items()},
            feedback_over_imitation=rng.random(),
            example_id=e.id,
            response_ids={s: own[e.id].id for s, own in systems.items()},
        )
        for e in examples
    ]
    return RunSummary(
        name=name,
        recipe=_recipe(name),
        defaults=_defaults(name),
        versions={"quipwright": "0.2.0", "python": "3.11"},
        pairwise=adjusted(pairwise),
        differences=adjusted(
            [
                paired_difference(
                    (student, "imitation"),
                    "teacher",
                    judge.name,
                    "test",
                    scores[student, "teacher"],
                    scores["imitation", "teacher"],
                    resamples=100,
                )
                for student in ("round-1", "feedback")
            ]
        ),
        quality=[look for s, own in systems.items() if (look := quality(s, "test", own, examples, grades)) is not None],
        stages=[
            StageTime(name=s, stage=s.split("-")[0], seconds=t, skipped=t < 1)
            for s, t in (("teach", 0.1), ("sft-imitation", 240.5), ("preference-1", 88.0), (f"judge-test{text}", 31.2))
        ],
        critic={
            "name": f"reward:made{text}",
            "agreement": 0.68,
            "low": 0.61,
            "high": 0.74,
            "n": 180,
            "ece": 0.04,
            "length_bias": 0.11,
        },
        checkpoints=_checkpoints(),
        training={
            "sft-imitation": TrainingFacts(rows=20, losses=[3.4 / (1 + 0.1 * i) for i in range(40)]),
            "preference-1": TrainingFacts(rows=20, losses=[0.69, 0.61, 0.58]),
        },
        counts=Counts(
            literals={"train": 1391, "test": n},
            teacher=4400,
            untaught=2,
            rankings=[310, 284],
            selected={"select-1": {"pairs": 20865, "within": 9000, "literals": 1391, "paired": 1300}},
            dropped={f"sample-1{text}": {"duplicate": 12, f"repeats{text}": 3}},
        ),
        warnings=[Note(about="judge", text=f"The critic that trained the student is the only judge here.{text}")],
        samples=samples,
        scores=[PairScores(candidate=a, baseline=b, split="test", scores=own) for (a, b), own in scores.items()],
        task=Task.load().model_dump(mode="json"),
    )


def _answer(example: Example, system: str, rng: random.Random) -> str:
    if rng.random() < 0.1:
        return example.text
    return example.text.rstrip(".") + ENDS[system]


def finished_run(folder: Path, summary: RunSummary) -> None:
    """Make ``folder`` the folder of a finished run that found ``summary``."""
    with RunFolder.open(folder, summary.recipe):
        summary.write(folder)


def _recipe(name: str) -> dict[str, Any]:
    return {**_defaults(name), "rounds": 2, "seed": 7}


def _defaults(name: str) -> dict[str, Any]:
    from quipwright.pipeline.recipe import Recipe

    return {**Recipe(name="made").model_dump(mode="json"), "name": name}


def _checkpoints() -> dict[str, Checkpoint]:
    checkpoints: dict[str, Checkpoint] = {}
    parent = None
    for round, name in enumerate(("imitation", "round-1", "feedback")):
        facts = dict.fromkeys(("settings_hash", "data_hash", "weights_hash", "path"), f"{round:016x}")
        objective = "dpo" if round else "mle"
        checkpoints[name] = Checkpoint(student="embedded", objective=objective, round=round, parent_id=parent, **facts)
        parent = checkpoints[name].id
    return checkpoints
