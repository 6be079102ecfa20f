"""When a call is repeated, and when it is given up: by hand."""

from __future__ import annotations

import random

import pytest
from pydantic import ValidationError

from quipwright.llm.retry import Retry, Tries, retry_after


def test_waits_double_between_half_and_whole_and_stop_growing() -> None:
    retry, luck = Retry(wait=1.0, longest_wait=10.0), random.Random(0)
    for attempt, most in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 10.0), (8, 10.0)):
        for _ in range(20):
            assert most / 2 <= retry.pause(attempt, None, luck) <= most


def test_a_server_is_never_asked_before_its_own_time() -> None:
    luck = random.Random(0)
    assert all(7.0 <= Retry().pause(1, 7.0, luck) <= 7.7 for _ in range(50))


HEADERS = [
    ({"retry-after": "3"}, 3.0),
    ({"retry-after": "1.5"}, 1.5),
    ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
    ({"retry-after": "Thu, 01 Jan 1970 00:00:30 GMT"}, 20.0),  # ten seconds of them are over
    ({"retry-after": "Thu, 01 Jan 1970 00:00:05 GMT"}, 0.0),
    ({}, None),
    ({"retry-after": ""}, None),
    ({"retry-after": "soon"}, None),
    ({"retry-after": "-3"}, None),
    ({"retry-after-ms": "nan"}, None),
    ({"retry-after-ms": "inf"}, None),
    ({"retry-after-ms": "-1"}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), HEADERS)
def test_what_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=10.0) == seconds


def test_tries_end_by_number_or_by_time() -> None:
    tries = Tries(Retry(attempts=3, wait=1.0, longest_wait=1.0, deadline=100.0))
    assert tries.begin(50.0) == 150.0
    assert 0.5 <= (tries.pause(None, 51.0) or 0.0) <= 1.0
    assert tries.begin(60.0) == 150.0  # the time runs from the first one
    assert tries.pause(95.0, 60.0) is None
    assert tries.why_none("busy") == "busy; no time left before the deadline"
    assert tries.pause(None, 60.0) is not None
    tries.begin(70.0)
    assert tries.pause(None, 70.0) is None
    assert tries.why_none("busy") == "busy"
    tries.excused += 1  # one of the three was no fault of the call
    assert tries.pause(None, 70.0) is not None


@pytest.mark.parametrize("field", ["timeout", "deadline", "wait", "longest_wait", "cooldown"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_no_limit_is_a_number_that_is_none(field: str, value: float) -> None:
    with pytest.raises(ValidationError):
        Retry.model_validate({field: value})
