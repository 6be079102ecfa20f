"""Rows of texts -> a checkpoint: SFT, or preference training against a frozen reference."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from quipwright.core.errors import TrainingError
from quipwright.core.progress import bar
from quipwright.core.records import Checkpoint, Example, Ranking, Response, SequenceScore, content_hash
from quipwright.core.storage.files import file_sha256, read_lines, write_atomic
from quipwright.core.storage.shares import Parts
from quipwright.core.storage.stage_cache import StageKey
from quipwright.data.run_summary import TrainingFacts
from quipwright.pipeline.context import Context
from quipwright.pipeline.recipe import Imitation, Learning
from quipwright.students.base import Prompted
from quipwright.students.common import WEIGHTS_FILE
from quipwright.students.scoring import Reference, score_rows
from quipwright.training.early_stopping import ValidationCallback
from quipwright.training.loop import AnyObjective, measured, train
from quipwright.training.objectives import BRIO, KTO, MLE
from quipwright.training.preference.ranking import copy_losers
from quipwright.training.preference.rows import labelled_rows, ranked_rows
from quipwright.training.settings import TrainSettings, total_steps

_LOG = "log.jsonl"
_SCORED = 256
"""Rows whose log-probabilities are stored together."""


@dataclass(frozen=True)
class Trained:
    """A checkpoint, and the facts of its training: rows, losses, validation losses, validation points on the way."""

    name: str
    checkpoint: Checkpoint
    facts: TrainingFacts


def train_sft(
    ctx: Context,
    part: str,
    parent: Checkpoint | None,
    settings: Imitation | Learning,
    examples: Sequence[Example],
    targets: Mapping[str, Sequence[Response]],
    *,
    round: int = 0,
    callback: ValidationCallback | None = None,
) -> Trained:
    """Imitation of ``targets`` (by example id) on the training split, all of a literal's of one style in one row; the
    validation split measures it (Ravi et al. 2024 sec. 3.1)."""
    rows = prompted(ctx, [e for e in examples if e.split == "train"], targets)
    held = prompted(ctx, [e for e in examples if e.split == "valid"], targets)
    return _trained(
        ctx, "sft", part, parent, rows, settings.objective, settings.train, round=round, validation=held,
        callback=callback,
    )  # fmt: skip


def adopt(ctx: Context, part: str) -> Trained:
    """The adapter that the recipe's student starts from, as a checkpoint of the run: nothing is trained."""
    identity = content_hash(ctx.students.identity)
    key = StageKey("sft", part, (identity, "adopted"))

    def build(folder: Path) -> dict[str, Any]:
        ctx.students.load(None).save(folder)
        return {"rows": 0, "losses": []}

    folder, facts = ctx.cache.built(key, build)
    checkpoint = Checkpoint(
        path=folder.name,
        student=ctx.students.weights,
        objective=MLE().kind,
        round=0,
        parent_id=None,
        settings_hash=identity,
        data_hash="",
        weights_hash=file_sha256(folder / WEIGHTS_FILE)[:16],
    )
    return Trained(key.name, checkpoint, TrainingFacts.model_validate(facts))


def train_preference(
    ctx: Context,
    part: str,
    parent: Checkpoint,
    settings: Learning,
    examples: Mapping[str, Example],
    responses: Mapping[str, Response],
    rankings: Sequence[Ranking],
    anchors: Mapping[str, Sequence[Response]],
    *,
    round: int,
    reference: Checkpoint,
    length_rows: Sequence[Prompted],
    callback: ValidationCallback | None = None,
    why_none: tuple[str, str] = ("", ""),
) -> Trained:
    """Preference training from ``parent`` on ``rankings`` of ``responses`` (by id; ``examples`` by id).

    The log-probabilities of ``reference`` are computed once and stored. ``anchors``: the teacher's responses by example
    id, one of which is the target of each row's MLE term where ``settings`` ask for one. ``length_rows``: the rows over
    which BRIO's mean length is measured. Raises :class:`TrainingError` where there is nothing to learn from, saying
    ``why_none`` (a reason and a remedy).
    """
    if not rankings:
        raise TrainingError(
            f"Round {round} has no pair with a usable verdict to learn from: {why_none[0]}.", why_none[1]
        )
    extra, literals = copy_losers(rankings, examples, responses, settings.copy_share, ctx.seed + round)
    texts = {**responses, **{r.id: r for r in literals}}
    rows, ordered = ranked_rows(
        lambda e, style: ctx.task.prompt(e.text, style), examples, texts, [*rankings, *extra],
        anchors if settings.anchored else {},
    )  # fmt: skip
    return _beside_reference(
        ctx, part, parent, settings, rows, ordered, round=round, reference=reference, length_rows=length_rows,
        callback=callback,
    )  # fmt: skip


def train_labelled(
    ctx: Context,
    part: str,
    parent: Checkpoint,
    settings: Learning,
    examples: Mapping[str, Example],
    labelled: Sequence[tuple[Response, bool]],
    *,
    callback: ValidationCallback | None = None,
) -> Trained:
    """Training from ``parent``, which is its own reference, on single responses that are desirable or not."""
    contrasts = settings.objective.contrasts if isinstance(settings.objective, KTO) else 0
    rows, ordered = labelled_rows(
        lambda e, style: ctx.task.prompt(e.text, style), examples, labelled, contrasts, ctx.seed
    )
    return _beside_reference(
        ctx, part, parent, settings, rows, ordered, round=0, reference=parent, length_rows=(), callback=callback
    )


