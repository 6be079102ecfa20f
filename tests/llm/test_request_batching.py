"""Groups are asked beside each other and rows given out in order, whatever the window and wherever a stage was resumed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.core.errors import ModelError
from quipwright.core.records import Response, Status
from quipwright.core.settings import Settings
from quipwright.llm.batch_api import Batch
from quipwright.llm.http_models import Chat
from quipwright.llm.local import Local
from quipwright.llm.request_batching import CHUNK, Window, asked_at_once, chunks, some_answered

ALL = sys.maxsize


def made(n: int, start: int, window: Window, asked: list[int] | None = None) -> list[list[str]]:
    """The chunks of ``n`` items, two rows each; ``asked`` collects the sizes of the groups."""

    def ask(part: Sequence[int]) -> list[str]:
        if asked is not None:
            asked.append(len(part))
        return [f"{i}{side}" for i in part for side in "ab"]

    return list(chunks(range(n), start, ask, str, lambda row: row[:-1], lambda units=1, note="": None, window))


@given(st.integers(0, 300), st.integers(0, 5), st.sampled_from([64, 128, 256, ALL]), st.integers(1, 4))
def test_a_stage_begun_with_one_window_goes_on_with_another(n: int, start: int, group: int, groups: int) -> None:
    rows = [f"{i}{side}" for i in range(n) for side in "ab"]
    whole = [rows[i : i + 2 * CHUNK] for i in range(0, len(rows), 2 * CHUNK)]
    assert made(n, start, Window(group, groups)) == whole[start:]


def test_groups_are_as_large_as_the_window_says() -> None:
    for window, sizes in ((Window(), [64, 64, 22]), (Window(128), [128, 22]), (Window(ALL), [150])):
        asked: list[int] = []
        made(150, 0, window, asked)
        assert asked == sizes


def test_a_slow_group_keeps_no_other_from_being_asked() -> None:
    last_was_asked = threading.Event()

    def ask(part: Sequence[int]) -> list[str]:
        if part[0] == 0:  # the first group is answered only when the last one was asked
            assert last_was_asked.wait(60)
        if part[0] == 9 * CHUNK:
            last_was_asked.set()
        return [str(i) for i in part]

    parts = list(chunks(range(640), 0, ask, str, str, lambda units=1, note="": None, Window(groups=2)))
    assert [row for chunk in parts for row in chunk] == [str(i) for i in range(640)]


def test_the_first_error_ends_it_and_what_came_before_it_was_given_out() -> None:
    def ask(part: Sequence[int]) -> list[str]:
        if part[0] == CHUNK:
            raise ModelError("no server")
        return [str(i) for i in part]

    given_out = chunks(range(640), 0, ask, str, str, lambda units=1, note="": None, Window(groups=1))
    assert len(next(given_out)) == CHUNK
    with pytest.raises(ModelError, match="no server"):
        next(given_out)
    with pytest.raises(ModelError, match="no server"):
        list(chunks(range(640), 0, ask, str, str, lambda units=1, note="": None, Window(groups=3)))


class Two(Settings):
    first: Chat | Local | Batch
    second: Chat | Local | Batch


def test_the_window_follows_the_models_that_are_asked() -> None:
    served, here = Chat(model="m", base_url="http://a/v1", concurrency=64), Local(batch=200)
    later = Batch(model="m", base_url="http://a/v1")
    assert asked_at_once(served) == Window(groups=6)  # four times 64 and two groups ahead
    assert asked_at_once(here) == Window(group=192)
    assert asked_at_once(later) == asked_at_once(Two(first=served, second=later)) == Window(group=ALL)
    assert asked_at_once(Two(first=served, second=here)).groups >= 6
    assert asked_at_once(Settings()) == Window()


def test_a_stage_without_a_single_answer_says_why() -> None:
    row = Response(example_id="e", text="", author="t", status=Status.UNANSWERED, detail="status 400: no")
    with pytest.raises(ModelError, match=r"None of 2 questions was answered; the first one failed: status 400: no\."):
        some_answered([row, row])
    some_answered([row, Response(example_id="e", text="a", author="t")])
    some_answered([])
