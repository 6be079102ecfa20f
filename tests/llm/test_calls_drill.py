"""The drill on calls: faults, kills, damage, keys, money and secrets, against a real server over HTTP."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from quipwright.core.errors import BudgetError, DamagedError, DiskError, ModelError, RecipeError, RunError
from quipwright.core.records import Sampling
from quipwright.llm.call_store import FILE, UNFINISHED, CallStore, Failed, Stored
from quipwright.llm.calls import Calls
from quipwright.llm.costs import Budget, Price
from quipwright.llm.endpoints import Endpoint
from quipwright.llm.http_models import Anthropic, Chat
from quipwright.llm.recover import salvage
from quipwright.llm.retry import Retry
from quipwright.llm.types import Completion, Failure, Message, Request
from quipwright.testing.faulty_server import FaultyServer

# Repeats come at once, but no attempt is ended by the clock: a busy machine must not make more of them.
FAST = Retry(timeout=60, wait=0.01, longest_wait=0.05, deadline=600, cooldown=0.05)
UNHURRIED = FAST.model_copy(
    update={"failure_threshold": 1000, "wait": 60.0, "longest_wait": 60.0}
)  # repeats come too late


def requests(n: int, **sampling: object) -> list[Request]:
    drawn = Sampling(**({"temperature": 0.8} | sampling))  # type: ignore[arg-type]
    return [Request((Message("user", f"q{i}"),), drawn) for i in range(n)]


def ask(
    folder: Path, settings: Chat | Anthropic, asked: list[Request], **options: object
) -> list[Completion | Failure]:
    with Calls.open(folder, **options) as calls:  # type: ignore[arg-type]
        return settings.build(calls).complete_many(asked)  # type: ignore[no-any-return]


def chat(server: FaultyServer, **fields: object) -> Chat:
    return Chat(**({"model": "m", "base_url": server.url, "retry": FAST} | fields))  # type: ignore[arg-type]


CLIENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background would have it ignored
from pathlib import Path
from quipwright.testing.asking import ask, requests, Chat, FAST
settings = Chat(model="m", base_url=sys.argv[2], retry=FAST, concurrency=32)
answers = ask(Path(sys.argv[1]), settings, requests(int(sys.argv[3])))
assert all(hasattr(a, "text") for a in answers)
"""


def client(folder: Path, url: str, n: int, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLIENT, str(folder), url, str(n)]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


def test_1_three_kills_lose_nothing_and_pay_nothing_twice(tmp_path: Path) -> None:
    with FaultyServer(latency=0.02) as server:
        for kill in range(3):
            before = len(server.bodies)
            process = client(tmp_path, server.url, 1000)
            while len(server.bodies) < before + 200:
                time.sleep(0.005)
            process.kill()
            process.communicate()
            stored = _stored_count(tmp_path)
            assert stored >= len(server.bodies) - 32 * (kill + 1)
        resumed = client(tmp_path, server.url, 1000)
        assert resumed.wait(300) == 0, resumed.communicate()
        assert _stored_count(tmp_path) == 1000
        times = server.times()
        assert len(times) == 1000
        assert sum(times.values()) - 1000 <= 3 * 32
        sent = len(server.bodies)
        assert client(tmp_path, server.url, 1000).wait(300) == 0
        assert len(server.bodies) == sent


def _stored_count(folder: Path) -> int:
    with CallStore.open(folder) as store:
        return store.ledger.calls


def test_2_a_fifth_of_faults_and_all_is_answered(tmp_path: Path) -> None:
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


def test_2_one_permanent_refusal_leaves_the_others_alone(tmp_path: Path) -> None:
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


