"""The results of a run's stages on disk: rows or checkpoints, made once, sealed with hashes, safe to kill at any instant.

A stage's folder is ``<stage>-<part>-<key>``; the key hashes its settings and inputs. So a finished stage is free to run
again, and runs that share a stage make it once. Row stages append ``rows.jsonl`` in chunks, each closed by a marker
line: a torn chunk is cut off and made again. Built stages (checkpoints) grow in a ``.partial`` folder that is renamed
when complete. ``done.json`` seals both with the SHA-256 of their files and a hash of itself. Of several processes the
first makes what cannot be shared out (see ``shares``), and the others wait for it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from quipwright.core.errors import QuipwrightError
from quipwright.core.log import detail
from quipwright.core.records import Record, content_hash
from quipwright.core.storage.files import AppendOnly, damaged, disk_errors, locked
from quipwright.core.storage.ranks import ALONE, Ranks, wait_for
from quipwright.core.storage.seals import SEAL, check_seal, seal, sealed_content
from quipwright.core.storage.shares import MARKER, Parts, begun, make_share, marker, merged, remove_shares, whole_chunks

R = TypeVar("R", bound=Record)
Chunks = Callable[[int], Iterator[Sequence[R]]]
"""``chunks(start)`` yields the rows of each chunk from number ``start`` on: the same ones whatever ``start`` is."""
FORMAT = 2
"""Part of every key: results of another format are never read back."""
ROWS = "rows.jsonl"
_SECONDS = "seconds"  # of a stage that is not finished, by invocations that were interrupted


@dataclass(frozen=True)
class StageKey:
    """What a stage's result depends on. ``stage`` is its kind (``sample``), ``part`` which one (``1``)."""

    stage: str
    part: str
    inputs: tuple[Any, ...]

    @property
    def name(self) -> str:
        """The name that people read: ``sample-1``."""
        return f"{self.stage}-{self.part}" if self.part else self.stage

    @property
    def folder(self) -> str:
        """The name of the folder of the result."""
        return f"{self.name}-{content_hash(FORMAT, self.stage, self.part, *self.inputs)}"


