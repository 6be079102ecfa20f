"""Sends many requests at once: every answer is stored before its slot is free, whatever happens to the others."""

from __future__ import annotations

import asyncio
import heapq
import json
import math
import random
import time
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Protocol, TypeVar

import httpx2

from quipwright.core.errors import DiskError, ModelError, QuipwrightError
from quipwright.llm.call_store import UNFINISHED, CallStore, Failed, Stored
from quipwright.llm.costs import Budget, check_budget
from quipwright.llm.http_outcome import Answered, Outcome, judge_error, judge_response
from quipwright.llm.retry import Endpoint, Retry

T = TypeVar("T")
_BACKLOG = 8  # answers waiting for the disk, in units of requests under way, before no more are asked for
_REFUSALS = 16  # refused for good before a single answer: it is the settings, not the questions
_PER_CLIENT = 8  # a client looks through all of its connections at every request


@dataclass
class Job:
    """One request on its way. ``bound`` is the most it may cost (``None``: unknown); ``body`` is the JSON to send.

    ``excused``: how many of its ``attempts`` a server ended that no request should go to.
    """

    key: str
    model: str
    request: dict[str, Any]
    body: dict[str, Any]
    bound: float | None = None
    attempts: int = 0
    excused: int = 0
    charged: float = 0.0
    began: float | None = None


class Wire(Protocol):
    """How one API is spoken."""

    @property
    def path(self) -> str:
        """What follows the base URL."""

    def headers(self) -> dict[str, str]:
        """Headers of every request, the key's among them."""

    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""

    def read(self, payload: Any) -> Answered:
        """The answer in a reply's JSON. Raises ``ValueError`` naming what is missing from it."""


@dataclass
class _Client:
    http: httpx2.AsyncClient
    busy: int = 0


