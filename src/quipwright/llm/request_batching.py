"""How a stage puts its examples or pairs to a model: many at once, without a pause, its rows in order all the same."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from quipwright.core.errors import ModelError
from quipwright.core.progress import Step
from quipwright.core.records import Grade, Judgment, Response, Status
from quipwright.core.settings import Settings, within
from quipwright.llm.model_settings import ModelSettings

CHUNK = 64  # examples or pairs whose rows are written to a stage at a time
_AHEAD = 2  # groups asked beside those that keep the servers busy, while the last answers of a group are waited for
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Window:
    """``group`` items (whole chunks of them) are asked together, and ``groups`` groups beside each other."""

    group: int = CHUNK
    groups: int = 1


def chunks(
    items: Sequence[T],
    start: int,
    ask: Callable[[Sequence[T]], list[R]],
    asked_id: Callable[[T], str],
    row_id: Callable[[R], str],
    step: Step,
    window: Window,
) -> Iterator[list[R]]:
    """What ``ask`` makes of ``items``, ``CHUNK`` of them at a time, from chunk number ``start`` on.

    As soon as one group is answered the next one is asked, whichever it was, so that the servers are never waited
    empty; rows are given out chunk by chunk in the order of ``items``, so that a stage that was begun with another window
    goes on where it stopped. ``ask`` is called from several threads.
    """
    groups = [items[i : i + window.group] for i in range(start * CHUNK, len(items), window.group)]
    for group, rows in zip(groups, _in_order(groups, ask, window.groups, step), strict=True):
        by_id: dict[str, list[R]] = {}
        for row in rows:
            by_id.setdefault(row_id(row), []).append(row)
        for i in range(0, len(group), CHUNK):
            yield [row for item in group[i : i + CHUNK] for row in by_id.pop(asked_id(item), ())]


def _in_order(
    groups: Sequence[Sequence[T]], ask: Callable[[Sequence[T]], list[R]], beside: int, step: Step
) -> Iterator[list[R]]:
    """``ask`` of each group, ``beside`` of them at a time; the first error ends it."""
    if beside == 1:
        for group in groups:
            rows = ask(group)
            step(len(group))
            yield rows
        return
    threads = ThreadPoolExecutor(beside, thread_name_prefix="ask")
    try:
        answers = [threads.submit(ask, group) for group in groups]
        sizes: dict[Future[list[R]], int] = {answer: len(group) for answer, group in zip(answers, groups, strict=True)}
        for answer in answers:
            while not answer.done():
                ended, _ = wait(sizes, return_when=FIRST_COMPLETED)
                for one in ended:
                    one.result()
                    step(sizes.pop(one))
            if answer in sizes:
                step(sizes.pop(answer))
            yield answer.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # what is under way ends when the run's calls are closed


def why_unanswered(row: Response | Judgment | Grade) -> str:
    """Why no model answered for ``row``; empty where one did."""
    if isinstance(row, Response):
        return row.detail if row.status is Status.UNANSWERED else ""
    return "" if row.answered else row.reason


def some_answered(rows: Sequence[Response | Judgment | Grade]) -> None:
    """Raises :class:`ModelError` where no model answered for any of ``rows``: nothing could go on from there."""
    if rows and all(map(why_unanswered, rows)):
        raise ModelError(
            f"None of {len(rows)} questions was answered; the first one failed: {why_unanswered(rows[0])}.",
            "Mend that and run the same command again: all of them are asked again.",
        )


def asked_at_once(settings: Settings) -> Window:
    """How to put examples or pairs to the models in ``settings``, so that none of them waits for the next question."""
    models = [part for part in within(settings) if isinstance(part, ModelSettings)]
    most = max((model.at_once for model in models), default=1)
    if most == sys.maxsize:
        return Window(group=sys.maxsize)
    if all(model.in_process for model in models):
        return Window(group=max(1, most // CHUNK) * CHUNK)
    return Window(groups=_AHEAD + most // CHUNK)
