"""The one store of calls: an answer that was given once is never asked for again, whatever happens in between.

``calls.sqlite`` has one writer and one row a call: the key (everything that changes the answer), the answer as JSON
and a hash over both. A flipped byte costs exactly its own call; a torn file is refused with the command that salvages
it. Below SQLite 3.51.3 the rollback journal is used, because of the WAL-reset race of earlier versions.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import RLock
from typing import Any

from quipwright.core.errors import DamagedError, DiskError
from quipwright.core.progress import console
from quipwright.core.storage.files import disk_errors, locked
from quipwright.core.storage.sealed_files import write_sealed
from quipwright.llm.call_rows import (
    SPENT,
    Failed,
    Spending,
    Stored,
    read_note,
    read_row,
    read_text,
    row_hash,
    spent_by_stage,
)
from quipwright.llm.costs import CostLedger, Spent
from quipwright.llm.write_ahead_log import Row, Tail

FILE = "calls.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    row INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, value TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS failures (
    row INTEGER PRIMARY KEY, key TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL, status INTEGER,
    attempts INTEGER NOT NULL, charged REAL NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL, hash TEXT NOT NULL);
"""
_LOOKUP = 500
_SALVAGED = "spent on the store that this one was salvaged from"
_DAMAGED = "answers that were damaged and dropped"


class CallStore:
    """An open ``calls.sqlite``. Use :meth:`open`, which takes the lock and checks the file."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Wrap an open, checked connection."""
        self.path = path
        self.tail = Tail(path.parent)
        self.ledger = CostLedger()
        self.stage: Callable[[], str] = str  # what goes on now, for the account of its calls
        self._noted = False  # whether the file beside the store says that there are calls
        self._db = connection
        self._lock = RLock()  # several threads ask, one connection writes
        self._rows: dict[str, Row] = {}  # of answers handed over and not yet committed

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[CallStore]:
        """The store of run folder ``folder``, made if there is none.

        Raises :class:`RunError` when another process has it open (naming the PID), :class:`DamagedError` when the
        file is torn, and :class:`DiskError` when it cannot be written.
        """
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with store_lock(folder), cls.connect(folder / FILE) as store:
            store._take_over()
            store._count()
            store._check_nothing_vanished()
            try:
                yield store
            finally:
                store._note_spent()

    @classmethod
    @contextmanager
    def connect(cls, path: Path) -> Iterator[CallStore]:
        """The store in file ``path`` of a folder whose lock the caller holds; nothing is taken over or counted."""
        with _storage_errors(path):
            connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            try:
                _prepare(connection)
                store = cls(path, connection)
                try:
                    yield store
                finally:
                    store.tail.close()
            finally:
                connection.close()

    def find(self, keys: Sequence[str]) -> dict[str, Stored]:
        """The stored answers among ``keys``; a row that does not match its hash is dropped and asked for again."""
        found: dict[str, Stored] = {}
        with self._lock, _storage_errors(self.path):
            for start in range(0, len(keys), _LOOKUP):
                part = list(keys[start : start + _LOOKUP])
                query = f"SELECT key, value, hash FROM calls WHERE key IN ({','.join('?' * len(part))})"
                for key, value, hashed in self._db.execute(query, part):
                    if (stored := read_row(key, value, hashed)) is not None:
                        found[key] = stored
        return found

    def put(self, answers: Sequence[Stored], failures: Sequence[Failed] = ()) -> None:
        """Store ``answers`` and ``failures`` in one transaction: they are on disk when this returns."""
        rows = [self._rows.pop(a.key) if a.key in self._rows else self._row(a) for a in answers]
        now = time.time()
        with self._lock, _storage_errors(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR REPLACE INTO calls (key, value, hash) VALUES (?, ?, ?)", rows)
                self._db.executemany(
                    "INSERT INTO failures (key, model, reason, status, attempts, charged, at) VALUES (?,?,?,?,?,?,?)",
                    [(f.key, f.model, f.reason, f.status, f.attempts, f.charged, now) for f in failures],
                )
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        if rows and not self._noted:
            self._note_spent(at_least=1)

    def hand_over(self, answer: Stored) -> None:
        """Give ``answer`` to the system without waiting for the disk: a killed process does not lose it any more."""
        row = self._rows[answer.key] = self._row(answer)
        self.tail.append(row)

    def _row(self, answer: Stored) -> Row:
        value = (answer if answer.stage else replace(answer, stage=self.stage())).value()
        return answer.key, value, row_hash(answer.key, value)

    def failures(self) -> list[Failed]:
        """Every request given up on so far, oldest first."""
        return [failed for failed in self._unanswered() if failed.given_up]

    def _unanswered(self) -> list[Failed]:
        with self._lock, _storage_errors(self.path):
            rows = self._db.execute("SELECT key, model, reason, status, attempts, charged FROM failures ORDER BY row")
            return [Failed(*row) for row in rows]

    def note(self, name: str) -> Any:
        """A stored fact (capabilities found by a probe, a batch's id), or ``None``."""
        with self._lock, _storage_errors(self.path):
            row = self._db.execute("SELECT value, hash FROM notes WHERE name = ?", (name,)).fetchone()
        return read_note(name, *row) if row else None

    def set_note(self, name: str, value: Any) -> None:
        """Store a fact; it is on disk when this returns."""
        text = json.dumps(value)
        with self._lock, _storage_errors(self.path):
            self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (name, text, row_hash(name, text)))

    def rows(self) -> Iterator[Stored]:
        """Every good row, oldest first, one at a time."""
        last = 0
        query = "SELECT row, key, value, hash FROM calls WHERE row > ? ORDER BY row LIMIT ?"
        while True:
            with self._lock, _storage_errors(self.path):
                page = self._db.execute(query, (last, _LOOKUP)).fetchall()
            yield from (stored for _, *row in page if (stored := read_row(*row)) is not None)
            if len(page) < _LOOKUP:
                return
            last = page[-1][0]

    def spent(self) -> list[Spent]:
        """What was spent, by stage and model in the order of their first answers; what was not answered comes last, with
        the answers that were damaged."""
        return spent_by_stage(self.rows(), self._unanswered(), int(self.note(_DAMAGED) or 0))

    def _take_over(self) -> None:
        """Store what an earlier process had been given but not yet committed."""
        rows = [row for key, value, hashed in self.tail.leftover() if (row := read_row(key, value, hashed)) is not None]
        if rows:
            self.put(rows)
        self.tail.clear()

    def _count(self) -> None:
        """Totals so far; rows that do not match their hash are deleted, so that they are asked for again."""
        bad: list[str] = []
        for key, value, hashed in self._db.execute("SELECT key, value, hash FROM calls"):
            stored = read_row(key, value, hashed)
            if stored is None:
                bad.append(key)
            else:
                self.add(stored, counted=False)
        for key in bad:
            self._db.execute("DELETE FROM calls WHERE key = ?", (key,))
        if bad:
            self.set_note(_DAMAGED, int(self.note(_DAMAGED) or 0) + len(bad))
            console.print(f"{self.path}: {len(bad)} damaged answers are asked for again where they are needed.")
        for failure in self._unanswered():
            self.ledger.failures += failure.given_up
            self.ledger.attempts += failure.attempts
            self.ledger.charged += failure.charged

    def _check_nothing_vanished(self) -> None:
        """Raises :class:`DamagedError` where the store is empty though calls were made. What was spent on answers that are
        lost still counts."""
        if (salvaged := self.note(_SALVAGED)) is not None:
            self._add_spending(Spending(**salvaged))
        spent = Spending.beside(self.path)
        if spent is None:
            return
        if spent.attempts and not self.ledger.attempts:
            raise DamagedError(
                f"{self.path} holds no calls, but {spent.attempts} were made; nothing was sent.",
                f"Restore it from a copy, or keep what is readable with: python -m quipwright.llm.recover {self.path} "
                "(the rest is asked and paid for again).",
            )
        self._add_spending(spent)

    def _add_spending(self, spent: Spending) -> None:
        self.ledger.attempts = max(self.ledger.attempts, spent.attempts)
        self.ledger.charged += max(0.0, spent.money - self.ledger.spent)

    def _note_spent(self, at_least: int = 0) -> None:
        """Put down beside the store what was spent. A disk that is too full for that is noticed elsewhere."""
        attempts = max(at_least, self.ledger.attempts)
        if attempts:
            with suppress(DiskError):
                spent = {"attempts": attempts, "money": self.ledger.spent}
                write_sealed(self.path.with_name(SPENT), spent)
                self._noted = True

    def salvaged(self, spent: Spending | None) -> None:
        """This store holds what could be read of one on which ``spent`` was spent."""
        if spent is not None:
            self.set_note(_SALVAGED, asdict(spent))

    def add(self, stored: Stored, *, counted: bool) -> None:
        """Put one answer in the ledger; ``counted`` where its attempts and charges already are."""
        ledger = self.ledger
        ledger.calls += 1
        ledger.tokens_in += stored.tokens_in or 0
        ledger.tokens_out += stored.tokens_out or 0
        if not counted:
            ledger.attempts += stored.attempts
            ledger.charged += stored.charged
        if stored.cost is None:
            ledger.unpriced += 1
        else:
            ledger.cost += stored.cost


