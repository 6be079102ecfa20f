"""Questions to the servers of one model: asked side by side, repeated where that may help, answers kept at once."""

from __future__ import annotations

import asyncio
import json
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from quipwright.core.errors import ModelError, QuipwrightError
from quipwright.llm.call_rows import UNFINISHED, Failed, Stored
from quipwright.llm.connections import Connections
from quipwright.llm.costs import Budget, check_budget
from quipwright.llm.endpoints import Endpoint, EndpointPool
from quipwright.llm.engine import Engine
from quipwright.llm.http_outcome import NETWORK_ERRORS, Answered, Outcome, Reader, judge_error, judge_reply
from quipwright.llm.retry import Retry, Tries

_REFUSALS = 16  # refused for good before a single answer: it is the settings, not the questions


@dataclass
class Job:
    """One request on its way. ``bound`` is the most it may cost (``None``: unknown); ``body`` is the JSON to send.

    ``kept``: what became of it is in the store. ``last``: why it was not answered yet.
    """

    key: str
    model: str
    request: dict[str, Any]
    body: dict[str, Any]
    tries: Tries
    bound: float | None = None
    charged: float = 0.0
    in_flight: bool = False
    kept: bool = False
    last: str = "no answer in time"


@dataclass
class _Batch:
    """Questions that were asked together. ``error`` stops them: what is under way is waited for, the rest is not sent."""

    tasks: dict[asyncio.Task[Stored | Failed], Job] = field(default_factory=dict)
    error: BaseException | None = None

    def stop(self, error: BaseException) -> None:
        """Send no more of them, because of ``error``."""
        self.error = self.error or error
        _cancel(task for task, job in self.tasks.items() if not job.in_flight and task is not asyncio.current_task())


class Wire(Reader, Protocol):
    """How one API is spoken."""

    @property
    def path(self) -> str:
        """What follows the base URL."""

    def headers(self) -> dict[str, str]:
        """Headers of every request, the key's among them."""


Cost = Callable[[int | None, int | None], float | None]


