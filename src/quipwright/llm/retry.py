"""How a call is repeated: how long to wait, how often, and when to leave a server alone."""

from __future__ import annotations

import email.utils
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import Field

from quipwright.core.settings import Settings


class Retry(Settings):
    """How a call is repeated. Times in seconds; nothing here changes an answer.

    ``timeout`` bounds one attempt, ``deadline`` a call with all its attempts and waits. Waits double from ``wait`` to
    ``longest_wait`` with jitter, unless the server says how long. After ``failure_threshold`` failures in a row a server
    is left alone for ``cooldown`` (doubling); after ``max_trials`` such rests without one answer we give up on it.
    Refusals for overload only slow a server down; a round trip of nothing else is one failure. A server that asks for
    more patience than ``deadline`` is given up on at once.
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


@dataclass
class Tries:
    """The tries of one call: how often it was sent, and whether and when it may be sent again.

    ``excused`` of those ``made`` do not count: a server ended them that no request should go to. ``deadline``: when to
    give the call up (seconds of the monotonic clock), known once it was sent.
    """

    retry: Retry
    made: int = 0
    excused: int = 0
    deadline: float | None = None
    luck: random.Random = field(default_factory=random.Random)

    def begin(self, now: float) -> float:
        """One more is sent at ``now``; gives the deadline."""
        self.made += 1
        self.deadline = now + self.retry.deadline if self.deadline is None else self.deadline
        return self.deadline

    def pause(self, asked: float | None, now: float) -> float | None:
        """Seconds to wait before the next one, ``None`` where there is none. ``asked`` as in :meth:`Retry.pause`."""
        counted = self.made - self.excused
        seconds = self.retry.pause(counted, asked, self.luck)
        in_time = self.deadline is None or now + seconds <= self.deadline
        return seconds if counted < self.retry.attempts and in_time else None

    def why_none(self, reason: str) -> str:
        """``reason`` for giving up, and that it was for want of time where tries were left."""
        late = self.made - self.excused < self.retry.attempts
        return f"{reason}; no time left before the deadline" if late else reason


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds the server asks us to wait (``retry-after-ms``, or ``Retry-After`` as seconds or a date).

    ``None`` where it does not ask, or asks for what is no length of time.
    """
    seconds = _seconds(headers, time.time() if now is None else now)
    return seconds if seconds is not None and seconds >= 0 and math.isfinite(seconds) else None


def _seconds(headers: Mapping[str, str], now: float) -> float | None:
    try:
        if "retry-after-ms" in headers:
            return float(headers["retry-after-ms"]) / 1000
        value = headers.get("retry-after", "").strip()
        if not value:
            return None
        if value.replace(".", "", 1).isdigit():
            return float(value)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