def _prepare(connection: sqlite3.Connection) -> None:
    connection.text_factory = read_text
    mode = "WAL" if sqlite3.sqlite_version_info >= (3, 51, 3) else "TRUNCATE"
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("PRAGMA synchronous=FULL")
    problems = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
    if problems != ["ok"]:
        raise sqlite3.DatabaseError(str(problems[0]))
    connection.executescript(_SCHEMA)


@contextmanager
def store_lock(folder: Path) -> Iterator[None]:
    """Hold the lock on the store of run folder ``folder``. Raises :class:`RunError` when another process has it."""
    with locked(folder / "calls.lock", str(folder), "Wait for it to end."):
        yield


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """SQLite's errors as ours: a full disk, a forbidden file, or a file that is no longer a database."""
    try:
        yield
    except sqlite3.OperationalError as error:
        reason = str(error)
        if "malformed" not in reason:
            raise DiskError(
                f"could not write {path}: {reason}.",
                "Free some space (or mend the permissions) and run the same command again; stored answers are kept.",
            ) from None
        raise _damaged(path, error) from None
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DamagedError:
    return DamagedError(
        f"{path} is damaged ({str(error).splitlines()[0][:80]}); nothing was sent.",
        f"Keep what is readable with: python -m quipwright.llm.recover {path} (or restore the file from a copy).",
    )
