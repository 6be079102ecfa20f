"""The one retry layer: how long to wait, how many requests to have under way, and when to leave a server alone."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from quipwright.core.settings import Settings


class Retry(Settings):
    """How a call is repeated. Times in seconds; nothing here changes an answer.

    ``timeout`` bounds one attempt, ``deadline`` a call with all its attempts and waits. Waits double from ``wait`` to
    ``longest_wait`` with jitter, unless the server says how long. After ``failure_threshold`` failures in a row a server is
    left alone for ``cooldown`` (doubling); after ``max_trials`` such rests without one answer we give up on it. Refusals for
    overload only slow a server down; a round trip of nothing else is one failure.
    """

    attempts: int = Field(8, ge=1, le=8)
    timeout: float = Field(120.0, gt=0)
    deadline: float = Field(900.0, gt=0)
    wait: float = Field(1.0, gt=0)
    longest_wait: float = Field(60.0, gt=0)
    failure_threshold: int = Field(16, ge=1)
    cooldown: float = Field(5.0, gt=0)
    max_trials: int = Field(4, ge=1)

    def pause(self, attempt: int, asked: float | None, luck: random.Random) -> float:
        """Seconds to wait after failed attempt number ``attempt`` (from 1); ``asked`` is the server's Retry-After."""
        if asked is not None:
            return asked * luck.uniform(1.0, 1.1)
        return luck.uniform(0.5, 1.0) * min(self.longest_wait, self.wait * 2.0 ** (attempt - 1))


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds the server asks us to wait (``retry-after-ms``, or ``Retry-After`` as seconds or a date), or ``None``."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after", "").strip()
        if not value:
            return None
        if value.replace(".", "", 1).isdigit():
            return float(value)
        date = email.utils.parsedate_to_datetime(value)
        return max(0.0, date.timestamp() - (time.time() if now is None else now))
    except (ValueError, TypeError):
        return None


@dataclass
class Endpoint:
    """One server of a pool: how many requests it may have under way now, and whether it is being left alone.

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

    def __post_init__(self) -> None:
        self.limit = min(self.limit, float(self.ceiling))

    def start(self) -> None:
        """New requests begin: what is known of the server's limits stays, its failures are forgotten."""
        self.in_flight, self.failures, self.rests, self.quiet_until = 0, 0, 0, 0.0

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

    def overloaded(self, sent: float, now: float, wait: float | None) -> None:
        """A 429 to a request sent at ``sent``: allow half as many, and none before the server's own time. One that
        still comes a round trip later, with no answer in between, is a failure in a row."""
        if sent > self.halved_at:
            self.limit = self.threshold = max(1.0, self.limit / 2)
            self.halved_at = now
            self.failed(now)
        if wait is not None:
            self.quiet_until = max(self.quiet_until, now + wait)

    def failed(self, now: float) -> None:
        """A failure that may be the server's: after ``failure_threshold`` in a row, rest."""
        self.failures += 1
        if self.failures >= self.retry.failure_threshold and now >= self.quiet_until:
            self.quiet_until = now + self.retry.cooldown * 2.0**self.rests
            self.rests += 1