def _beside_reference(
    ctx: Context,
    part: str,
    parent: Checkpoint,
    settings: Learning,
    rows: Sequence[Prompted],
    ordered: Sequence[Sequence[Response]],
    *,
    round: int,
    reference: Checkpoint,
    length_rows: Sequence[Prompted],
    callback: ValidationCallback | None,
) -> Trained:
    """Training on ``rows``, beside the log-probabilities of ``reference`` where the objective needs them."""
    scores = None
    if settings.objective.needs_reference:
        scores = _reference_scores(ctx, part, reference, rows, ordered, settings.train.micro_batch_size)
    return _trained(
        ctx, "preference", part, parent, rows, settings.objective, settings.train, round=round,
        reference=scores, reference_id=reference.id if scores else None, length_rows=length_rows, callback=callback,
    )  # fmt: skip


def prompted(ctx: Context, examples: Sequence[Example], targets: Mapping[str, Sequence[Response]]) -> list[Prompted]:
    """A row for each style of each example's targets: the prompt that asks for it, and all of that style."""
    rows = []
    for example in examples:
        by_style: dict[str, list[str]] = {}
        for response in targets.get(example.id, ()):
            by_style.setdefault(response.style, []).append(response.text)
        rows += [Prompted(ctx.task.prompt(example.text, style), tuple(texts)) for style, texts in by_style.items()]
    return rows


def _reference_scores(
    ctx: Context,
    part: str,
    reference: Checkpoint,
    rows: Sequence[Prompted],
    ordered: Sequence[Sequence[Response]],
    micro_batch_size: int,
) -> Reference:
    """Log-probabilities of every row's responses under ``reference``; ``ordered`` are the responses behind the rows."""

    def score(numbers: Sequence[int]) -> Iterator[list[SequenceScore]]:
        student = ctx.students.load(reference)
        with bar(f"reference-{part}", len(numbers), "pairs") as step:
            for start in range(0, len(numbers), _SCORED):
                chunk = numbers[start : start + _SCORED]
                scored = score_rows(student, [rows[i] for i in chunk], micro_batch_size, step)
                yield [
                    SequenceScore(response_id=r.id, checkpoint_id=reference.id, total=float(total), tokens=int(tokens))
                    for i, totals, counts in zip(chunk, scored.total, scored.tokens, strict=True)
                    for r, total, tokens in zip(ordered[i], totals, counts, strict=False)
                ]

    parts = Parts.of(range(len(rows)), _SCORED, score)
    texts = [[r.id for r in responses] for responses in ordered]
    inputs = (reference.id, [row.prompt for row in rows], texts)
    scores = iter(ctx.cache.rows(StageKey("reference", part, inputs), SequenceScore, parts))
    width = max(map(len, ordered), default=0)
    total, tokens = torch.zeros(len(rows), width), torch.zeros(len(rows), width)
    for i, responses in enumerate(ordered):
        for j in range(len(responses)):
            stored = next(scores)
            total[i, j], tokens[i, j] = stored.total, stored.tokens
    return Reference(total, tokens)


def _trained(
    ctx: Context,
    stage: str,
    part: str,
    parent: Checkpoint | None,
    rows: Sequence[Prompted],
    objective: AnyObjective,
    settings: TrainSettings,
    *,
    round: int,
    validation: Sequence[Prompted] = (),
    reference: Reference | None = None,
    reference_id: str | None = None,
    length_rows: Sequence[Prompted] = (),
    callback: ValidationCallback | None = None,
) -> Trained:
    settings_hash = content_hash(ctx.students.identity, objective, settings, ctx.seed)
    data_hash = content_hash([[r.prompt, r.responses, r.ranks] for r in [*rows, *validation]], ctx.task.student_chat)
    watched = (callback.settings, callback.key) if callback else None
    lengths = [[r.prompt, r.responses] for r in length_rows] if isinstance(objective, BRIO) else None
    parent_id = parent.id if parent else None
    key = StageKey(stage, part, (settings_hash, data_hash, parent_id, reference_id, content_hash(lengths), watched))

    def logged(entry: Mapping[str, float]) -> None:
        values = {name: value for name, value in entry.items() if name != "step"}
        ctx.metrics.add(key.name, round, int(entry["step"]), values)

    def build(folder: Path) -> dict[str, Any]:
        student = ctx.students.to_train(parent)
        scaled = measured(
            objective, student, rows if isinstance(objective, KTO) else length_rows or rows
        )  # lambda is of the run, not of a round's pairs
        with bar(key.name, total_steps(len(rows), settings), "steps") as step:
            log = train(
                student, rows, scaled, settings, folder, seed=ctx.seed + round,
                reference=reference, validation=validation, callback=callback, step_done=step, logged=logged,
            )  # fmt: skip
        if ctx.cache.ranks.first:
            student.save(folder)
            write_atomic(folder / _LOG, "".join(json.dumps(entry) + "\n" for entry in log.steps))
        return {
            "rows": len(rows),
            "losses": [round_to(entry["loss"]) for entry in log.steps],
            "validation": [round_to(value) for value in log.validation],
            "mean_length": scaled.mean_length if isinstance(scaled, BRIO) else None,
            "readings": [asdict(point) for point in log.points],
        }

    folder, facts = ctx.cache.built(key, build, together=True)
    for line in read_lines(folder / _LOG):  # another run that shares the stage may have made it
        logged(json.loads(line))
    checkpoint = Checkpoint(
        path=folder.name,
        student=ctx.students.weights,
        objective=objective.kind,
        round=round,
        parent_id=parent_id,
        settings_hash=settings_hash,
        data_hash=data_hash,
        weights_hash=file_sha256(folder / WEIGHTS_FILE)[:16],
    )
    return Trained(key.name, checkpoint, TrainingFacts.model_validate(facts))


def round_to(value: float, digits: int = 5) -> float:
    """``value`` with so many digits behind the point: enough for a curve."""
    return round(value, digits)
