"""The run folder: one folder an arrow, appended in whole chunks, sealed with a hash, safe to kill at any instant.

``arrows/<name>-<key>/`` holds an arrow's result; the key hashes the arrow's settings and inputs, so that a finished
arrow is free to run again and variants that share an arrow run it once. Row arrows append ``rows.jsonl`` chunk by
chunk, each closed by a marker line: a torn chunk is cut off and made again. Built arrows (checkpoints) are made in a
``.partial`` folder that is renamed when complete. ``done.json`` seals both with sizes and SHA-256.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from quipwright.core.errors import DamagedError, QuipwrightError, RunError
from quipwright.core.records import Record, Response, content_hash
from quipwright.core.storage.files import disk_errors, file_sha256, locked, write_atomic

R = TypeVar("R", bound=Record)
Chunks = Callable[[int], Iterator[Sequence[Record]]]
ARROWS = "arrows"
_SECONDS = "seconds"  # of an arrow that is not finished, by invocations that were interrupted


@dataclass
class StageTime:
    """One line of the run's diary: seconds of this invocation; ``skipped`` where the arrow was found finished.

    ``took``: seconds that making the arrow took, in whichever invocations (but for those that were killed); ``None``
    where the seal does not say.
    """

    name: str
    seconds: float
    skipped: bool
    took: float | None = None


def arrows_of(run: Path) -> Path:
    """Where the arrows of the run in folder ``run`` are: in it, or beside it where an experiment's runs share them."""
    own = run / ARROWS
    return own if own.is_dir() else run.resolve().parent / ARROWS


class StageReached(Exception):  # noqa: N818 - a signal, not an error
    """The stage that ``until`` names is finished: the run stops here, as asked."""


