"""Concurrent requests to one student, answered in batches by one thread: a batch of eight costs little more than one."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from quipwright.core.errors import QuipwrightError
from quipwright.core.records import Sampling
from quipwright.students.base import Generated

T = TypeVar("T")
Write = Callable[..., Iterator[tuple[int, list[Generated]]]]
Waiting = tuple["Ask", "asyncio.Future[list[Generated]]"]


class BusyError(Exception):
    """More requests wait than the limit allows."""


@dataclass(frozen=True)
class Ask:
    """``k`` texts for one prompt. ``seed`` unset: any draw will do.

    ``on_token`` is told the text so far, on the loop's thread and before the answer is there, where the student can.
    """

    prompt: str
    sampling: Sampling
    k: int
    seed: int | None = None
    on_token: Callable[[str], None] | None = field(default=None, compare=False)


class Batcher:
    """Collects what arrives within ``wait`` seconds, and what came while others were answered, and hands requests of like
    settings and seeds to the student together; each is answered as soon as its own texts are written. At most ``waiting``
    requests queue."""

    def __init__(self, write: Write, *, waiting: int = 64, wait: float = 0.01) -> None:
        """``write`` as in the ``Student`` protocol; it is only ever called from one thread."""
        self.write, self.waiting, self.wait = write, waiting, wait
        self.batches: list[int] = []  # sizes of the latest batches, for those who watch
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The worker, for the life of the application."""
        worker = asyncio.create_task(self._work())
        try:
            yield
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker
            self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return self._queue.qsize()

    async def ask(self, ask: Ask) -> list[Generated]:
        """The texts. Raises :class:`BusyError` at once when the queue is full, or what the student raises."""
        if self._queue.qsize() >= self.waiting:
            raise BusyError
        answer: asyncio.Future[list[Generated]] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((ask, answer))
        return await answer

    async def run(self, work: Callable[[], T]) -> T:
        """``work`` on the student's thread: whatever else computes must not compete with it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _work(self) -> None:
        while True:
            waiting = [await self._queue.get()]
            await asyncio.sleep(self.wait)
            while not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            groups: dict[Any, list[Waiting]] = {}
            repeats = Counter[tuple[Any, ...]]()
            for ask, answer in waiting:
                if answer.done():  # the client has gone
                    continue
                drawn = ask.sampling.temperature > 0
                like = (ask.sampling, ask.k, ask.seed if drawn else None)
                repeat = 0
                if drawn and ask.seed is None:  # within a group equal prompts get equal texts
                    repeat = repeats[ask.prompt, *like]
                    repeats[ask.prompt, *like] += 1
                groups.setdefault((*like, repeat), []).append((ask, answer))
            for group in groups.values():
                await self._answer(group)

    async def _answer(self, group: list[Waiting]) -> None:
        asks = [ask for ask, _ in group]
        seed = asks[0].seed if asks[0].seed is not None else random.getrandbits(31)
        sampling = asks[0].sampling.model_copy(update={"seed": seed})
        loop = asyncio.get_running_loop()

        def on_token(row: int, text: str) -> None:
            if (listener := asks[row].on_token) is not None:
                loop.call_soon_threadsafe(listener, text)

        more = {"on_token": on_token} if any(ask.on_token for ask in asks) else {}

        def write() -> None:
            for row, texts in self.write([ask.prompt for ask in asks], sampling, asks[0].k, **more):
                loop.call_soon_threadsafe(_settle, group[row][1], texts)

        self.batches = [*self.batches[-99:], len(group)]
        try:
            await self.run(write)
        except QuipwrightError as error:
            if len(group) == 1:
                _settle(group[0][1], error=error)
                return
            for one in group:  # one prompt that does not fit must not fail its neighbours
                if not one[1].done():
                    await self._answer([one])
            return
        except Exception as error:
            for _, answer in group:
                _settle(answer, error=error)
            return


def _settle(
    answer: asyncio.Future[list[Generated]], value: list[Generated] | None = None, error: Exception | None = None
) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(value or [])
