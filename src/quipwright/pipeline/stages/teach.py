"""Literals -> the teacher's responses (Ravi et al. 2024 sec. 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from quipwright.core.errors import TeacherError
from quipwright.core.paths import resolve
from quipwright.core.progress import bar, console
from quipwright.core.records import Example, Response, ids_hash
from quipwright.core.settings import identity_of
from quipwright.core.storage.files import file_sha256
from quipwright.core.storage.stage_cache import StageKey
from quipwright.data.recorded_teacher import RecordedTeacher
from quipwright.data.teacher import ModelTeacher, Yield
from quipwright.llm.request_batching import CHUNK, asked_at_once, chunks, some_answered, why_unanswered
from quipwright.pipeline.context import Context


@dataclass(frozen=True)
class TeacherOutput:
    """The usable responses by example id. ``rows``: all that came, with the reasons of those that cannot be used.
    ``counts``: what became of a live teacher's literals (``None`` for a recording)."""

    responses: Mapping[str, Sequence[Response]]
    rows: Sequence[Response]
    counts: Yield | None = None


def teach(ctx: Context, teacher: RecordedTeacher | ModelTeacher, examples: Sequence[Example]) -> TeacherOutput:
    """The teacher's responses to ``examples`` of every split.

    Raises :class:`TeacherError` where a live teacher gave no usable response at all, or a recording lacks a literal.
    """
    return _ask(ctx, teacher, examples) if isinstance(teacher, ModelTeacher) else _read(ctx, teacher, examples)


def _read(ctx: Context, teacher: RecordedTeacher, examples: Sequence[Example]) -> TeacherOutput:
    def read(start: int) -> Iterator[list[Response]]:
        recording = teacher.open(ctx.recipe_dir)
        author = f"teacher:{teacher.name}"
        for example in examples[start:]:
            texts = recording.require(example.text)
            yield [Response(example_id=example.id, text=text, author=author) for text in texts]

    path = resolve(teacher.path, "Recorded teacher", ctx.recipe_dir)
    content = file_sha256(path) if path.is_file() else ""
    rows = ctx.cache.rows(StageKey("teach", "", (teacher, content, ids_hash(examples))), Response, read)
    return TeacherOutput(by_example(rows), rows)


def _ask(ctx: Context, settings: ModelTeacher, examples: Sequence[Example]) -> TeacherOutput:
    def ask(start: int) -> Iterator[list[Response]]:
        teacher = settings.build(ctx.calls.opened, ctx.task)

        def answers(part: Sequence[Example]) -> list[Response]:
            taught = teacher.teach(part)
            return [*taught.responses, *taught.drops]

        ctx.calls.note_capabilities()
        with bar("teach", len(examples), "literals", done=CHUNK * start) as step:
            yield from chunks(
                examples, start, answers, lambda e: e.id, lambda r: r.example_id, step, asked_at_once(settings)
            )

    def tell(rows: Sequence[Response]) -> None:
        line = f"Teacher: {Yield.of(len(examples), rows).line()}."
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    inputs = (identity_of(settings), ctx.task.teacher, ctx.task.refusals, ids_hash(examples))
    rows = ctx.cache.rows(StageKey("teach", "", inputs), Response, ask, check=some_answered, done=tell)
    responses = by_example([row for row in rows if row.usable])
    if not responses:
        raise TeacherError(
            f"None of {len(examples)} literals got a usable paraphrase: {Yield.of(len(examples), rows).line()}.",
            "Read the reasons in stages/teach-*.",
        )
    return TeacherOutput(responses, rows, Yield.of(len(examples), rows))


def by_example(responses: Sequence[Response]) -> dict[str, list[Response]]:
    """Responses by example id, in order."""
    grouped: dict[str, list[Response]] = {}
    for response in responses:
        grouped.setdefault(response.example_id, []).append(response)
    return grouped


def unanswered(rows: Sequence[Response]) -> int:
    """How many of ``rows`` no model answered."""
    return sum(bool(why_unanswered(row)) for row in rows)