def test_3_a_full_disk_is_one_line_and_the_store_resumes(tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    with FaultyServer() as server:
        process = client(tmp_path, server.url, 1000, preexec_fn=small_files)
        _, error = process.communicate(timeout=300)
        assert process.returncode != 0
        assert "DiskError: could not write" in error.strip().splitlines()[-1]
        assert 0 < _stored_count(tmp_path) < 1000
        assert all(isinstance(a, Completion) for a in ask(tmp_path, chat(server), requests(1000)))
        assert sum(server.times().values()) - 1000 <= 2 * 32


def test_3_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises((DiskError, OSError)), Calls.open(tmp_path / "file"):
        pass


def test_4_one_flipped_row_repeats_exactly_its_call(tmp_path: Path) -> None:
    with FaultyServer() as server:
        ask(tmp_path, chat(server), requests(50))
        raw = (tmp_path / FILE).read_bytes()
        spot = raw.index(b"answer to q31")
        (tmp_path / FILE).write_bytes(raw[:spot] + b"A" + raw[spot + 1 :])
        server.bodies.clear()
        answers = ask(tmp_path, chat(server), requests(50))
        assert dict(server.times()) == {"q31": 1}
        assert answers[31].text == "answer to q31"  # type: ignore[union-attr]


def test_4_half_a_file_is_refused_and_salvaged(tmp_path: Path) -> None:
    with FaultyServer() as server:
        ask(tmp_path, chat(server), requests(400))
        path = tmp_path / FILE
        raw = path.read_bytes()
        path.write_bytes(raw[: len(raw) // 2])
        server.bodies.clear()
        with pytest.raises(
            DamagedError, match=r"is damaged .* nothing was sent\. Keep what is readable with: python -m"
        ):
            ask(tmp_path, chat(server), requests(400))
        assert not server.bodies
        command = [sys.executable, "-m", "quipwright.llm.recover", str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        kept = int(said.split()[0])
        assert 100 < kept < 400
        ask(tmp_path, chat(server), requests(400))
        assert len(server.bodies) == 400 - kept


def test_4_no_database_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(DamagedError), Calls.open(tmp_path):
        pass


def test_salvage_keeps_every_row_of_a_sound_store(tmp_path: Path) -> None:
    with CallStore.open(tmp_path) as store:
        store.put([Stored(f"k{i}", "m", {}, {"text": "x" * 50}) for i in range(300)])
    assert salvage(tmp_path / FILE)[0] == 300


def test_salvage_keeps_notes_and_failures_too(tmp_path: Path) -> None:
    opened = {"token": "t", "id": "batch_1"}
    failed = [Failed("k2", "m", "status 400", 400, 1), Failed("k3", "m", UNFINISHED, None, 2, 0.5)]
    with CallStore.open(tmp_path) as store:
        store.put([Stored("k1", "m", {}, {"text": "x"})], failed)
        store.set_note("batch", opened)
        store.set_note("closed", None)
    salvage(tmp_path / FILE)
    with CallStore.open(tmp_path) as store:
        assert (store.note("batch"), store.note("closed")) == (opened, None)
        assert store.failures() == failed[:1]
        assert (store.ledger.attempts, store.ledger.charged) == (4, 0.5)


def test_salvage_reads_the_write_ahead_log_and_puts_it_aside(tmp_path: Path) -> None:
    live, killed = tmp_path / "live", tmp_path / "killed"
    with CallStore.open(live) as store:
        store.put([Stored("k1", "m", {}, {"text": "x"})])
    connection = sqlite3.connect(live / FILE, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    CallStore(live / FILE, connection).put([Stored("k2", "m", {}, {"text": "y"})])
    shutil.copytree(live, killed)  # as a kill leaves it
    connection.close()
    kept, torn = salvage(killed / FILE)
    assert kept == 2
    assert not (killed / f"{FILE}-wal").exists()
    assert torn.with_name(f"{torn.name}-wal").stat().st_size
    with CallStore.open(killed) as store:
        assert sorted(store.find(["k1", "k2"])) == ["k1", "k2"]


def test_salvage_leaves_a_store_that_is_in_use_alone(tmp_path: Path) -> None:
    with CallStore.open(tmp_path) as store:
        store.put([Stored("k1", "m", {}, {"text": "x"})])
        before = sorted(path.name for path in tmp_path.iterdir())
        with pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
            salvage(tmp_path / FILE)
        assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_answers_on_their_way_to_the_disk_are_taken_over(tmp_path: Path) -> None:
    with CallStore.open(tmp_path) as store:
        store.hand_over(Stored("k1", "m", {}, {"text": "one"}))
        committed = store.tail.swap()
        store.hand_over(Stored("k2", "m", {}, {"text": "two"}))
        with open(store.tail.paths[1], "ab") as file:
            file.write(b'["k3", "torn')
    with CallStore.open(tmp_path) as store:
        assert {key: row.reply["text"] for key, row in store.find(["k1", "k2", "k3"]).items()} == {
            "k1": "one",
            "k2": "two",
        }
        assert store.ledger.calls == 2
    assert not list(tmp_path.glob("calls.tail*"))
    assert callable(committed)


def test_5_a_second_process_leaves_at_once_and_a_stale_lock_does_not_block(tmp_path: Path) -> None:
    with FaultyServer(latency=0.2) as server:
        first = client(tmp_path, server.url, 200)
        while not server.bodies:
            time.sleep(0.01)
        sent = len(server.bodies)
        with pytest.raises(RunError, match=f"in use by process {first.pid}"):
            ask(tmp_path, chat(server), [Request((Message("user", "extra"),), Sampling())])
        assert first.poll() is None  # nobody waited for it to end
        assert "extra" not in server.times()
        assert len(server.bodies) - sent <= 32
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
        ask(tmp_path, chat(server), requests(1))


def test_6_all_that_changes_the_answer_is_in_the_key_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyServer() as server, FaultyServer() as other:
        base = chat(server)
        drawn = Sampling(temperature=0.8)
        asked = [Request((Message("user", "q"),), drawn)]
        ask(tmp_path, base, asked)

        def sent(settings: Chat, request: Request) -> int:
            before = len(server.bodies) + len(other.bodies)
            ask(tmp_path, settings, [request])
            return len(server.bodies) + len(other.bodies) - before

        for change in (
            {"model": "n"},
            {"revision": "r"},
            {"base_url": other.url},
            {"extra": {"top_k": 5}},
            {"omit": ("seed",)},
        ):
            assert sent(base.model_copy(update=change), asked[0]) == 1, change
        for field, value in {"temperature": 0.7, "top_p": 0.9, "seed": 1, "max_tokens": 65, "index": 1}.items():
            assert sent(base, Request(asked[0].messages, drawn.model_copy(update={field: value}))) == 1, field
        assert sent(base, Request((Message("user", "q "),), drawn)) == 1
        assert sent(base, Request((Message("system", "s"), *asked[0].messages), drawn)) == 1
        assert sent(base, Request(asked[0].messages, drawn, logprobs=5)) == 1
        monkeypatch.setenv("QUIPWRIGHT_TEST_KEY", "sk-other")
        slow = base.model_copy(update={"retry": Retry(timeout=9), "concurrency": 3, "key_env": "QUIPWRIGHT_TEST_KEY"})
        pool = base.model_copy(update={"base_url": (server.url, other.url)})
        assert sent(slow, asked[0]) == sent(pool, asked[0]) == 0


def test_6_five_samples_are_five_rows_and_a_repeated_question_is_paid_once(tmp_path: Path) -> None:
    with FaultyServer() as server:
        five = [requests(1, index=i)[0] for i in range(5)]
        ask(tmp_path, chat(server), [*five, *five])
        assert len(server.bodies) == 5 == _stored_count(tmp_path)
        assert len({body["seed"] for body in server.bodies}) == 5


def test_7_the_call_cap_counts_failed_attempts_and_resumes(tmp_path: Path) -> None:
    with FaultyServer(fault=lambda n, body: "500" if n < 10 else None) as server:
        with pytest.raises(BudgetError, match=r"budget\.calls is reached: 40 of 40 .* raise budget\.calls"):
            ask(tmp_path, chat(server), requests(100), budget=Budget(calls=40))
        assert len(server.bodies) == 40
        assert 30 - 1 <= _stored_count(tmp_path) <= 30
        answers = ask(tmp_path, chat(server), requests(100), budget=Budget(calls=200))
        assert all(isinstance(answer, Completion) for answer in answers)
        assert len(server.bodies) == 110


def test_7_the_money_cap_holds_within_what_is_under_way(tmp_path: Path) -> None:
    prices = {"m": Price(input=1000.0, output=3000.0)}  # 10 tokens in and out: 0.04 a call
    with FaultyServer(latency=0.005) as server:
        with pytest.raises(BudgetError, match=r"budget\.money is reached"):
            ask(tmp_path, chat(server, concurrency=8), requests(500), budget=Budget(money=1.0), prices=prices)
        with CallStore.open(tmp_path) as store:
            assert 1.0 <= store.ledger.cost <= 1.0 + 8 * 0.04 + 1e-9
            assert store.ledger.calls == len(server.bodies)
        with pytest.raises(RecipeError, match="the price of 'm' is unknown"):
            ask(tmp_path, chat(server), requests(1), budget=Budget(money=1.0))


def test_7_the_money_cap_holds_where_no_server_says_how_many_tokens(tmp_path: Path) -> None:
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


def test_7_a_torn_answer_counts_as_paid(tmp_path: Path) -> None:
    prices = {"m": Price(input=1.0, output=1.0)}
    with FaultyServer(fault=lambda n, body: "torn" if n == 0 else None) as server:
        ask(tmp_path, chat(server), requests(1), prices=prices)
        with CallStore.open(tmp_path) as store:
            assert store.ledger.charged == pytest.approx((2 + 8 + 64) / 1e6)
            assert store.ledger.cost == pytest.approx(20 / 1e6)


def test_7_a_cap_that_stopped_a_run_stops_the_next_one_before_it_sends_anything(tmp_path: Path) -> None:
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


def test_7_what_ctrl_c_cuts_off_counts_as_paid(tmp_path: Path) -> None:
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


def test_ctrl_c_keeps_every_finished_answer(tmp_path: Path) -> None:
    with FaultyServer(latency=0.02) as server:
        process = client(tmp_path, server.url, 1000)
        while len(server.bodies) < 100:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=300)
        assert "KeyboardInterrupt" in error
        assert _stored_count(tmp_path) >= len(server.bodies) - 32


def test_11_a_key_reaches_no_file_no_log_and_no_error(
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


def test_11_no_key_in_an_address_and_no_unset_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must not hold a key"):
        Chat(model="m", base_url="http://user:secret@localhost/v1")
    with pytest.raises(ModelError, match="NO_SUCH_KEY is not set"):
        ask(tmp_path, Chat(model="m", base_url="http://localhost/v1", key_env="NO_SUCH_KEY"), requests(1))


def test_a_hundred_thousand_stored_calls_are_found_again_without_holding_them(tmp_path: Path) -> None:
    with CallStore.open(tmp_path) as store:
        for start in range(0, 100_000, 10_000):
            store.put(
                [
                    Stored(f"k{i}", "m", {"messages": [["user", "q" * 200]]}, {"text": "a" * 100})
                    for i in range(start, start + 10_000)
                ]
            )
    tracemalloc.start()
    with CallStore.open(tmp_path) as store:
        found = sum(len(store.find([f"k{i}" for i in range(start, start + 1000)])) for start in range(0, 100_000, 1000))
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == 100_000
    assert peak < 20e6, "the rows alone are over 40 MB"
    assert sqlite3.sqlite_version_info < (3, 51, 3) or not list(tmp_path.glob("*-wal"))
