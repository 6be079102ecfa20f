"""Phase 2 from what is on file: verdicts on pairs, grades of single attempts, repairs. Nothing is sampled or asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from quipwright.core.errors import DataError
from quipwright.core.paths import resolve
from quipwright.core.progress import console
from quipwright.core.records import Checkpoint, Example, Ranking, Response
from quipwright.core.text import normalise
from quipwright.data.examples import Paths, as_paths
from quipwright.data.graded import GradedRow, RepairRow, read_graded, read_repairs
from quipwright.data.verdicts import VerdictRow, preferences, read_verdicts
from quipwright.pipeline.context import Context
from quipwright.pipeline.recipe import OfflineGrades, OfflinePreferences
from quipwright.pipeline.rounds import Basis, Ranked, Step, epoch_callback, learn_rankings
from quipwright.pipeline.runtime import Judge
from quipwright.pipeline.stages.train import train_labelled, train_sft
from quipwright.training.early_stopping import ValidationCallback
from quipwright.training.objectives import KTO, MLE
from quipwright.training.preference.graded import (
    Graded,
    Group,
    Preferred,
    graded_pairs,
    grouped,
    imitated,
    labelled,
    repaired,
)

STEP = "offline_preferences"
R = TypeVar("R", GradedRow, RepairRow)


def learn_offline(
    ctx: Context, basis: Basis, settings: OfflinePreferences | OfflineGrades, student: Checkpoint, critic: Judge | None
) -> Step:
    """The student learns from what readers said of attempts of earlier students, before it ever tries.

    Raises :class:`DataError` where the files have nothing usable on the recipe's training literals.
    """
    callback = epoch_callback(ctx, basis, 0, student, critic)
    if isinstance(settings, OfflineGrades):
        return _learn_from_grades(ctx, basis, settings, student, critic, callback)
    chosen = preferences(_verdicts(ctx, settings), settings.pairs, settings.strength, settings.grade, settings.teacher)
    pairs = [Preferred((literal, ""), *texts) for literal, pairs in chosen.items() for texts in pairs]
    ranked = _ranked(ctx, _training_literals(basis), pairs, critic)
    if not ranked.rankings:
        raise _nothing(settings.path, "verdict", f"Lower {STEP}.strength or grade.")
    trained = learn_rankings(ctx, basis, "offline", 0, settings.learn, student, student, ranked, callback)
    return Step(STEP, trained, ranked)


def check_files(ctx: Context, settings: OfflinePreferences | OfflineGrades, examples: Sequence[Example]) -> None:
    """Raises :class:`DataError` where a file cannot be read, or where none has a row on a training literal of
    ``examples`` and the step has nothing else to learn from."""
    literals = {normalise(example.text) for example in examples if example.split == "train"}
    if isinstance(settings, OfflineGrades):
        graded, repairs = _graded(ctx, settings)
        held = [row.literal for row in graded] + [row.literal for row in repairs]
    else:
        held = [row.literal for row in _verdicts(ctx, settings)]
    enough = isinstance(settings, OfflineGrades) and settings.teacher
    if not enough and not any(normalise(literal) in literals for literal in held):
        raise _nothing(settings.path, "row", "Name files on literals of data.path.")


def _verdicts(ctx: Context, settings: OfflinePreferences) -> list[VerdictRow]:
    files = [resolve(path, "Verdicts", ctx.recipe_dir) for path in as_paths(settings.path)]
    return [row for file in files for row in read_verdicts(file) if row.split == "train"]


def _graded(ctx: Context, settings: OfflineGrades) -> tuple[list[GradedRow], list[RepairRow]]:
    levels = ctx.task.grades
    graded = [resolve(path, "Grades", ctx.recipe_dir) for path in as_paths(settings.path)]
    repairs = [resolve(path, "Repairs", ctx.recipe_dir) for path in as_paths(settings.repairs)]
    return (
        [row for file in graded for row in read_graded(file, levels) if row.split == "train"],
        [row for file in repairs for row in read_repairs(file, levels) if row.split == "train"],
    )


@dataclass(frozen=True)
class _Bank:
    """What the files hold on the training ``literals``, which are by their normalised text."""

    literals: Mapping[str, Example]
    graded: list[GradedRow]
    repairs: list[RepairRow]


def _learn_from_grades(
    ctx: Context,
    basis: Basis,
    settings: OfflineGrades,
    student: Checkpoint,
    critic: Judge | None,
    callback: ValidationCallback | None,
) -> Step:
    bank, learn, examples = _bank(ctx, basis, settings), settings.learn, {e.id: e for e in basis.examples}
    ranked = Ranked({}, (), critic)
    if isinstance(learn.objective, MLE):
        targets = _targets(ctx, basis, settings, bank)
        _tell(f"{sum(map(len, targets.values()))} texts to imitate on {len(targets)} literals")
        trained = train_sft(ctx, "offline", student, learn, basis.examples, targets, callback=callback)
    elif isinstance(learn.objective, KTO):
        texts = _labelled(ctx, basis, settings, bank)
        _tell(f"{len(texts)} texts, {sum(good for _, good in texts)} of them desirable")
        trained = train_labelled(ctx, "offline", student, learn, examples, texts, callback=callback)
    else:
        ranked = _ranked(ctx, bank.literals, _pairs(ctx, basis, settings, bank), critic)
        if not ranked.rankings:
            raise _nothing(settings.path, "pair of a good attempt and a worse one", f"Lower {STEP}.pairs.length.")
        _tell(f"{len(ranked.rankings)} pairs on {len({r.example_id for r in ranked.rankings})} literals")
        trained = learn_rankings(ctx, basis, "offline", 0, learn, student, student, ranked, callback)
    return Step(STEP, trained, ranked)


def _pairs(ctx: Context, basis: Basis, settings: OfflineGrades, bank: _Bank) -> list[Preferred]:
    """Pairs of graded attempts within a style, then each repair over its attempt."""
    groups, rule, task = grouped(bank.graded), settings.pairs, ctx.task
    if settings.teacher:
        for group, texts in groups.items():
            texts += _taught(ctx, basis, settings, bank.literals[group[0]], group[1])
    length = task.length.minimum if rule.length is None else rule.length
    pairs = graded_pairs(groups, rule, least=settings.grade, levels=task.grades, length=length, seed=ctx.seed)
    return [*pairs, *repaired(bank.repairs)]


def _labelled(ctx: Context, basis: Basis, settings: OfflineGrades, bank: _Bank) -> list[tuple[Response, bool]]:
    """Each text, and whether it is desirable. A copy of its literal is not; ``copy_share`` of the good ones bring one."""
    groups = _texts(ctx, basis, settings, bank)
    texts = labelled(groups, settings.grade, settings.learn.copy_share, ctx.seed)
    if not any(good for _, _, good in texts):
        raise _nothing(settings.path, "good attempt", f"Lower {STEP}.grade.")
    return [(_response(ctx, bank.literals[group[0]], group[1], text), good) for group, text, good in texts]


def _targets(ctx: Context, basis: Basis, settings: OfflineGrades, bank: _Bank) -> dict[str, list[Response]]:
    """The good texts by example id."""
    good = imitated(_texts(ctx, basis, settings, bank), settings.grade, weighted=settings.weighted)
    if not good:
        raise _nothing(settings.path, "good attempt", f"Lower {STEP}.grade.")
    targets: dict[str, list[Response]] = {}
    for (literal, style), texts in good.items():
        example = bank.literals[literal]
        targets.setdefault(example.id, []).extend(_response(ctx, example, style, text) for text in texts)
    return targets


def _texts(ctx: Context, basis: Basis, settings: OfflineGrades, bank: _Bank) -> dict[Group, list[Graded]]:
    """All single texts with their grades: attempts, repairs, and the teacher's where ``settings`` want them."""
    groups = grouped(bank.graded)
    for row in bank.repairs:
        repair = Graded(row.repair, settings.grade, taught=True)
        groups.setdefault((normalise(row.literal), row.style), []).append(repair)
    if not ctx.task.styles:  # then the student is asked for none, and all of a literal's texts answer the same prompt
        joined: dict[Group, list[Graded]] = {}
        for (literal, _), texts in groups.items():
            joined.setdefault((literal, ""), []).extend(texts)
        groups = joined
    if settings.teacher:
        for literal, example in bank.literals.items():
            for style in ctx.task.styles or ("",):
                if taught := _taught(ctx, basis, settings, example, style):
                    groups.setdefault((literal, style), []).extend(taught)
    return groups