@dataclass
class RunFolder:
    """An open run folder. Use :meth:`open`, which takes the lock and checks the manifest."""

    path: Path
    shared: Path | None = None
    stages: list[StageTime] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    unanswered: dict[str, int] = field(default_factory=dict)
    until: str | None = None
    current: str = ""
    resources: ExitStack = field(default_factory=ExitStack)
    on_stage: Callable[[str, bool], None] | None = None

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        recipe: dict[str, Any],
        *,
        identity: dict[str, Any] | None = None,
        shared: Path | None = None,
    ) -> Iterator[RunFolder]:
        """Open or create the folder for ``recipe`` (its settings as JSON), of which ``identity`` (all of it unless
        given) must be that of the recipe the folder was made for.

        Raises :class:`RunError` when another process holds it (naming the PID) or when it belongs to another recipe.
        """
        with disk_errors(path):
            try:
                path.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise RunError(f"{path} is a file, not a run folder.", "Name another folder with --run.") from None
        run = cls(path, shared)
        with locked(path / "lock", str(path), "Wait for it, or choose another --run folder."), run.resources:
            run._check_identity(recipe, recipe if identity is None else identity)
            yield run

    def _check_identity(self, recipe: dict[str, Any], identity: dict[str, Any]) -> None:
        manifest, key = self.path / "manifest.json", content_hash(identity)
        if manifest.exists():
            held = json.loads(manifest.read_text(encoding="utf-8"))
            if held.get("identity") != key:
                raise RunError(
                    f"{self.path} holds a run of another recipe ({held.get('name')!r}, settings {held.get('identity')}; now {key}).",
                    "Use its own recipe, or name a new folder with --run.",
                )
            return
        others = [
            entry.name for entry in self.path.iterdir() if entry.name not in ("lock", "lock.pid", "manifest.json.tmp")
        ]
        if others:
            raise RunError(
                f"{self.path} is not a run folder: it holds {sorted(others)[0]!r}.", "Name a new or empty folder."
            )
        manifest_text = {"name": recipe.get("name"), "identity": key, "recipe": recipe}
        write_atomic(manifest, json.dumps(manifest_text, indent=2, ensure_ascii=False))

    def manifest(self) -> dict[str, Any]:
        """What the folder belongs to, and what was recorded of it."""
        return dict(json.loads((self.path / "manifest.json").read_text(encoding="utf-8")))

    def record(self, name: str, fact: Any) -> None:
        """Write a ``fact`` of how the run is made into its manifest; it is no part of what identifies the run."""
        manifest = self.manifest()
        if manifest.get(name) != fact:
            text = json.dumps({**manifest, name: fact}, indent=2, ensure_ascii=False)
            write_atomic(self.path / "manifest.json", text)

    @property
    def arrows(self) -> Path:
        """The folder of arrows: the run's own, or the one an experiment's variants share."""
        return self.shared or self.path / ARROWS

    @property
    def calls(self) -> Path:
        """The folder of the store of calls: where the folder of arrows is."""
        return self.arrows.parent

    @property
    def account(self) -> str:
        """What the stages of this run begin with in a store of calls that others share."""
        return f"{self.path.name}/" if self.shared else ""

    def rows(
        self,
        name: str,
        kind: type[R],
        key: Sequence[Any],
        chunks: Chunks,
        check: Callable[[Sequence[R]], None] = lambda rows: None,
        tell: Callable[[list[R]], None] = lambda rows: None,
    ) -> list[R]:
        """The rows of arrow ``name``, made by ``chunks`` if they are not there; ``tell`` sees them before a run that
        was to stop here does.

        ``chunks(start)`` yields lists of records from chunk number ``start`` on and must give the same chunks whatever
        ``start`` is: that is what makes a resumed arrow equal to an uninterrupted one. What ``check`` raises goes to
        the caller, and the rows are made anew by the next run instead of being sealed.
        """
        folder = self.arrows / f"{name}-{content_hash(name, *key)}"
        started = time.monotonic()
        if (folder / "done.json").exists():
            found = _read_sealed(folder, kind)
            tell(found)
            self._done(name, found, started, _took(folder))
            return found
        self._announce(name)
        with disk_errors(folder), _clock(folder) as took:
            kept, chunk = _cut_torn_chunk(folder / "rows.jsonl")
            rows: list[R] = [kind.from_line(line) for line in kept]
            with open(folder / "rows.jsonl", "a", encoding="utf-8") as file:
                for made in chunks(chunk):
                    rows.extend(made)  # type: ignore[arg-type]
                    lines = [record.to_line() for record in made] + [json.dumps({"chunk": chunk, "rows": len(made)})]
                    file.write("\n".join(lines) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                    chunk += 1
            try:
                check(rows)
            except QuipwrightError:
                (folder / "rows.jsonl").unlink()
                raise
            _seal(folder, ["rows.jsonl"], {"rows": len(rows)}, took())
        tell(rows)
        self._done(name, rows, started, took(), made=True)
        return rows

    def built(
        self, name: str, key: Sequence[Any], build: Callable[[Path], dict[str, Any]]
    ) -> tuple[Path, dict[str, Any]]:
        """The folder of a built arrow and the facts ``build`` returned; ``build`` fills a folder that may hold its own
        resumable state from an interrupted run."""
        folder = self.arrows / f"{name}-{content_hash(name, *key)}"
        started = time.monotonic()
        if (folder / "done.json").exists():
            facts = _check_seal(folder)
            self._note(name, started, _took(folder))
            return folder, facts
        self._announce(name)
        partial = folder.with_name(folder.name + ".partial")
        with disk_errors(folder), _clock(partial) as took:
            facts = build(partial)
            shutil.rmtree(partial / "resume", ignore_errors=True)
            names = sorted(
                str(p.relative_to(partial)) for p in partial.rglob("*") if p.is_file() and p.name != _SECONDS
            )
            _seal(partial, names, facts, took())
            os.replace(partial, folder)
        self._note(name, started, took(), made=True)
        return folder, facts

    def log(self, name: str, facts: dict[str, Any]) -> None:
        """Keep the facts of a built arrow for the summary."""
        self.facts[name] = facts

    def _announce(self, name: str) -> None:
        self.current = name
        if self.on_stage:
            self.on_stage(name, False)

    def _done(
        self, name: str, rows: Sequence[Record], started: float, took: float | None, *, made: bool = False
    ) -> None:
        if statuses := [row.status.value for row in rows if isinstance(row, Response) and not row.usable]:
            self.dropped[name] = statuses
        self._note(name, started, took, made=made)

    def _note(self, name: str, started: float, took: float | None, *, made: bool = False) -> None:
        self.stages.append(StageTime(name, round(time.monotonic() - started, 3), not made, took))
        if not made and self.on_stage:
            self.on_stage(name, True)
        if self.until is not None and name.split("-")[0] == self.until:
            raise StageReached(name)


def stored_rows(arrows: Path, name: str, kind: type[R]) -> list[R]:
    """The rows of all finished arrows ``name-…`` in folder ``arrows``. Raises :class:`DamagedError` as a run does."""
    folders = [seal.parent for seal in sorted(arrows.glob(f"{name}-*/done.json"))]
    return [row for folder in folders for row in _read_sealed(folder, kind)]


def _cut_torn_chunk(path: Path) -> tuple[list[str], int]:
    """Lines of the complete chunks and their number; cuts off whatever follows the last marker."""
    if not path.exists():
        return [], 0
    whole: list[str] = []
    pending: list[str] = []
    chunks = end = position = 0
    for raw in path.read_bytes().splitlines(keepends=True):
        position += len(raw)
        line = raw.decode("utf-8", errors="replace")
        if line.startswith('{"chunk":') and line.endswith("\n"):
            whole += pending
            pending, chunks, end = [], chunks + 1, position
        else:
            pending.append(line)
    with open(path, "r+b") as file:
        file.truncate(end)
    return whole, chunks


def _seal(folder: Path, names: Sequence[str], facts: dict[str, Any], seconds: float) -> None:
    files = {name: file_sha256(folder / name) for name in names}
    seal = {"files": files, "facts": facts, "seconds": seconds}
    write_atomic(folder / "done.json", json.dumps(seal, indent=1, default=_plain))
    (folder / _SECONDS).unlink(missing_ok=True)


@contextmanager
def _clock(folder: Path) -> Iterator[Callable[[], float]]:
    """The arrow's ``folder``, made if there is none, and seconds of work on it; an invocation that is interrupted
    leaves its own to the next."""
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
    """Seconds that making the sealed arrow in ``folder`` took."""
    seconds = json.loads((folder / "done.json").read_text(encoding="utf-8")).get("seconds")
    return None if seconds is None else float(seconds)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot store a {type(value).__name__}")


def _check_seal(folder: Path) -> dict[str, Any]:
    try:
        seal = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        damaged = [
            name
            for name, sha in seal["files"].items()
            if not (folder / name).exists() or file_sha256(folder / name) != sha
        ]
    except (ValueError, KeyError, TypeError):
        damaged = ["done.json"]
        seal = {}
    if damaged:
        raise DamagedError(
            f"{folder / damaged[0]} does not match its recorded hash: it was changed or damaged after it was finished.",
            f"Remove the folder ({folder}) to make it again, or restore it from a copy.",
        )
    return dict(seal["facts"])


def _read_sealed(folder: Path, kind: type[R]) -> list[R]:
    _check_seal(folder)
    text = (folder / "rows.jsonl").read_text(encoding="utf-8")
    return [kind.from_line(line) for line in text.split("\n") if line and not line.startswith('{"chunk":')]
