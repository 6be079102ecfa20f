"""The run's summary, made from what its stages returned and from nothing else."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from quipwright.core.metrics import Metrics
from quipwright.core.records import Checkpoint, Grade, Judgment, Response
from quipwright.core.results import Note, Quality
from quipwright.core.statistics import wilson
from quipwright.core.storage.run_folder import RunFolder
from quipwright.core.storage.stage_cache import read_sealed_rows
from quipwright.core.version import VERSION
from quipwright.critics.base import BuildContext, figures
from quipwright.critics.config import CriticConfig, outsiders
from quipwright.data.examples import LoadedExamples
from quipwright.data.run_summary import Counts, RunSummary
from quipwright.llm.request_batching import why_unanswered
from quipwright.pipeline.context import Context
from quipwright.pipeline.evaluate import Evaluation
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.rounds import Step
from quipwright.pipeline.stages.teach import TeacherOutput
from quipwright.pipeline.stages.train import Trained
from quipwright.pipeline.validate import issue_line


class Outcome(NamedTuple):
    """What the stages of a run came to."""

    data: LoadedExamples
    teacher: TeacherOutput
    imitation: Trained
    steps: Sequence[Step]
    rounds: Sequence[Step]
    students: Mapping[str, Checkpoint]
    evaluation: Evaluation


def summarise(ctx: Context, recipe: Recipe, run: RunFolder, outcome: Outcome) -> RunSummary:
    """Gather what the stages returned and write it to ``summary.json``."""
    import torch
    import transformers

    data, teacher, imitation, steps, rounds, students, evaluation = outcome
    ctx.calls.note_capabilities()  # a manifest that was lost is complete again
    ctx.students.keep_decoding_noted()
    learnt = [*steps, *rounds]
    outside = outsiders(recipe.critic, recipe.evaluate.judges, BuildContext(ctx.recipe_dir, ctx.task))
    graded = {
        time.name: read_sealed_rows(run.cache.folder / time.folder, Grade)
        for time in run.cache.times
        if time.stage == "grade"
    }
    summary = RunSummary(
        name=recipe.name,
        recipe=recipe.model_dump(mode="json"),
        defaults=Recipe(name=recipe.name).model_dump(mode="json"),
        versions={
            "quipwright": VERSION,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        pairwise=evaluation.pairwise,
        differences=evaluation.differences,
        quality=evaluation.quality,
        stages=run.cache.times,
        critic=figures(evaluation.critic),
        checkpoints=dict(students),
        training={trained.name: trained.facts for trained in [imitation, *(step.trained for step in learnt)]},
        counts=_counts(data, teacher, learnt, evaluation, graded),
        warnings=[
            *evaluation_warnings(evaluation, outside),
            *(_note("judge", line) for line in grading_notes(grade for rows in graded.values() for grade in rows)),
            *(_note("training", line) for line in _validation_notes(rounds)),
        ],
        samples=evaluation.samples,
        scores=evaluation.scores,
        spent=ctx.calls.spent(),
        task=ctx.task.model_dump(mode="json"),
        models=ctx.calls.capabilities(),
    )
    summary.write(run.path)
    _record(summary, ctx.metrics)
    return summary


def _record(summary: RunSummary, metrics: Metrics) -> None:
    """Every evaluation figure as a point of the stream, at the round of the student it is of (0: no student's)."""

    def add(system: str, split: str, figures: Mapping[str, Any]) -> None:
        rounds = [c.round for name, c in summary.checkpoints.items() if system == name or system.startswith(f"{name}-")]
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
        add(q.system, q.split, q.model_dump(exclude={"system", "split", "levels", "level_ranges"}) | levels)


def _by(summary: RunSummary, judge: str) -> str:
    """How the figures of a judge beside the critic are told from the critic's."""
    return "" if judge == summary.critic["name"] else f"by-{judge}/"


def _counts(
    data: LoadedExamples,
    teacher: TeacherOutput,
    learnt: Sequence[Step],
    evaluation: Evaluation,
    graded: Mapping[str, Sequence[Grade]],
) -> Counts:
    """How much of everything there was, what was dropped and why, and what no model answered."""
    responses: dict[str, Sequence[Response]] = {"teach": teacher.rows, **evaluation.responses}
    judgments: dict[str, Sequence[Judgment]] = dict(evaluation.judgments)
    for step in learnt:
        number = step.checkpoint.round
        responses[f"sample-{number}"] = step.ranked.attempts
        judgments[f"judge-{number}"] = step.ranked.judgments
    dropped = {name: Counter(r.status.value for r in rows if not r.usable) for name, rows in responses.items()}
    asked: dict[str, Sequence[Response | Judgment | Grade]] = {**responses, **judgments, **graded}
    unanswered = {name: sum(bool(why_unanswered(row)) for row in rows) for name, rows in asked.items()}
    ranked = [step.ranked.rankings for step in learnt if step.name.startswith("round-")]
    return Counts(
        literals=dict(Counter(e.split for e in data.examples)),
        teacher=sum(map(len, teacher.responses.values())),
        left_out=dict(data.dropped),
        untaught=teacher.asked - len(teacher.responses),
        rankings=[len(rankings) for rankings in ranked],
        strength=[round(sum(r.strength for r in rankings) / len(rankings), 4) for rankings in ranked if rankings],
        selected={
            f"select-{step.checkpoint.round}": dict(step.ranked.selection.acceptance)
            for step in learnt
            if step.ranked.selection is not None
        },
        dropped={name: dict(statuses) for name, statuses in dropped.items() if statuses},
        unanswered={name: count for name, count in unanswered.items() if count},
        teacher_yield=teacher.counts,
    )


def grading_notes(grades: Iterable[Grade]) -> Iterator[str]:
    """Of each judge: how many texts it could not grade, and how often it gave a text the same grade in another order."""
    by_judge: dict[str, list[Grade]] = {}
    for grade in grades:
        by_judge.setdefault(grade.judge, []).append(grade)
    for judge, own in by_judge.items():
        if unread := sum(grade.score is None for grade in own):
            yield f"{judge} could not grade {unread} of {len(own)} texts; they have no part in any figure."
        if twice := [grade.readings for grade in own if len(grade.readings) > 1]:
            alike = sum(len(set(readings)) == 1 for readings in twice)
            low, high = wilson(alike, len(twice))
            yield (
                f"{judge} read {len(twice)} texts in two orders and gave {alike} of them the same grade "
                f"({alike / len(twice):.0%}, {low:.0%} to {high:.0%})."
            )


def _validation_notes(rounds: Sequence[Step]) -> list[str]:
    """In what the students of ``rounds`` degenerated, at which epoch's end or after which round."""
    notes = []
    for step in rounds:
        number = step.checkpoint.round
        for point in step.trained.facts.readings:
            notes += [issue_line(f"Round {number}, step {point.number},", issue) for issue in point.issues]
        if step.validation is not None:
            notes += [issue_line(f"Round {number}", issue) for issue in step.validation.issues]
    return notes


def evaluation_warnings(evaluation: Evaluation, outside_judges: Sequence[CriticConfig]) -> list[Note]:
    """What a reader must know before believing a number."""
    notes = []
    if not outside_judges:
        told = "The critic that trained the student is the only judge here: an outside judge is needed for a claim."
        notes.append(_note("judge", told))
    by_name = {(q.system, q.split): q for q in evaluation.quality}
    for (name, split), q in by_name.items():
        if name not in ("teacher", "base") and q.empty > 0.05:
            notes.append(_note("outputs", f"{name} answers nothing at all on {q.empty:.0%} of {split}."))
        base = by_name.get(("imitation", split))
        if base is not None and base.words and name not in ("imitation", "teacher", "base"):
            notes += [_note("outputs", line) for line in _worse_looks(q, base)]
    return notes


def _note(about: Literal["judge", "outputs", "training"], text: str) -> Note:
    return Note(about=about, text=text)


def _worse_looks(q: Quality, base: Quality) -> Iterator[str]:
    """In what the outputs of a student look worse than those of the imitation student, ``base``, on the same split."""
    name, split = q.system, q.split
    if q.copy_rate > base.copy_rate + 0.05:
        yield (
            f"{name} copies the literal more often than imitation on {split}: {q.copy_rate:.0%} against {base.copy_rate:.0%}."
        )
    if q.stock_turns is not None and base.stock_turns is not None and q.stock_turns > base.stock_turns + 0.05:
        yield (
            f"{name} ends its answers alike more often than imitation on {split}: {q.stock_turns:.0%} against "
            f"{base.stock_turns:.0%} share their last three words with another."
        )
    if q.length_ratio > 1.25 * base.length_ratio:
        yield f"{name} writes {q.length_ratio / base.length_ratio:.2f} times as long as imitation on {split}."
    if q.distinct_2 < 0.75 * base.distinct_2:
        yield (
            f"{name} is less varied than imitation on {split}: distinct-2 {q.distinct_2:.2f} against {base.distinct_2:.2f}."
        )
