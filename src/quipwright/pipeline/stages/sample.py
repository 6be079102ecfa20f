"""A student writes: k candidates to compare, one decoded answer, or the untrained weights' zero-shot answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from quipwright.core.records import Checkpoint, Example, Response, ids_hash
from quipwright.core.storage.stage_cache import StageKey
from quipwright.data.care.screening import screened, screening_identity, tell_screened
from quipwright.data.task import fill
from quipwright.pipeline.context import Context
from quipwright.pipeline.stages.teach import by_example
from quipwright.students.base import Student
from quipwright.training.preference.candidates import AnyCandidates, DecodeSettings, round_seed, sampled

Responses = dict[str, list[Response]]
"""Responses by example id."""


def sample(
    ctx: Context,
    stage: str,
    part: str,
    student: Checkpoint,
    examples: Sequence[Example],
    settings: AnyCandidates | DecodeSettings,
    *,
    round: int = 1,
) -> Responses:
    """The student's k attempts at each of ``examples`` (or its one decoded answer) in the task's default style, by example
    id; each ``round`` draws fresh numbers.

    ``stage`` is ``sample``, ``decode``, ``best_of`` or ``validate``.
    """
    seed = round_seed(ctx.seed, round)
    learnt_from = stage == "sample"
    inputs = student.id, settings, seed, ctx.task.prompt_in(), ids_hash(examples)
    key = StageKey(stage, part, (*inputs, screening_identity(ctx.task)) if learnt_from else inputs)
    author = f"student:{student.id}"
    return _written(
        ctx, key, lambda: ctx.students.load(student), author, ctx.task.prompt, examples, settings, seed,
        ctx.task.style_named(), learnt_from,
    )  # fmt: skip


def zero_shot(ctx: Context, part: str, examples: Sequence[Example], settings: DecodeSettings) -> Responses:
    """The untrained weights' answers to the task's zero-shot request."""

    def prompt(literal: str) -> str:
        text = fill(ctx.task.zero_shot, literal=literal)
        tokenizer = ctx.students.untrained().tokenizer
        if ctx.task.student_chat:
            return text  # the student wraps it itself
        if not tokenizer.chat_template:
            return text + "\n"
        turns = [{"role": "user", "content": text}]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    key = StageKey("decode", part, (ctx.students.identity, settings, ctx.task.zero_shot, ids_hash(examples)))
    return _written(ctx, key, ctx.students.untrained, "student:base", prompt, examples, settings, ctx.seed)


def _written(
    ctx: Context,
    key: StageKey,
    student: Callable[[], Student],
    author: str,
    prompt: Callable[[str], str],
    examples: Sequence[Example],
    settings: AnyCandidates | DecodeSettings,
    seed: int,
    style: str = "",
    learnt_from: bool = False,
) -> Responses:
    def opened() -> Student:
        writer = student()
        ctx.students.note_decoding(writer)
        return writer

    written = sampled(opened, author, prompt, examples, settings, seed, key.name, style)
    if not learnt_from:
        return by_example(ctx.cache.rows(key, Response, written))
    literals = {e.id: e.text for e in examples}

    def make(numbers: Sequence[int]) -> Iterator[Sequence[Response]]:
        return (screened(rows, literals, ctx.task) for rows in written.make(numbers))

    return by_example(ctx.cache.rows(key, Response, replace(written, make=make), done=tell_screened))
