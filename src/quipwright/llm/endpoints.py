"""The servers of one model: which of them may be asked now, how many requests each may have under way, and when to stop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from quipwright.core.errors import ModelError, QuipwrightError
from quipwright.llm.retry import Retry


@dataclass
class Endpoint:
    """One server: how many requests it may have under way now, and why it is being left alone (``said``).

    The limit starts low, doubles each round trip until the first refusal, then creeps; a 429 halves it, at most once a
    round trip (slow start and additive increase, multiplicative decrease, as TCP does).
    """

    url: str
    ceiling: int
    retry: Retry
    limit: float = 4.0
    threshold: float = float("inf")
    in_flight: int = 0
    quiet_until: float = 0.0
    halved_at: float = -1.0
    failures: int = 0
    rests: int = 0
    answered: bool = False
    out: bool = False
    said: str = ""

    def __post_init__(self) -> None:
        self.limit = min(self.limit, float(self.ceiling))

    def forgive(self) -> None:
        """Forget the failures: what is known of the server's limits stays."""
        if self.failures >= self.retry.failure_threshold:
            self.quiet_until = 0.0
        self.failures = self.rests = 0

    def free(self, now: float) -> bool:
        """Whether one more request may be sent at ``now``; a server on trial gets one at a time."""
        allowed = 1 if self.failures >= self.retry.failure_threshold else int(self.limit)
        return not self.out and self.in_flight < allowed and now >= self.quiet_until

    @property
    def load(self) -> float:
        """Share of the limit in use."""
        return self.in_flight / self.limit

    @property
    def given_up(self) -> bool:
        """True when its last trial failed, or when it was left ``out`` because it is not the server we look for."""
        return self.out or self.rests > self.retry.max_trials

    def succeeded(self) -> None:
        """An answer came: allow more."""
        self.failures = self.rests = 0
        self.answered = True
        step = 1.0 if self.limit < self.threshold else 1.0 / self.limit
        self.limit = min(float(self.ceiling), self.limit + step)

    def overloaded(self, sent: float, now: float, wait: float | None, said: str = "") -> None:
        """A 429 to a request sent at ``sent``: allow half as many, and none before the server's own time. One that
        still comes a round trip later, with no answer in between, is a failure in a row."""
        if sent > self.halved_at:
            self.limit = self.threshold = max(1.0, self.limit / 2)
            self.halved_at = now
            self.failed(now, said)
        if wait is not None and now + wait > self.quiet_until:
            self.quiet_until, self.said = now + wait, f"asks to be left alone: {said}"

    def failed(self, now: float, reason: str = "") -> None:
        """A failure that may be the server's, for that ``reason``: after ``failure_threshold`` in a row, rest."""
        self.failures += 1
        if self.failures >= self.retry.failure_threshold and now >= self.quiet_until:
            self.quiet_until = now + self.retry.cooldown * 2.0**self.rests
            self.said = f"failed {self.failures} times in a row: {reason}"
            self.rests += 1


class Gate(Protocol):
    """What allows requests: the caps of a run, and room for answers that wait for the disk."""

    def admit(self) -> bool:
        """Count one more request as sent; false where it must wait. Raises what forbids to send any more."""

    def withdraw(self) -> None:
        """A request that was counted is not sent after all."""


@dataclass
class EndpointPool:
    """The servers of one model, for as long as the run lasts. Used in one event loop only.

    ``ceiling`` bounds the requests under way in all.
    """

    endpoints: list[Endpoint]
    ceiling: int
    gate: Gate
    longest_quiet: float
    _waiting: deque[asyncio.Future[Endpoint]] = field(default_factory=deque)
    _timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """New questions come after a pause: the servers get a new chance."""
        none_left = all(endpoint.out for endpoint in self.endpoints)
        for endpoint in self.endpoints:
            endpoint.forgive()
            endpoint.out = endpoint.out and not none_left

    @asynccontextmanager
    async def slot(self, *, again: bool) -> AsyncIterator[Endpoint]:
        """A server that may be sent one request now; a repeat (``again``) goes before questions never asked.

        Raises what forbids to send any more, and :class:`ModelError` where all servers are to be left alone for longer
        than ``longest_quiet`` seconds.
        """
        turn: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        if again:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        self.hand_out()
        try:
            endpoint = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and not turn.exception():  # it came too late to be used
                self.gate.withdraw()
                self._free(turn.result())
            raise
        try:
            yield endpoint
        finally:
            self._free(endpoint)

    def _free(self, endpoint: Endpoint) -> None:
        endpoint.in_flight -= 1
        self.hand_out()

    def hand_out(self) -> None:
        """Give free slots to those who wait, in turn."""
        under_way = sum(endpoint.in_flight for endpoint in self.endpoints)
        while self._waiting and under_way < self.ceiling:
            if self._waiting[0].done():  # cancelled while it waited
                self._waiting.popleft()
                continue
            now = time.monotonic()
            try:
                endpoint = self._best(now)
                if endpoint is None or not self.gate.admit():
                    return
            except QuipwrightError as error:
                self._waiting.popleft().set_exception(error)
                continue
            endpoint.in_flight += 1
            under_way += 1
            self._waiting.popleft().set_result(endpoint)

    def _best(self, now: float) -> Endpoint | None:
        """The free server with the least load. Where there is none, somebody looks again as soon as there may be one."""
        free = [endpoint for endpoint in self.endpoints if endpoint.free(now)]
        if free:
            return min(free, key=lambda one: one.load)
        quiet = [endpoint for endpoint in self.endpoints if endpoint.quiet_until > now and not endpoint.out]
        if not quiet:
            return None
        first = min(quiet, key=lambda one: one.quiet_until)
        seconds = first.quiet_until - now
        if all(endpoint in quiet or endpoint.out for endpoint in self.endpoints) and seconds > self.longest_quiet:
            raise ModelError(
                f"{first.url} gets no question for {seconds:.0f} s, longer than retry.deadline "
                f"({self.longest_quiet:g} s). It {first.said}.",
                "All answers are stored: run the same command again after that time.",
            )
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look_again)
        return None

    def _look_again(self) -> None:
        self._timer = None
        self.hand_out()
