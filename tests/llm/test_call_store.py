"""The store of calls: full disks, flipped bytes, a second process, and a store that vanished."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from quipwright.core.errors import BudgetError, DamagedError, DiskError, RunError
from quipwright.core.records import Sampling
from quipwright.core.storage.sealed_files import read_sealed
from quipwright.llm.call_rows import SPENT, Stored
from quipwright.llm.call_store import FILE, CallStore
from quipwright.llm.calls import Calls
from quipwright.llm.costs import Budget, Price
from quipwright.llm.types import Capabilities, Completion, Message, Request
from quipwright.testing.asking import ask, asking_process, chat, requests, stored_count
from quipwright.testing.faulty_server import FaultyServer


def empty(path: Path) -> None:
    path.write_bytes(b"")


def drop_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE calls")


def empty_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM calls")


@pytest.mark.parametrize("lose", [empty, drop_table, empty_table, Path.unlink])
def test_a_store_that_vanished_is_refused_and_what_was_spent_still_counts(lose: object, tmp_path: Path) -> None:
    budget, prices = Budget(calls=30), {"m": Price(input=0, output=0, call=1.0)}
    with FaultyServer() as server:
        ask(tmp_path, chat(server), requests(20), budget=budget, prices=prices)
        lose(tmp_path / FILE)  # type: ignore[operator]
        for _ in range(2):  # looking at it does not make it good
            with pytest.raises(DamagedError, match=r"holds no calls, but 20 were made; nothing was sent\. Restore it"):
                ask(tmp_path, chat(server), requests(20), budget=budget, prices=prices)
        assert len(server.bodies) == 20
        command = [sys.executable, "-m", "quipwright.llm.recover", str(tmp_path / FILE)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("0 answers kept")
        with pytest.raises(BudgetError, match="30 of 30 calls were made"):
            ask(tmp_path, chat(server), requests(20), budget=budget, prices=prices)
        assert len(server.bodies) == 30
    with CallStore.open(tmp_path) as store:
        assert (store.ledger.attempts, store.ledger.spent) == (30, 30.0)


def test_a_store_that_was_never_used_is_no_loss(tmp_path: Path) -> None:
    for _ in range(2):
        with CallStore.open(tmp_path) as store:
            store.set_note("capabilities", {})
        (tmp_path / FILE).unlink()
    assert not (tmp_path / SPENT).exists()


def test_a_note_of_what_was_spent_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with CallStore.open(tmp_path) as store:
        store.put([Stored("k", "m", {}, {"text": "a"})])
    for content in ("", "[]", '{"attempts": "many", "money": 0}'):
        (tmp_path / SPENT).write_text(content)
        with pytest.raises(DamagedError, match=SPENT), CallStore.open(tmp_path):
            pass


def test_a_flipped_answer_is_told_counts_as_spent_and_is_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = {"m": Price(input=0, output=0, call=1.0)}
    with FaultyServer() as server:
        ask(tmp_path, chat(server), requests(5), prices=prices)
        raw = (tmp_path / FILE).read_bytes()
        (tmp_path / FILE).write_bytes(raw.replace(b"answer to q3", b"ANSWER to q3"))
        ask(tmp_path, chat(server), requests(5), prices=prices)
        assert server.times()["q3"] == 2
    assert "1 damaged answers are asked for again where they are needed" in " ".join(capsys.readouterr().err.split())
    assert read_sealed(tmp_path / SPENT) == {"attempts": 6, "money": 6.0}
    with CallStore.open(tmp_path) as store:
        assert [(spent.stage, spent.calls, spent.cost) for spent in store.spent()] == [
            ("", 5, 5.0),
            ("damaged", 1, None),
        ]


def test_threads_that_ask_the_same_pay_for_it_once(tmp_path: Path) -> None:
    answers: list[list[object]] = []
    with FaultyServer() as server, Calls.open(tmp_path) as calls:
        server.hold = lambda number: len(threads) < 8  # all of them ask before the first answer comes
        model = chat(server, capabilities=Capabilities()).build(calls)
        threads: list[threading.Thread] = []
        for _ in range(8):
            threads.append(threading.Thread(target=lambda: answers.append(model.complete_many(requests(20)))))
            threads[-1].start()
        for thread in threads:
            thread.join(60)
        assert set(server.times().values()) == {1}
    assert len(answers) == 8
    assert all(isinstance(answer, Completion) for found in answers for answer in found)
    assert all([answer.text for answer in found] == [f"answer to q{i}" for i in range(20)] for found in answers)  # type: ignore[attr-defined]


def test_what_one_thread_could_not_ask_the_others_ask_themselves(tmp_path: Path) -> None:
    with Calls.open(tmp_path) as calls:
        begun, go_on = threading.Event(), threading.Event()

        def fails(missing: object) -> dict[str, Stored]:
            begun.set()
            assert go_on.wait(60)
            raise BudgetError("no money")

        def works(missing: list[tuple[str, object]]) -> dict[str, Stored]:
            return {key: Stored(key, "m", {}, {"text": "a"}) for key, _ in missing}

        caught: list[Exception] = []

        def first() -> None:
            try:
                calls.collect({}, requests(1), fails)  # type: ignore[arg-type]
            except BudgetError as error:
                caught.append(error)

        thread = threading.Thread(target=first)
        thread.start()
        assert begun.wait(60)
        timer = threading.Timer(0.05, go_on.set)
        timer.start()
        (row,) = calls.collect({}, requests(1), works)  # type: ignore[arg-type]
        thread.join(60)
    assert isinstance(row, Stored)
    assert len(caught) == 1


def test_a_full_disk_is_one_line_and_the_store_resumes(tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    with FaultyServer() as server:
        process = asking_process(tmp_path, server.url, 1000, preexec_fn=small_files)
        _, error = process.communicate(timeout=300)
        assert process.returncode != 0
        assert "DiskError: could not write" in error.strip().splitlines()[-1]
        assert 0 < stored_count(tmp_path) < 1000
        assert all(isinstance(a, Completion) for a in ask(tmp_path, chat(server), requests(1000)))
        assert sum(server.times().values()) - 1000 <= 2 * 32


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises((DiskError, OSError)), Calls.open(tmp_path / "file"):
        pass


def test_one_flipped_row_repeats_exactly_its_call(tmp_path: Path) -> None:
    with FaultyServer() as server:
        ask(tmp_path, chat(server), requests(50))
        raw = (tmp_path / FILE).read_bytes()
        spot = raw.index(b"answer to q31")
        (tmp_path / FILE).write_bytes(raw[:spot] + b"A" + raw[spot + 1 :])
        server.bodies.clear()
        answers = ask(tmp_path, chat(server), requests(50))
        assert dict(server.times()) == {"q31": 1}
        assert answers[31].text == "answer to q31"  # type: ignore[union-attr]


def test_no_database_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(DamagedError), Calls.open(tmp_path):
        pass


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


def test_a_second_process_leaves_at_once_and_a_stale_lock_does_not_block(tmp_path: Path) -> None:
    killed = threading.Event()
    with FaultyServer(hang=300) as server:
        server.hold = lambda number: not killed.is_set()  # nothing is answered before the first process is gone
        first = asking_process(tmp_path, server.url, 200)
        while not server.bodies:
            time.sleep(0.01)
        with pytest.raises(RunError, match=f"in use by process {first.pid}"):
            ask(tmp_path, chat(server), [Request((Message("user", "extra"),), Sampling())])
        assert first.poll() is None  # nobody waited for it to end
        assert "extra" not in server.times()
        assert len(server.bodies) <= 32
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
        killed.set()
        ask(tmp_path, chat(server), requests(1))


@pytest.mark.slow
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
        count = sum(len(store.find([f"k{i}" for i in range(start, start + 1000)])) for start in range(0, 100_000, 1000))
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 20e6, "the rows alone are over 40 MB"
    assert sqlite3.sqlite_version_info < (3, 51, 3) or not list(tmp_path.glob("*-wal"))