class Servers:
    """The servers of one model and what is known of them, for the whole run."""

    def __init__(
        self, engine: Engine, wire: Wire, urls: Sequence[str], ceiling: int, retry: Retry, budget: Budget, cost: Cost
    ) -> None:
        """``urls``: base URLs; ``ceiling``: the most requests under way in all; ``cost`` prices an answer by its tokens."""
        self.engine, self.store, self.wire, self.retry = engine, engine.store, wire, retry
        self.budget, self.cost = budget, cost
        self.endpoints = [Endpoint(url.rstrip("/"), ceiling, retry) for url in urls]
        self.pool = EndpointPool(self.endpoints, ceiling, self, retry.deadline)
        self.connections = Connections(urls[0], retry.timeout, wire.headers())
        self._refused_before = {failed.key for failed in self.store.failures()}
        self._refused: set[str] = set()
        self._asking = 0

    def admit(self) -> bool:
        """Count one more request; false while too many answers wait for the disk. Raises :class:`BudgetError` where a cap
        is reached, :class:`DiskError` where answers could not be written."""
        check_budget(self.budget, self.store.ledger)
        if not self.engine.room():
            return False
        self.store.ledger.attempts += 1
        return True

    def withdraw(self) -> None:
        """A request that was counted is not sent after all."""
        self.store.ledger.attempts -= 1

    def saved(self) -> None:
        """Answers came to the disk: there is room for more."""
        self.pool.hand_out()

    async def close(self) -> None:
        """The run ends."""
        await self.connections.close()

    def ask(self, jobs: Sequence[Job]) -> dict[str, Stored | Failed]:
        """Answer all ``jobs``, from any thread. Raises what stops them all (budget, key, disk, no server) after storing
        what came."""
        return self.engine.run(self._ask(jobs))

    async def _ask(self, jobs: Sequence[Job]) -> dict[str, Stored | Failed]:
        if not self._asking:
            self._refused_before |= self._refused
            self._refused.clear()
            self.pool.begin()
        self._asking += 1
        batch = _Batch()
        batch.tasks = {asyncio.create_task(self._answer(job, batch)): job for job in jobs}
        try:
            await self._finish(batch)
        finally:
            self._asking -= 1
        return {row.key: row for row in (task.result() for task in batch.tasks)}

    async def _finish(self, batch: _Batch) -> None:
        """Wait for all of ``batch`` and for the disk. Raises what stopped it."""
        pending: set[asyncio.Task[Stored | Failed]] = set(batch.tasks)
        try:
            while pending:
                ended, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
                for error in [task.exception() for task in ended if not task.cancelled()]:
                    if error is not None:
                        batch.stop(error)
        except asyncio.CancelledError:
            _cancel(pending)
            await asyncio.gather(*pending, return_exceptions=True)
            with suppress(QuipwrightError):
                await self.engine.saved()
            raise
        if batch.error is not None:
            with suppress(QuipwrightError):
                await self.engine.saved()
            raise batch.error
        await self.engine.saved()

    async def _answer(self, job: Job, batch: _Batch) -> Stored | Failed:
        """Ask until there is an answer, or no use in asking again; what becomes of it is kept."""
        try:
            async with asyncio.timeout(None) as limit:
                while True:
                    async with self.pool.slot(again=job.tries.made > 0) as endpoint:
                        limit.reschedule(job.tries.begin(time.monotonic()))
                        result = await self._attempt(job, endpoint, batch)
                    if not isinstance(result, float):
                        return result
                    if batch.error is not None:  # it was stopped while this was under way
                        raise asyncio.CancelledError
                    await asyncio.sleep(result)
        except TimeoutError:
            return self._kept(job, self._failed(job, f"{job.last}; no time left before the deadline", None))
        except BaseException:
            # What was tried may have cost something: a cap that forgot it would be spent again by the next run.
            if job.tries.made and not job.kept:
                self._kept(job, self._failed(job, UNFINISHED, None))
            raise

    async def _attempt(self, job: Job, endpoint: Endpoint, batch: _Batch) -> Stored | Failed | float:
        """One request: what became of the job, or the seconds to wait before the next one."""
        job.in_flight = True
        sent = time.monotonic()
        try:
            async with asyncio.timeout(self.retry.timeout):
                # ASCII JSON: even half a surrogate pair in a user's text can be sent, and refused by the server alone.
                reply = await self.connections.post(endpoint.url + self.wire.path, json.dumps(job.body).encode())
            outcome = judge_reply(reply, self.wire)
        except NETWORK_ERRORS as error:
            outcome = judge_error(error)
        except asyncio.CancelledError:
            self._charge(job)
            raise
        except Exception as error:  # one request that cannot be made must not stop the others
            outcome = Outcome(reason=f"could not be sent ({type(error).__name__})", permanent=True)
        finally:
            job.in_flight = False
        job.last = outcome.reason
        try:
            return self._settle(job, endpoint, sent, outcome)
        except QuipwrightError as error:
            batch.stop(error)  # before the slot is free for another
            raise

    def _settle(self, job: Job, endpoint: Endpoint, sent: float, outcome: Outcome) -> Stored | Failed | float:
        now = time.monotonic()
        if outcome.answer is not None:
            endpoint.succeeded()
            return self._kept(job, self._stored(job, outcome.answer, now - sent))
        if outcome.maybe_paid:
            self._charge(job)
        if self._misplaced(endpoint, outcome):
            return self._leave(job, endpoint, outcome)
        if outcome.overloaded:
            endpoint.overloaded(sent, now, outcome.wait, outcome.reason)
        elif not outcome.permanent:
            endpoint.failed(now, outcome.reason)
        result = self._again(job, outcome, now)
        if outcome.permanent and outcome.status != 200:
            self._check_refusals(job, endpoint, outcome)
        if endpoint.given_up and all(one.given_up for one in self.endpoints):
            raise ModelError(
                f"{endpoint.url} does not answer: {outcome.reason} ({endpoint.failures} failures in a row).",
                "Check that the server runs and that base_url is right, then run the same command again.",
            )
        return result

    def _misplaced(self, endpoint: Endpoint, outcome: Outcome) -> bool:
        """Whether ``outcome`` tells of the server and not of the call. In a pool that may show late, when others have
        answered; but a 403 of a server that answered before may be a filter's word on this one prompt."""
        if len(self.endpoints) == 1:
            return outcome.fatal == "always" or (outcome.fatal == "at_first" and not self.store.ledger.calls)
        return bool(outcome.fatal) and not (outcome.status == 403 and endpoint.answered)

    def _leave(self, job: Job, endpoint: Endpoint, outcome: Outcome) -> float:
        """Send ``endpoint`` nothing more and ``job`` to another server; where there is none left, stop."""
        job.tries.excused += 1
        already_out, endpoint.out = endpoint.out, True
        if all(one.given_up for one in self.endpoints):
            raise ModelError(f"{endpoint.url} refused us: {outcome.reason}.", outcome.remedy)
        if not already_out:
            message = f"{endpoint.url} is left out of the pool: {outcome.reason}. {outcome.remedy}"
            warnings.warn(message, stacklevel=2)
        return 0.0

    def _check_refusals(self, job: Job, endpoint: Endpoint, outcome: Outcome) -> None:
        """A server that refuses call after call for good, and answers none, is not sent them all. Calls that an
        earlier run saw refused do not count: once only those are left, they must not stop it."""
        if job.key not in self._refused_before:
            self._refused.add(job.key)
        if len(self._refused) >= _REFUSALS and not any(one.answered for one in self.endpoints):
            raise ModelError(
                f"{endpoint.url} refused the first {len(self._refused)} calls and answered none: {outcome.reason}.",
                "Check model, extra and omit (fields this server refuses), then run the same command again.",
            )

    def _again(self, job: Job, outcome: Outcome, now: float) -> Failed | float:
        """The seconds to wait before ``job`` is asked again, or its failure where it is not."""
        pause = None if outcome.permanent else job.tries.pause(outcome.wait, now)
        if pause is not None:
            return pause
        reason = outcome.reason if outcome.permanent else job.tries.why_none(outcome.reason)
        return self._kept(job, self._failed(job, reason, outcome.status))

    def _charge(self, job: Job) -> None:
        """Count the most that an attempt can cost of which nobody told us the cost."""
        job.charged += job.bound or 0.0
        self.store.ledger.charged += job.bound or 0.0

    def _kept(self, job: Job, row: Any) -> Any:
        job.kept = True
        self.engine.keep(row)
        return row

    def _failed(self, job: Job, reason: str, status: int | None) -> Failed:
        return Failed(job.key, job.model, reason, status, job.tries.made, job.charged)

    def _stored(self, job: Job, answer: Answered, seconds: float) -> Stored:
        tokens = answer.tokens_in, answer.tokens_out
        cost = self.cost(*tokens)
        if cost is None:
            self._charge(job)
        return Stored(
            job.key, job.model, job.request, answer.reply, *tokens,
            cost, job.charged, round(seconds, 4), job.tries.made,
        )  # fmt: skip


def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