class StageTime(BaseModel):
    """One line of the run's diary: seconds of this invocation; ``skipped`` where the stage was found finished.

    ``took``: seconds that making the stage took in all invocations (killed ones left out); ``None`` is unknown.
    ``stage`` is its kind. ``folder``: where the result is, in the folder of stages.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    stage: str
    seconds: float
    skipped: bool
    took: float | None = None
    folder: str = ""


class StageReached(Exception):  # noqa: N818 - a signal, not an error
    """The stage that ``until`` names is finished: the run stops here, as asked."""


@dataclass
class StageCache:
    """The stages in ``folder``. ``shared``: other runs use it too, so each stage that is made is locked.

    ``ranks``: which process of the run this is.
    ``times`` is the diary of this invocation; it is written here and read by the summary, and no stage reads it.
    """

    folder: Path
    shared: bool = False
    until: str | None = None
    ranks: Ranks = ALONE
    on_stage: Callable[[str, bool], None] = lambda name, skipped: None
    times: list[StageTime] = field(default_factory=list)
    current: str = ""

    def rows(
        self,
        key: StageKey,
        kind: type[R],
        chunks: Chunks[R],
        *,
        check: Callable[[Sequence[R]], None] = lambda rows: None,
        done: Callable[[list[R]], None] = lambda rows: None,
    ) -> list[R]:
        """The rows of stage ``key``, made by ``chunks`` if they are not there.

        What ``check`` raises goes to the caller, and the rows are made anew by the next run instead of being sealed.
        ``done`` sees the rows before a run that was to stop here stops.
        """
        folder, started = self.folder / key.folder, time.monotonic()
        if (folder / SEAL).exists():
            rows = read_sealed_rows(folder, kind)
            done(rows)
            self._note(key, started, _took(folder), made=False)
            return rows
        self._announce(key)
        if not self.ranks.first:
            if isinstance(chunks, Parts):
                make_share(folder, ROWS, kind, chunks, self.ranks)
            rows = read_sealed_rows(self._made_by_first(folder), kind)
            self._note(key, started, None, made=True)
            return rows
        with self._lock(folder), _clock(folder) as took:
            if isinstance(chunks, Parts) and (self.ranks.world > 1 or begun(folder)):
                make_share(folder, ROWS, kind, chunks, self.ranks)
                rows = merged(folder, ROWS, kind, chunks, self.ranks)
            else:
                rows = self._append(folder, kind, chunks)
            try:
                check(rows)
            except QuipwrightError:
                (folder / ROWS).unlink()
                remove_shares(folder)
                raise
            seal(folder, [ROWS], {"rows": len(rows)}, took())
            (folder / _SECONDS).unlink(missing_ok=True)
            remove_shares(folder)
        done(rows)
        self._note(key, started, took(), made=True)
        return rows

    @staticmethod
    def _append(folder: Path, kind: type[R], chunks: Chunks[R]) -> list[R]:
        rows, chunk = _whole_chunks(folder / ROWS, kind)
        file = AppendOnly(folder / ROWS)
        try:
            for made in chunks(chunk):
                rows.extend(made)
                file.append([*(record.to_line() for record in made), marker(chunk, len(made))])
                chunk += 1
        finally:
            file.close()
        return rows

    def built(
        self, key: StageKey, build: Callable[[Path], Mapping[str, Any]], *, together: bool = False
    ) -> tuple[Path, dict[str, Any]]:
        """The folder of a built stage and the facts that ``build`` returned.

        ``build`` fills a folder that may hold its own resumable state (``resume/``) from an interrupted run. With
        ``together`` every process of the run calls it, and only the first one writes there.
        """
        folder, started = self.folder / key.folder, time.monotonic()
        if (folder / SEAL).exists():
            facts = check_seal(folder)
            self._note(key, started, _took(folder), made=False)
            return folder, facts
        self._announce(key)
        partial = folder.with_name(folder.name + ".partial")
        if not self.ranks.first:
            if together:
                build(partial)
            facts = check_seal(self._made_by_first(folder))
            self._note(key, started, None, made=True)
            return folder, facts
        with self._lock(folder), _clock(partial) as took, disk_errors(partial):
            facts = dict(build(partial))
            shutil.rmtree(partial / "resume", ignore_errors=True)
            names = sorted(
                str(p.relative_to(partial)) for p in partial.rglob("*") if p.is_file() and p.name != _SECONDS
            )
            seal(partial, names, facts, took())
            (partial / _SECONDS).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)  # without its seal: the rest of a copy that was cut short
            os.replace(partial, folder)
        self._note(key, started, took(), made=True)
        return folder, dict(sealed_content(folder)["facts"])

    @staticmethod
    def _made_by_first(folder: Path) -> Path:
        """``folder`` once the first process has sealed it."""
        wait_for(folder / SEAL)
        return folder

    def _lock(self, folder: Path) -> AbstractContextManager[None]:
        if not self.shared:
            return nullcontext()
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return locked(folder.with_name(f".{folder.name}.lock"), f"Stage {folder.name}", "Wait for that run to finish.")

    def _announce(self, key: StageKey) -> None:
        self.current = key.name
        self.on_stage(key.name, False)

    def _note(self, key: StageKey, started: float, took: float | None, *, made: bool) -> None:
        seconds = round(time.monotonic() - started, 3)
        self.times.append(
            StageTime(name=key.name, stage=key.stage, seconds=seconds, skipped=not made, took=took, folder=key.folder)
        )
        if not made:
            self.on_stage(key.name, True)
        else:
            detail(f"{key.name}: made in {seconds:.1f} s, kept in {self.folder / key.folder}")
        if self.until == key.stage:
            raise StageReached(key.name)


def single_chunk(make: Callable[[], Sequence[R]]) -> Chunks[R]:
    """The chunks of a stage that is made in one go."""
    return lambda start: iter([make()] if start == 0 else [])


def _whole_chunks(path: Path, kind: type[R]) -> tuple[list[R], int]:
    """Rows of the complete chunks, and how many chunks there are; whatever follows the last good one is cut off."""
    if not path.exists():
        return [], 0
    with disk_errors(path):
        found, end = whole_chunks(path.read_bytes(), kind)
        with open(path, "r+b") as file:
            file.truncate(end)
    return [row for rows in found.values() for row in rows], len(found)


def read_sealed_rows(folder: Path, kind: type[R]) -> list[R]:
    """The rows of a finished row stage, read through its seal. Raises :class:`DamagedError`."""
    check_seal(folder)
    path = folder / ROWS
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
        return [kind.from_line(line) for line in lines if line and not line.startswith(MARKER)]
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from None


@contextmanager
def _clock(folder: Path) -> Iterator[Callable[[], float]]:
    """Make ``folder`` if there is none, and count seconds of work on it; an interrupted invocation leaves its own to
    the next."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    note, started, before = folder / _SECONDS, time.monotonic(), 0.0
    with suppress(OSError, ValueError):
        before = float(note.read_text(encoding="utf-8"))

    def took() -> float:
        return round(before + time.monotonic() - started, 3)

    try:
        yield took
    except BaseException:
        with suppress(OSError):
            note.write_text(f"{took()}", encoding="utf-8")
        raise


def _took(folder: Path) -> float | None:
    """Seconds that making the sealed stage in ``folder`` took."""
    try:
        return float(sealed_content(folder)["seconds"])
    except (KeyError, TypeError, ValueError):
        return None
