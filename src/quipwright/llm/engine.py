"""The asking loop of a run: every answer is stored before its slot is free, whatever happens to the others.

It runs in a thread of its own from the first question until the run's calls are closed. Several threads may ask at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from quipwright.core.errors import QuipwrightError
from quipwright.llm.call_rows import Failed, Stored
from quipwright.llm.call_store import CallStore

T = TypeVar("T")
S = TypeVar("S", bound="Resource")
_BACKLOG = 4096  # answers that wait for the disk before no more are asked for


class Resource(Protocol):
    """What lives in the loop as long as the run: the servers of a model."""

    def saved(self) -> None:
        """Answers came to the disk: there is room for more."""

    async def close(self) -> None:
        """The run ends."""


class Engine:
    """The loop, its thread, and the one writer of the store."""

    def __init__(self, store: CallStore) -> None:
        """Costs nothing until it is first used."""
        self.store = store
        self._resources: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._unsaved: list[Stored | Failed] = []
        self._saver: asyncio.Task[None] | None = None
        self._fault: QuipwrightError | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="calls")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def resource(self, name: str, make: Callable[[], S]) -> S:
        """What is known as ``name``, made when first asked for and closed with the run."""
        with self._lock:
            if name not in self._resources:
                self._resources[name] = make()
            kept: S = self._resources[name]
            return kept

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work`` in the loop, waited for in the calling thread. Where the wait is interrupted (Ctrl-C),
        the work is cancelled and cleans up first."""
        loop, done, tasks = self._running(), Future[T](), list[asyncio.Task[T]]()

        def start() -> None:
            tasks.append(loop.create_task(work))
            tasks[0].add_done_callback(lambda task: _pass_on(task, done))

        loop.call_soon_threadsafe(start)
        try:
            return done.result()
        except BaseException:
            if not done.done():
                loop.call_soon_threadsafe(lambda: tasks[0].cancel())
                wait([done])
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        """The loop, started when it is first needed."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="calls-loop", daemon=True)
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """Cancel what is under way, store what came, and end the thread."""
        if self._loop is not None and self._thread is not None:
            try:
                self.run(self._end())
            finally:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()
        self._writer.shutdown()

    async def _end(self) -> None:
        under_way = [task for task in asyncio.all_tasks() if task not in (asyncio.current_task(), self._saver)]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        with suppress(QuipwrightError):
            await self.saved()
        for resource in self._resources.values():
            await resource.close()

    def room(self) -> bool:
        """Whether answers can be kept: false while too many wait for the disk. Raises :class:`DiskError` where they could
        not be written."""
        if self._fault is not None:
            raise self._fault
        return len(self._unsaved) < _BACKLOG

    def keep(self, row: Stored | Failed) -> None:
        """Kill-safe and counted now, on the disk with the next commit. Raises :class:`DiskError`."""
        self._unsaved.append(row)
        if self._saver is None or self._saver.done():
            self._saver = asyncio.ensure_future(self._save())
            self._saver.add_done_callback(lambda saver: saver.cancelled() or saver.exception())
        if isinstance(row, Stored):
            self.store.add(row, counted=True)
            self.store.hand_over(row)

    async def saved(self) -> None:
        """Return when all that was kept is on the disk. Raises :class:`DiskError` where it cannot be."""
        if self._unsaved and (self._saver is None or self._saver.done()):
            self._saver = asyncio.ensure_future(self._save())
        if self._saver is not None:
            await asyncio.shield(self._saver)

    async def _save(self) -> None:
        while rows := self._unsaved:
            self._unsaved = []
            committed = self.store.tail.swap()
            answers, failures = [r for r in rows if isinstance(r, Stored)], [r for r in rows if isinstance(r, Failed)]
            try:
                await asyncio.get_running_loop().run_in_executor(self._writer, self.store.put, answers, failures)
            except QuipwrightError as error:
                self._unsaved, self._fault = rows + self._unsaved, error  # still in the tail: the next run has them
                raise
            self._fault = None
            committed()
            self.store.ledger.failures += sum(failed.given_up for failed in failures)
            for resource in self._resources.values():
                resource.saved()


def _pass_on(task: asyncio.Task[T], done: Future[T]) -> None:
    if task.cancelled():
        done.set_exception(CancelledError("the calls were closed before an answer came"))
    elif (error := task.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(task.result())