@dataclass
class Engine:
    """One batch of jobs against a pool of servers. ``cost`` prices an answer from its token counts."""

    store: CallStore
    wire: Wire
    lanes: list[Endpoint]
    retry: Retry
    ceiling: int
    budget: Budget
    cost: Callable[[int | None, int | None], float | None]
    done: dict[str, Stored | Failed] = field(default_factory=dict)
    _ready: deque[Job] = field(default_factory=deque)
    _later: list[tuple[float, int, Job]] = field(default_factory=list)
    _tasks: dict[asyncio.Task[None], Job] = field(default_factory=dict)
    _unsaved: list[Stored | Failed] = field(default_factory=list)
    _saving: int = 0
    _refused: int = 0
    _refused_before: frozenset[str] = frozenset()
    _answered: bool = False
    _stop: QuipwrightError | None = None
    _luck: random.Random = field(default_factory=random.Random)

    async def run(self, jobs: Sequence[Job]) -> dict[str, Stored | Failed]:
        """Answer all ``jobs``. Raises what stops everything (budget, key, disk, no server) after storing what came."""
        self._ready.extend(jobs)
        self._refused_before = frozenset(failed.key for failed in self.store.failures())
        self._wake = asyncio.Event()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="calls")
        self._saver: asyncio.Future[None] | None = None
        try:
            async with AsyncExitStack() as stack:
                clients = _clients(self.ceiling, self.retry, self.lanes)
                self._clients = [_Client(await stack.enter_async_context(client)) for client in clients]
                # Merged once, not with every request.
                self._headers = httpx2.Headers({**clients[0].headers, **self.wire.headers()})
                self._extensions = {"timeout": clients[0].timeout.as_dict()}
                try:
                    await self._loop()
                finally:
                    self._break_off()
        finally:
            self._writer.shutdown(wait=True)
            if self._unsaved and not isinstance(self._stop, OSError):
                self.store.put(*_split(self._unsaved))
                self._unsaved.clear()
                self.store.tail.clear()
        if self._stop is not None:
            raise self._stop
        return self.done

    def _break_off(self) -> None:
        """Cancel what is under way, and put down what the jobs that are left were tried and may have cost: a cap that
        forgot it would be spent again by the next run."""
        under_way = {task: job for task, job in self._tasks.items() if not task.done()}
        for task, job in under_way.items():
            task.cancel()
            self._charge(job)
        left = [*self._ready, *(job for _, _, job in self._later), *under_way.values()]
        self._unsaved += [Failed(j.key, j.model, UNFINISHED, None, j.attempts, j.charged) for j in left if j.attempts]

    async def _loop(self) -> None:
        while self._ready or self._later or self._tasks or self._unsaved or self._saving:
            self._wake.clear()
            self._launch()
            if self._unsaved and not self._saving and not isinstance(self._stop, DiskError):
                self._saver = asyncio.ensure_future(self._save())
            if self._stop is not None and not (self._tasks or self._saving):
                return
            try:
                async with asyncio.timeout(self._until_next()):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _launch(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._ready.appendleft(heapq.heappop(self._later)[2])
        while self._ready and self._stop is None:
            if len(self._tasks) >= self.ceiling or len(self._unsaved) >= _BACKLOG * self.ceiling:
                return
            lane = min((one for one in self.lanes if one.free(now)), key=lambda one: one.load, default=None)
            if lane is None:
                return
            try:
                check_budget(self.budget, self.store.ledger)
            except QuipwrightError as error:
                self._stop = error
                return
            self._start(self._ready.popleft(), lane, now)

    def _start(self, job: Job, lane: Endpoint, now: float) -> None:
        job.began = now if job.began is None else job.began
        job.attempts += 1
        self.store.ledger.attempts += 1
        lane.in_flight += 1
        task = asyncio.ensure_future(self._attempt(job, lane, now))
        self._tasks[task] = job
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._wake.set()

    async def _attempt(self, job: Job, lane: Endpoint, sent: float) -> None:
        left = self.retry.deadline - (sent - (job.began or sent))
        client = min(self._clients, key=attrgetter("busy"))
        client.busy += 1
        try:
            async with asyncio.timeout(min(self.retry.timeout, max(left, 0.001))):
                url = lane.url + self.wire.path
                # ASCII JSON: even half a surrogate pair in a user's text can be sent, and refused by the server alone.
                content = json.dumps(job.body).encode()
                request = httpx2.Request(
                    "POST", url, headers=self._headers, content=content, extensions=self._extensions
                )
                response = await client.http.send(request)
            outcome = judge_response(response, self.wire)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, TimeoutError, OSError) as error:
            outcome = judge_error(error)
        except Exception as error:  # one request that cannot be made must not stop the others
            outcome = Outcome(reason=f"could not be sent ({type(error).__name__})", permanent=True)
        finally:
            client.busy -= 1
            lane.in_flight -= 1
        self._settle(job, lane, sent, outcome)

    def _settle(self, job: Job, lane: Endpoint, sent: float, outcome: Outcome) -> None:
        now = time.monotonic()
        if outcome.answer is not None:
            lane.succeeded()
            self._answered = True
            self._keep(self._stored(job, outcome.answer, now - sent))
            return
        if outcome.maybe_paid:
            self._charge(job)
        if self._misplaced(lane, outcome):
            self._leave(job, lane, outcome)
            return
        if outcome.overloaded:
            lane.overloaded(sent, now, outcome.wait)
        elif outcome.permanent:
            self._refuse(job, lane, outcome)
        else:
            lane.failed(now)
        if lane.given_up and all(one.given_up for one in self.lanes):
            self._stop = self._stop or ModelError(
                f"{lane.url} does not answer: {outcome.reason} ({lane.failures} failures in a row).",
                "Check that the server runs and that base_url is right, then run the same command again.",
            )
        self._again(job, outcome, now)

    def _misplaced(self, lane: Endpoint, outcome: Outcome) -> bool:
        """Whether ``outcome`` tells of the server and not of the call. In a pool that may show late, when others have
        answered; but a 403 of a server that answered before may be a filter's word on this one prompt."""
        if len(self.lanes) == 1:
            return outcome.fatal == "always" or (outcome.fatal == "at_first" and not self.store.ledger.calls)
        return bool(outcome.fatal) and not (outcome.status == 403 and lane.answered)

    def _leave(self, job: Job, lane: Endpoint, outcome: Outcome) -> None:
        """Send ``lane`` nothing more and ``job`` to another server; where there is none left, stop."""
        job.excused += 1
        self._ready.appendleft(job)
        if lane.out:
            return
        lane.out = True
        if all(one.given_up for one in self.lanes):
            self._stop = self._stop or ModelError(f"{lane.url} refused us: {outcome.reason}.", outcome.remedy)
        else:
            told = f"{lane.url} is left out of the pool: {outcome.reason}. {outcome.remedy}"
            warnings.warn(told, stacklevel=2)

    def _refuse(self, job: Job, lane: Endpoint, outcome: Outcome) -> None:
        """A server that refuses call after call for good, and answers none, is not sent them all. Calls that an
        earlier run saw refused do not count: once only those are left, they must not stop it."""
        self._refused += job.key not in self._refused_before
        if self._refused >= _REFUSALS and not self._answered:
            self._stop = self._stop or ModelError(
                f"{lane.url} refused the first {self._refused} calls and answered none: {outcome.reason}.",
                "Check model, extra and omit (fields this server refuses), then run the same command again.",
            )

    def _charge(self, job: Job) -> None:
        """Count the most that an attempt can cost of which nobody told us the cost."""
        job.charged += job.bound or 0.0
        self.store.ledger.charged += job.bound or 0.0

    def _keep(self, row: Stored) -> None:
        """Kill-safe and counted now, on the disk with the next commit."""
        try:
            self.store.hand_over(row)
        except QuipwrightError as error:
            self._stop = self._stop or error
        self.store.add(row, counted=True)
        self._unsaved.append(row)

    def _again(self, job: Job, outcome: Outcome, now: float) -> None:
        tries = job.attempts - job.excused
        due = now + self.retry.pause(tries, outcome.wait, self._luck)
        over = due > (job.began or now) + self.retry.deadline
        if outcome.permanent or over or tries >= self.retry.attempts:
            reason = (
                f"{outcome.reason}; no time left before the deadline"
                if over and not outcome.permanent
                else outcome.reason
            )
            self._unsaved.append(Failed(job.key, job.model, reason, outcome.status, job.attempts, job.charged))
        else:
            heapq.heappush(self._later, (due, id(job), job))

    def _stored(self, job: Job, answer: Answered, seconds: float) -> Stored:
        tokens = answer.tokens_in, answer.tokens_out
        cost = self.cost(*tokens)
        if cost is None:
            self._charge(job)
        return Stored(
            job.key, job.model, job.request, answer.reply, *tokens,
            cost, job.charged, round(seconds, 4), job.attempts,
        )  # fmt: skip

    async def _save(self) -> None:
        rows, self._unsaved = self._unsaved, []
        self._saving = len(rows)
        committed = self.store.tail.swap()
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self.store.put, *_split(rows))
            committed()
            self.done.update((row.key, row) for row in rows)
            self.store.ledger.failures += sum(isinstance(row, Failed) for row in rows)
        except QuipwrightError as error:
            self._stop = error
            self._unsaved = rows + self._unsaved  # still in the tail: the next run takes them over
        finally:
            self._saving = 0
            self._wake.set()

    def _until_next(self) -> float | None:
        """Seconds until something may happen by itself; ``None`` to wait for a request to end."""
        now = time.monotonic()
        times = [self._later[0][0]] if self._later else []
        if self._ready:
            times += [lane.quiet_until for lane in self.lanes if lane.quiet_until > now]
        return max(0.0, min(times) - now) if times and self._stop is None else None


def _split(rows: Sequence[Stored | Failed]) -> tuple[list[Stored], list[Failed]]:
    return [r for r in rows if isinstance(r, Stored)], [r for r in rows if isinstance(r, Failed)]


def _clients(ceiling: int, retry: Retry, lanes: Sequence[Endpoint]) -> list[httpx2.AsyncClient]:
    """Clients for ``ceiling`` requests in all. Together their pools are as large as the semaphore, so that no time-out
    ticks while a request queues for a connection."""
    local = all(httpx2.URL(lane.url).host in ("localhost", "127.0.0.1", "::1") for lane in lanes)
    context = httpx2.create_ssl_context()
    return [
        httpx2.AsyncClient(
            limits=httpx2.Limits(max_connections=_PER_CLIENT, max_keepalive_connections=_PER_CLIENT),
            timeout=httpx2.Timeout(retry.timeout, connect=min(15.0, retry.timeout), pool=retry.timeout),
            follow_redirects=False,
            trust_env=not local,
            verify=context,
        )
        for _ in range(math.ceil(ceiling / _PER_CLIENT))
    ]


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end from code that is not async, inside a notebook's running loop too."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
