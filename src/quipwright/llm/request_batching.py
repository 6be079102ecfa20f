"""How an arrow puts its literals or pairs to a live model: how many at once, and what it means that none is answered."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from quipwright.core.errors import ModelError
from quipwright.core.progress import Step
from quipwright.core.records import Judgment, Response, Status
from quipwright.core.settings import Settings, within

CHUNK = 64  # literals or pairs whose answers are written to an arrow at a time
T = TypeVar("T")
R = TypeVar("R")


def chunks(
    items: Sequence[T],
    start: int,
    ask: Callable[[Sequence[T]], list[R]],
    asked_id: Callable[[T], str],
    row_id: Callable[[R], str],
    step: Step,
    at_once: int,
) -> Iterator[list[R]]:
    """What ``ask`` makes of ``items``, ``CHUNK`` of them at a time, from chunk number ``start`` on.

    ``at_once`` of them (full chunks) are asked together and their rows then given out chunk by chunk, so that an arrow
    that was begun with another number goes on where it stopped.
    """
    group = max(1, at_once // CHUNK) * CHUNK
    for first in range(start * CHUNK, len(items), group):
        asked = items[first : first + group]
        rows: dict[str, list[R]] = {}
        for row in ask(asked):
            rows.setdefault(row_id(row), []).append(row)
        for i in range(0, len(asked), CHUNK):
            part = asked[i : i + CHUNK]
            yield [row for item in part for row in rows.pop(asked_id(item), ())]
            step(len(part))


def why_unanswered(row: Response | Judgment) -> str:
    """Why no model answered for ``row``; empty where one did."""
    if isinstance(row, Response):
        return row.detail if row.status is Status.UNANSWERED else ""
    return "" if row.answered else row.reason


def some_answered(rows: Sequence[Response | Judgment]) -> None:
    """Raises :class:`ModelError` where no model answered for any of ``rows``: nothing could go on from there."""
    if rows and all(map(why_unanswered, rows)):
        raise ModelError(
            f"None of {len(rows)} questions was answered; the first one failed: {why_unanswered(rows[0])}.",
            "Mend that and run the same command again: all of them are asked again.",
        )


def asked_at_once(settings: Settings) -> int:
    """How many literals or pairs to put to the models in ``settings`` together: enough to keep what may be under way
    under way for a while, or all of them where a model answers nothing before it was asked everything. No more than
    that, because progress is told when they are answered."""
    parts = list(within(settings))
    if any(part.whole for part in parts):
        return sys.maxsize
    under_way = (4 * getattr(part, "concurrency", 0) for part in parts)
    return max(CHUNK, *under_way, *(getattr(part, "batch", 0) for part in parts))
