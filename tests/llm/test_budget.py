"""Caps hold, over failures, torn answers, interruptions and several runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from quipwright.core.errors import BudgetError, RecipeError
from quipwright.llm.call_store import CallStore
from quipwright.llm.costs import Budget, Price
from quipwright.llm.types import Completion
from quipwright.testing.asking import FAST, ask, chat, requests, stored_count
from quipwright.testing.faulty_server import FaultyServer

UNHURRIED = FAST.model_copy(update={"failure_threshold": 1000, "wait": 60.0, "longest_wait": 60.0})
"""Repeats come too late."""


def test_the_call_cap_counts_failed_attempts_and_resumes(tmp_path: Path) -> None:
    with FaultyServer(fault=lambda n, body: "500" if n < 10 else None) as server:
        with pytest.raises(BudgetError, match=r"budget\.calls is reached: 40 of 40 .* raise budget\.calls"):
            ask(tmp_path, chat(server), requests(100), budget=Budget(calls=40))
        assert len(server.bodies) == 40
        assert 30 - 1 <= stored_count(tmp_path) <= 30
        answers = ask(tmp_path, chat(server), requests(100), budget=Budget(calls=200))
        assert all(isinstance(answer, Completion) for answer in answers)
        assert len(server.bodies) == 110


def test_the_money_cap_holds_within_what_is_under_way(tmp_path: Path) -> None:
    prices = {"m": Price(input=1000.0, output=3000.0)}  # 10 tokens in and out: 0.04 a call
    with FaultyServer(latency=0.005) as server:
        with pytest.raises(BudgetError, match=r"budget\.money is reached"):
            ask(tmp_path, chat(server, concurrency=8), requests(500), budget=Budget(money=1.0), prices=prices)
        with CallStore.open(tmp_path) as store:
            assert 1.0 <= store.ledger.cost <= 1.0 + 8 * 0.04 + 1e-9
            assert store.ledger.calls == len(server.bodies)
        with pytest.raises(RecipeError, match="the price of 'm' is unknown"):
            ask(tmp_path, chat(server), requests(1), budget=Budget(money=1.0))


def test_the_money_cap_holds_where_no_server_says_how_many_tokens(tmp_path: Path) -> None:
    prices = {"m": Price(input=1000.0, output=3000.0)}  # at most 0.202 a call
    reply = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}
    with FaultyServer(lambda body: reply) as server:
        settings = chat(server, concurrency=1)
        for _ in range(2):
            with pytest.raises(BudgetError, match=r"budget\.money is reached"):
                ask(tmp_path, settings, requests(300), budget=Budget(money=1.0), prices=prices)
            assert len(server.bodies) == 5
    with CallStore.open(tmp_path) as store:
        assert [s.money for s in store.spent()] == ["unknown, up to 1.0100 more for attempts of unknown cost"]
        assert "cost unknown, up to 1.0100 more" in store.ledger.line()


def test_a_torn_answer_counts_as_paid(tmp_path: Path) -> None:
    prices = {"m": Price(input=1.0, output=1.0)}
    with FaultyServer(fault=lambda n, body: "torn" if n == 0 else None) as server:
        ask(tmp_path, chat(server), requests(1), prices=prices)
        with CallStore.open(tmp_path) as store:
            assert store.ledger.charged == pytest.approx((2 + 8 + 64) / 1e6)
            assert store.ledger.cost == pytest.approx(20 / 1e6)


def test_a_cap_that_stopped_a_run_stops_the_next_one_before_it_sends_anything(tmp_path: Path) -> None:
    prices = {"m": Price(input=1.0, output=10.0)}
    with FaultyServer(fault=lambda n, body: "torn") as server:
        settings = chat(server, retry=UNHURRIED)
        for folder, budget in (("money", Budget(money=0.05)), ("calls", Budget(calls=50))):
            server.bodies.clear()
            with pytest.raises(BudgetError, match="is reached"):
                ask(tmp_path / folder, settings, requests(1000), budget=budget, prices=prices)
            sent = len(server.bodies)
            for _ in range(2):
                with pytest.raises(BudgetError, match="is reached"):
                    ask(tmp_path / folder, settings, requests(1000), budget=budget, prices=prices)
            assert len(server.bodies) == sent
            with CallStore.open(tmp_path / folder) as store:
                assert store.ledger.attempts == sent
                assert store.ledger.charged == pytest.approx(sent * 0.00065, rel=0.01)
                assert store.ledger.charged == pytest.approx(sum(s.charged for s in store.spent()))
                assert store.failures() == []
                assert store.ledger.failures == 0
        server.fault = lambda n, body: None
        answers = ask(tmp_path / "money", settings, requests(1000), budget=Budget(money=9.0), prices=prices)
        assert all(isinstance(answer, Completion) for answer in answers)


def test_what_ctrl_c_cuts_off_counts_as_paid(tmp_path: Path) -> None:
    prices = {"m": Price(input=1.0, output=10.0)}

    def interrupted(number: int, body: dict[str, object]) -> str:
        if number == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return "hang" if number >= 17 else "torn"

    with FaultyServer(fault=interrupted) as server:
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
        with pytest.raises(KeyboardInterrupt):
            ask(tmp_path, chat(server, retry=UNHURRIED), requests(100), prices=prices)
        signal.signal(signal.SIGINT, handler)
        with CallStore.open(tmp_path) as store:
            assert store.ledger.attempts == len(server.bodies)
            assert store.ledger.charged == pytest.approx(len(server.bodies) * 0.00065, rel=0.01)
