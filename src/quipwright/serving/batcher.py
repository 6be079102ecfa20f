"""Concurrent requests to one student, answered in batches by one thread: a batch of eight costs little more than one."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from quipwright.core.errors import QuipwrightError
from quipwright.core.records import Sampling
from quipwright.students.base import Generated

T = TypeVar("T")
Generate = Callable[..., list[list[Generated]]]


class BusyError(Exception):
    """More requests wait than the limit allows."""


@dataclass(frozen=True)
class Ask:
    """``k`` texts for one prompt. ``seed`` unset: any draw will do, so that the request may share a batch.

    ``on_token`` is told the text so far, on the loop's thread and before the answer is there, where the student can.
    """

    prompt: str
    sampling: Sampling
    k: int
    seed: int | None = None
    on_token: Callable[[str], None] | None = field(default=None, compare=False)


class Batcher:
    """Collects what arrives within ``wait`` seconds, up to ``rows`` prompts, and generates requests of like settings
    together. At most ``waiting`` requests queue; a request with a seed of its own is drawn alone, so that its text does
    not depend on its neighbours."""

    def __init__(self, generate: Generate, *, rows: int = 16, waiting: int = 64, wait: float = 0.01) -> None:
        """``generate`` as in the ``Student`` protocol; it is only ever called from one thread."""
        self.generate, self.rows, self.waiting, self.wait = generate, rows, waiting, wait
        self.batches: list[int] = []  # sizes of the latest batches, for those who watch
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._queue: asyncio.Queue[tuple[Ask, asyncio.Future[list[Generated]]]] = asyncio.Queue()

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
            while len(waiting) < self.rows and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            groups: dict[Any, list[tuple[Ask, asyncio.Future[list[Generated]]]]] = {}
            for place, (ask, answer) in enumerate(waiting):
                if not answer.done():  # the client may have gone
                    own = place if ask.seed is not None and ask.sampling.temperature > 0 else None
                    groups.setdefault((ask.sampling, ask.k, own), []).append((ask, answer))
            for group in groups.values():
                await self._answer(group)

    async def _answer(self, group: list[tuple[Ask, asyncio.Future[list[Generated]]]]) -> None:
        asks = [ask for ask, _ in group]
        seed = asks[0].seed if asks[0].seed is not None else random.getrandbits(31)
        sampling = asks[0].sampling.model_copy(update={"seed": seed})
        loop = asyncio.get_running_loop()

        def on_token(row: int, text: str) -> None:
            if (listener := asks[row].on_token) is not None:
                loop.call_soon_threadsafe(listener, text)

        more = {"on_token": on_token} if any(ask.on_token for ask in asks) else {}
        try:
            texts = await self.run(lambda: self.generate([ask.prompt for ask in asks], sampling, asks[0].k, **more))
        except QuipwrightError as error:
            if len(group) == 1:
                _settle(group[0][1], error=error)
                return
            for one in group:  # one prompt that does not fit must not fail its neighbours
                await self._answer([one])
            return
        except Exception as error:
            for _, answer in group:
                _settle(answer, error=error)
            return
        self.batches = [*self.batches[-99:], len(group)]
        for (_, answer), own in zip(group, texts, strict=True):
            _settle(answer, own)


def _settle(
    answer: asyncio.Future[list[Generated]], value: list[Generated] | None = None, error: Exception | None = None
) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(value or [])
