"""Pairs -> judgments, in both orders where the critic is shown an order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from quipwright.core.progress import bar
from quipwright.core.records import Comparison, Judgment
from quipwright.core.storage.shares import Parts
from quipwright.core.storage.stage_cache import StageKey
from quipwright.critics.base import Critic
from quipwright.critics.copy_filter import CopyFilter
from quipwright.llm.request_batching import CHUNK, chunks, some_answered
from quipwright.pipeline.context import Context
from quipwright.pipeline.runtime import Judge


def judge(
    ctx: Context, part: str, judge: Judge, comparisons: Sequence[Comparison], *, copies_lose: bool, stage: str = "judge"
) -> list[Judgment]:
    """What ``judge`` says of ``comparisons``; with ``copies_lose`` a copy of the literal loses without a question.

    Raises :class:`~quipwright.core.errors.QuipwrightError` where no question at all was answered.
    """

    def read(part: Sequence[Comparison]) -> Iterator[list[Judgment]]:
        if not part:
            return
        opened = judge.critic
        critic: Critic = CopyFilter(opened) if copies_lose else opened
        ctx.calls.note_capabilities()
        with bar(key.name, len(comparisons), "pairs", done=len(comparisons) - len(part)) as step:
            yield from chunks(part, 0, critic.judge, lambda c: c.pair.id, lambda j: j.pair_id, step, judge.window)

    asked = [[c.pair.id, c.literal, c.a, c.b] for c in comparisons]
    key = StageKey(stage, part, (judge.key, copies_lose, asked))
    parts = Parts.of(comparisons, CHUNK, read)
    made = parts if judge.local else parts.__call__  # a model's answers are asked for by one process
    return ctx.cache.rows(key, Judgment, made, check=some_answered)
