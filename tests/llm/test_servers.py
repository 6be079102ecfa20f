"""Servers that fail, refuse, hang and die, and a client that is killed: nothing is lost, nothing is paid twice."""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path

import pytest

from quipwright.core.errors import ModelError
from quipwright.llm.call_store import CallStore
from quipwright.llm.calls import Calls
from quipwright.llm.http_models import Anthropic, Chat
from quipwright.llm.types import Completion, Failure
from quipwright.testing.asking import FAST, ask, asking_process, chat, requests, stored_count
from quipwright.testing.faulty_server import FaultyServer


def test_three_kills_lose_nothing_and_pay_nothing_twice(tmp_path: Path) -> None:
    with FaultyServer(latency=0.02) as server:
        for kill in range(3):
            before = len(server.bodies)
            process = asking_process(tmp_path, server.url, 1000)
            while len(server.bodies) < before + 200:
                time.sleep(0.005)
            process.kill()
            process.communicate()
            stored = stored_count(tmp_path)
            assert stored >= len(server.bodies) - 32 * (kill + 1)
        resumed = asking_process(tmp_path, server.url, 1000)
        assert resumed.wait(300) == 0, resumed.communicate()
        assert stored_count(tmp_path) == 1000
        times = server.times()
        assert len(times) == 1000
        assert sum(times.values()) - 1000 <= 3 * 32
        sent = len(server.bodies)
        assert asking_process(tmp_path, server.url, 1000).wait(300) == 0
        assert len(server.bodies) == sent


