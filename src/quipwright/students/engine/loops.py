"""The loop that all ways of decoding share: prompts join, every row gets a token, what has ended leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from quipwright.core.progress import console
from quipwright.students.engine.pool import Pool, Prompt, Row, batches

Texts = tuple[int, list[list[int]]]


@runtime_checkable
class Decoding(Protocol):
    """A way of decoding: what to do with logits."""

    lanes: int

    def begin(self, prompts: Sequence[Prompt], logits: Tensor) -> None:
        """Give ``prompts`` their rows and each row its first token, from logits ``prompts x vocabulary``."""

    def advance(self, rows: Sequence[Row], logits: Tensor) -> list[tuple[Row, Row]]:
        """Give each row its next token; the rows (from, to) whose own columns must be copied, new rows included."""


def run(
    open_pool: Callable[[int], Pool], decoding: Decoding, prompts: Sequence[Sequence[int]], places: int
) -> Iterator[Texts]:
    """The texts of each prompt, as prompts end. ``open_pool`` takes a number of rows: ``places``, fewer where memory
    runs out, and then prompts that were under way begin anew."""
    queue = [Prompt(i, ids) for i, ids in enumerate(prompts)]
    queue.sort(key=lambda prompt: -len(prompt.ids))
    while queue:
        try:
            for prompt in _pass(open_pool(places), decoding, queue):
                yield prompt.number, prompt.texts
                queue.remove(prompt)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as problem:
            if places <= decoding.lanes or not _is_memory(problem):
                raise
            places = max(decoding.lanes, places // 2)
            console.print(f"Out of memory: {len(queue)} unfinished prompts begin anew, {places} texts at a time.")
            for prompt in queue:
                prompt.rows, prompt.texts, prompt.state = [], [], None


def _is_memory(problem: Exception) -> bool:
    return (
        not isinstance(problem, RuntimeError) or isinstance(problem, torch.OutOfMemoryError) or "memory" in str(problem)
    )


def _pass(pool: Pool, decoding: Decoding, prompts: Sequence[Prompt]) -> Iterator[Prompt]:
    waiting = list(prompts)
    while waiting or pool.rows:
        room = pool.room()
        joining, waiting = waiting[:room], waiting[room:]
        yield from _advance(pool, decoding, joining)


@torch.inference_mode()
def _advance(pool: Pool, decoding: Decoding, joining: Sequence[Prompt]) -> list[Prompt]:
    """Let ``joining`` in, then one step of every row; the prompts that ended."""
    if joining:
        groups = batches(joining)
        for group in groups:
            decoding.begin(group, pool.read(group))
        pool.enter(groups)
    ended = [prompt for prompt in joining if all(row.done for row in prompt.rows)]
    if pool.rows:
        logits = pool.step()
        pool.copy(decoding.advance(pool.rows, logits))
        touched = {id(row.prompt): row.prompt for row in pool.rows if row.done}
        ended += [prompt for prompt in touched.values() if all(row.done for row in prompt.rows)]
        if touched:
            pool.leave()
    return ended
