"""Literals -> the teacher's responses (Ravi et al. 2024 sec. 3.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from quipwright.core.errors import TeacherError
from quipwright.core.progress import bar, console
from quipwright.core.records import Example, Response, ids_hash
from quipwright.core.settings import identity_of
from quipwright.core.storage.stage_cache import StageKey
from quipwright.core.text_files import input_sha256
from quipwright.data.care.screening import screened, screening_identity, tell_screened
from quipwright.data.recorded_teacher import RecordedTeacher
from quipwright.data.teacher import ModelTeacher, Yield
from quipwright.llm.request_batching import CHUNK, asked_at_once, chunks, some_answered, why_unanswered
from quipwright.pipeline.context import Context


@dataclass(frozen=True)
class TeacherOutput:
    """The usable responses by example id, those of the default style first, to ``asked`` literals.

    ``rows``: all that came, with the reasons of those that cannot be used. ``counts``: what became of a live teacher's
    literals (``None`` for a recording)."""

    responses: Mapping[str, Sequence[Response]]
    rows: Sequence[Response]
    asked: int
    counts: Yield | None = None


def teach(ctx: Context, teacher: RecordedTeacher | ModelTeacher, examples: Sequence[Example]) -> TeacherOutput:
    """The teacher's responses to ``examples`` of every split.

    Raises :class:`TeacherError` where a live teacher gave no usable response at all, or a recording lacks a literal or the
    styles that are wanted.
    """
    return _ask(ctx, teacher, examples) if isinstance(teacher, ModelTeacher) else _read(ctx, teacher, examples)


def _read(ctx: Context, teacher: RecordedTeacher, examples: Sequence[Example]) -> TeacherOutput:
    def read(start: int) -> Iterator[list[Response]]:
        recording = teacher.open(ctx.recipe_dir)
        author = f"teacher:{teacher.name}"
        left_out = Counter(style for e in examples for style in recording.other_styles(e.text, ctx.task))
        for style, count in left_out.items():
            told = f"Left out: {count} texts of the recorded teacher (style {style})."
            console.print(told, markup=False, highlight=False)
        for begin in range(CHUNK * start, len(examples), CHUNK):
            part = examples[begin : begin + CHUNK]
            rows = [
                Response(example_id=example.id, text=t.text, author=author, style=t.style)
                for example in part
                for t in recording.require(example.text, ctx.task)
            ]
            yield screened(rows, {e.id: e.text for e in part}, ctx.task)

    content = [input_sha256(path, "Recorded teacher") for path in teacher.files(ctx.recipe_dir)]
    styles = [*ctx.task.styles], ctx.task.style_named()
    inputs = teacher, content, styles, ids_hash(examples), screening_identity(ctx.task)
    rows = ctx.cache.rows(StageKey("teach", "", inputs), Response, read, done=tell_screened)
    if not rows:
        raise TeacherError(
            f"The recorded teacher has no text of {' or '.join(ctx.task.styles)} for any literal.",
            "Name styles that it has: styles in the recipe.",
        )
    usable = by_example([row for row in rows if row.usable])
    return TeacherOutput(_style_first(usable, ctx.task.style_named()), rows, len(examples))


def _ask(ctx: Context, settings: ModelTeacher, examples: Sequence[Example]) -> TeacherOutput:
    def ask(start: int) -> Iterator[list[Response]]:
        teacher = settings.build(ctx.calls.opened, ctx.task)

        def answers(part: Sequence[Example]) -> list[Response]:
            taught = teacher.teach(part)
            rows = [*taught.responses, *taught.drops]
            return screened(rows, {e.id: e.text for e in part}, ctx.task)

        ctx.calls.note_capabilities()
        with bar("teach", len(examples), "literals", done=CHUNK * start) as step:
            yield from chunks(
                examples, start, answers, lambda e: e.id, lambda r: r.example_id, step, asked_at_once(settings)
            )

    def tell(rows: Sequence[Response]) -> None:
        line = f"Teacher: {Yield.of(len(examples), rows).line()}."
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    asked = [[name, style.teacher] for name, style in ctx.task.styles.items()]
    content = settings.model.content(ctx.recipe_dir)
    inputs = (
        identity_of(settings),
        content,
        ctx.task.teacher,
        asked,
        ctx.task.refusals,
        ids_hash(examples),
        screening_identity(ctx.task),
    )
    rows = ctx.cache.rows(StageKey("teach", "", inputs), Response, ask, check=some_answered, done=tell)
    responses = by_example([row for row in rows if row.usable])
    if not responses:
        raise TeacherError(
            f"None of {len(examples)} literals got a usable paraphrase: {Yield.of(len(examples), rows).line()}.",
            "Read the reasons in stages/teach-*.",
        )
    count = len(examples)
    return TeacherOutput(_style_first(responses, ctx.task.style_named()), rows, count, Yield.of(count, rows))


def by_example(responses: Sequence[Response]) -> dict[str, list[Response]]:
    """Responses by example id, in order."""
    grouped: dict[str, list[Response]] = {}
    for response in responses:
        grouped.setdefault(response.example_id, []).append(response)
    return grouped


def of_style(responses: Mapping[str, Sequence[Response]], style: str) -> dict[str, list[Response]]:
    """Those of ``responses`` (by example id) that are of ``style``; examples that have none are left out."""
    kept = {example_id: [r for r in texts if r.style == style] for example_id, texts in responses.items()}
    return {example_id: texts for example_id, texts in kept.items() if texts}


def _style_first(responses: Mapping[str, Sequence[Response]], style: str) -> dict[str, list[Response]]:
    return {example_id: sorted(texts, key=lambda r: r.style != style) for example_id, texts in responses.items()}


def unanswered(rows: Sequence[Response]) -> int:
    """How many of ``rows`` no model answered."""
    return sum(bool(why_unanswered(row)) for row in rows)