def test_a_fifth_of_faults_and_all_is_answered(tmp_path: Path) -> None:
    kinds = ["429", "500", "hang", "torn", "html", "empty"]
    with FaultyServer(fault=lambda n, body: kinds[(n // 5) % 6] if n % 5 == 0 else None) as server:
        impatient = FAST.model_copy(update={"timeout": 1.0})  # shorter than the server hangs
        answers = ask(tmp_path, chat(server, concurrency=64, retry=impatient), requests(1000))
        assert [a.text for a in answers if isinstance(a, Completion)] == [f"answer to q{i}" for i in range(1000)]
        assert set(server.faults) == {*kinds, "none"}
        assert max(server.times().values()) <= 8
        with CallStore.open(tmp_path) as store:
            assert store.ledger.attempts == len(server.bodies)
            assert store.failures() == []


def test_one_permanent_refusal_leaves_the_others_alone(tmp_path: Path) -> None:
    with FaultyServer(fault=lambda n, body: "400" if body["messages"][-1]["content"] == "q7" else None) as server:
        answers = ask(tmp_path, chat(server), requests(1000))
        failed = [a for a in answers if isinstance(a, Failure)]
        assert len(answers) - len(failed) == 999
        assert [(f.status, f.attempts, f.reason) for f in failed] == [(400, 1, "status 400: fault 400")]
        with CallStore.open(tmp_path) as store:
            assert [(f.status, f.attempts) for f in store.failures()] == [(400, 1)]
            assert store.ledger.calls == 999


def test_a_dead_server_is_left_alone_and_named(tmp_path: Path) -> None:
    retry = FAST.model_copy(update={"failure_threshold": 4, "max_trials": 2})
    with FaultyServer(fault=lambda n, body: "500") as server:
        with pytest.raises(ModelError, match=r"does not answer: status 500: fault 500 \(\d+ failures in a row\)"):
            ask(tmp_path, chat(server, retry=retry), requests(200))
        assert len(server.bodies) < 60  # not 200 x 8
    with pytest.raises(ModelError, match="does not answer: no connection"):
        ask(tmp_path, chat(server, retry=retry), requests(20))


def test_a_server_that_is_always_overloaded_stops_the_run_in_its_own_words(tmp_path: Path) -> None:
    retry = FAST.model_copy(update={"failure_threshold": 4, "max_trials": 2})
    for kind in ("503", "429", "529"):
        with FaultyServer(fault=lambda n, body, kind=kind: kind) as server:
            with pytest.raises(ModelError, match=f"does not answer: status {kind}: fault {kind}"):
                ask(tmp_path / kind, chat(server, retry=retry), requests(200))
            assert len(server.bodies) < 30
            with CallStore.open(tmp_path / kind) as store:
                assert store.failures() == []
                assert store.ledger.attempts == len(server.bodies)
            server.fault = lambda n, body: None
            answers = ask(tmp_path / kind, chat(server), requests(20))
            assert all(isinstance(answer, Completion) for answer in answers)


def test_a_server_that_refuses_every_call_is_not_sent_them_all(tmp_path: Path) -> None:
    settings = {"concurrency": 4}
    for kind in ("400", "422"):
        with FaultyServer(fault=lambda n, body, kind=kind: kind) as server:
            with pytest.raises(ModelError, match=f"refused the first 16 calls .*: status {kind}: fault {kind}.*omit"):
                ask(tmp_path / kind, chat(server, **settings), requests(200))
            assert len(server.bodies) < 20
            server.fault = lambda n, body: None
            answers = ask(tmp_path / kind, chat(server, **settings), requests(200))
            assert all(isinstance(answer, Completion) for answer in answers)


def test_calls_that_are_refused_for_good_do_not_stop_the_run_twice(tmp_path: Path) -> None:
    bad = {f"q{i}" for i in range(20)}
    refuse = lambda n, body: "400" if body["messages"][-1]["content"] in bad else None  # noqa: E731
    with FaultyServer(fault=refuse) as server:
        settings = chat(server, concurrency=1)
        with pytest.raises(ModelError, match="refused the first 16 calls"):
            ask(tmp_path, settings, requests(20))
        for n in (20, 60, 20):  # the rest of them, then all, then nothing but them
            failed = [a for a in ask(tmp_path, settings, requests(n)) if isinstance(a, Failure)]
            assert [a.reason for a in failed] == ["status 400: fault 400"] * 20


def test_a_pool_spreads_its_load_and_survives_a_dead_replica(tmp_path: Path) -> None:
    retry = FAST.model_copy(update={"failure_threshold": 2, "cooldown": 5.0})
    with FaultyServer(latency=0.01) as one, FaultyServer(latency=0.01) as two:
        ask(tmp_path / "two", chat(one, base_url=(one.url, two.url)), requests(200))
        assert 60 <= len(one.bodies) <= 140
        assert len(one.bodies) + len(two.bodies) == 200
        urls = (one.url, "http://127.0.0.1:9/v1")
        answers = ask(tmp_path / "dead", chat(one, base_url=urls, retry=retry), requests(50))
        assert all(isinstance(answer, Completion) for answer in answers)


@pytest.mark.parametrize("kind", ["404", "405", "403", "301", "401", "quota"])
def test_a_replica_that_is_none_is_left_out_and_costs_no_row(kind: str, tmp_path: Path) -> None:
    with FaultyServer() as one, FaultyServer(fault=lambda n, body: kind) as two:
        ask(tmp_path, chat(one), requests(1))
        pool = chat(one, base_url=(one.url, two.url))
        with Calls.open(tmp_path) as calls:
            door = pool.build(calls)
            with pytest.warns(UserWarning, match=rf"{two.url} is left out of the pool: status \d+.*\. \w+") as told:
                answers = door.complete_many(requests(100))
            assert all(isinstance(answer, Completion) for answer in answers)
            refused = len(two.bodies)
            assert refused <= 4
            assert all(isinstance(a, Completion) for a in door.complete_many(requests(50, seed=1)))
            assert len(two.bodies) == refused
            assert len(told) == 1
            assert calls.store.failures() == []
            one.fault = two.fault
            if kind != "403":
                for _ in range(2):  # the same door may be asked again when the servers were mended
                    with pytest.raises(ModelError, match="refused us: status"):
                        door.complete_many(requests(50, seed=2))


def test_requests_under_way_start_low_grow_and_halve_on_429(tmp_path: Path) -> None:
    with FaultyServer(latency=0.02) as server:
        ask(tmp_path, chat(server, concurrency=16), requests(200))
        assert server.most_under_way == 16
    with FaultyServer(latency=0.02) as server:
        server.fault = lambda n, body: "429" if server.under_way > 6 else None
        answers = ask(tmp_path / "b", chat(server, concurrency=64), requests(200))
        assert all(isinstance(answer, Completion) for answer in answers)
        assert server.most_under_way <= 32  # of 64 allowed


def test_ctrl_c_keeps_every_finished_answer(tmp_path: Path) -> None:
    with FaultyServer(latency=0.02) as server:
        process = asking_process(tmp_path, server.url, 1000)
        while len(server.bodies) < 100:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=300)
        assert "KeyboardInterrupt" in error
        assert stored_count(tmp_path) >= len(server.bodies) - 32


def test_a_key_reaches_no_file_no_log_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "sk-canary-5d41402abc4b2a76"
    monkeypatch.setenv("QUIPWRIGHT_TEST_KEY", canary)
    caplog.set_level(logging.DEBUG)
    for kind in (Chat, Anthropic):
        for fault in ("401", "echo400", "403", "500"):
            with FaultyServer(fault=lambda n, body, fault=fault: fault) as server:
                retry = FAST.model_copy(update={"attempts": 2})
                door = kind(model="m", base_url=server.url, key_env="QUIPWRIGHT_TEST_KEY", retry=retry)
                shown = repr(door)
                try:
                    shown += repr(ask(tmp_path, door, requests(2)))
                except ModelError as error:
                    shown += repr(error) + repr(error.__cause__) + repr(error.__context__)
                assert canary in server.heads[0]
                assert canary not in shown
    assert canary not in caplog.text
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and canary.encode() in p.read_bytes()]


def test_no_key_in_an_address_and_no_unset_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must not hold a key"):
        Chat(model="m", base_url="http://user:secret@localhost/v1")
    with pytest.raises(ModelError, match="NO_SUCH_KEY is not set"):
        ask(tmp_path, Chat(model="m", base_url="http://localhost/v1", key_env="NO_SUCH_KEY"), requests(1))
