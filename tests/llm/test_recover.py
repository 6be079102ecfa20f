"""Salvage: what is readable of a torn store is kept."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from quipwright.core.errors import DamagedError, RunError
from quipwright.llm.call_rows import UNFINISHED, Failed, Stored
from quipwright.llm.call_store import FILE, CallStore
from quipwright.llm.recover import salvage
from quipwright.testing.asking import ask, chat, requests
from quipwright.testing.faulty_server import FaultyServer


def test_half_a_file_is_refused_and_salvaged(tmp_path: Path) -> None:
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