def _taught(ctx: Context, basis: Basis, settings: OfflineGrades, example: Example, style: str) -> list[Graded]:
    """The teacher's texts on ``example`` in ``style``, as texts of the best grade."""
    best = max(settings.grade, len(ctx.task.grades) - 1)
    texts = [r.text for r in basis.teacher.get(example.id, ()) if r.style == style or not ctx.task.styles]
    return [Graded(text, best, taught=True) for text in texts]


def _bank(ctx: Context, basis: Basis, settings: OfflineGrades) -> _Bank:
    """The rows of the files that may be learnt from; one without a style has the task's default."""
    literals, usual = _training_literals(basis), ctx.task.style_named()
    known = set(settings.styles or ctx.task.styles)

    def usable(rows: Iterable[R]) -> list[R]:
        styled = (row if row.style else row.model_copy(update={"style": usual}) for row in rows)
        return [row for row in styled if normalise(row.literal) in literals and (not known or row.style in known)]

    graded, repairs = _graded(ctx, settings)
    return _Bank(literals, usable(graded), usable(repairs))


def _training_literals(basis: Basis) -> dict[str, Example]:
    return {normalise(e.text): e for e in basis.examples if e.split == "train"}


def _ranked(ctx: Context, literals: Mapping[str, Example], pairs: Sequence[Preferred], critic: Judge | None) -> Ranked:
    """``pairs`` on the training ``literals`` as rankings, in the order of the literals: that of files changes nothing."""
    responses: dict[str, Response] = {}
    rankings = []
    place = {literal: number for number, literal in enumerate(literals)}
    for pair in sorted((p for p in pairs if p.group[0] in place), key=lambda p: place[p.group[0]]):
        literal, style = pair.group
        example = literals[literal]
        texts = [_response(ctx, example, style, text) for text in (pair.winner, pair.loser)]
        responses |= {r.id: r for r in texts}
        rankings.append(Ranking(example_id=example.id, best_first=(texts[0].id, texts[1].id), strength=1.0))
    return Ranked(responses, rankings, critic)


def _response(ctx: Context, example: Example, style: str, text: str) -> Response:
    named = style if style in ctx.task.styles else ctx.task.style_named()
    return Response(example_id=example.id, text=text, author="recorded:verdicts", style=named)


def _tell(line: str) -> None:
    console.print(f"{STEP}: {line}.", markup=False, highlight=False)


def _nothing(path: Paths, what: str, remedy: str) -> DataError:
    return DataError(f"{', '.join(as_paths(path))}: no usable {what} on the training literals.", remedy)
