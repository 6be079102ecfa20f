"""One server: how many requests it may have, and when it is left alone."""

from __future__ import annotations

from quipwright.llm.endpoints import Endpoint
from quipwright.llm.retry import Retry


def test_a_burst_of_429_only_slows_a_server_down() -> None:
    lane = Endpoint("http://localhost", 64, Retry(), limit=64.0)
    for burst in range(100):
        for _ in range(64):
            lane.overloaded(sent=10.0 * burst, now=10.0 * burst + 1, wait=None)
        assert lane.failures == 1
        assert lane.free(10.0 * burst + 1)
        lane.succeeded()
    for second in range(2000, 2016):
        assert lane.free(float(second))
        lane.overloaded(sent=float(second), now=second + 0.5, wait=None)
    assert not lane.free(2016.0)
