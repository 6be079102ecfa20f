"""Row stages that several processes make together, each its own chunks, without speaking to one another.

Of w processes number r makes the chunks c with c mod w = r that no file of the stage holds yet. It adds them to its own
file ``share-<r>.jsonl`` and seals that with ``share-<r>.json`` when it has all of them. The first process waits for these
seals and merges the chunks in order, so the rows are byte for byte those of one process. What was made before a kill
counts, whatever the number of processes was then.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from quipwright.core.errors import DamagedError
from quipwright.core.records import Record
from quipwright.core.storage.files import AppendOnly, disk_errors, write_atomic
from quipwright.core.storage.ranks import Ranks, wait_for
from quipwright.core.storage.sealed_files import read_sealed, write_sealed

R = TypeVar("R", bound=Record)
MARKER = '{"chunk":'
"""What a line begins with that closes a chunk."""


@dataclass(frozen=True)
class Parts(Generic[R]):
    """A stage whose chunks can be made apart. ``make(numbers)`` yields the rows of these of its ``count`` chunks, which
    are the same whatever other chunks are made with them. Called with a number it makes all chunks from there on."""

    count: int
    make: Callable[[Sequence[int]], Iterator[Sequence[R]]]

    @classmethod
    def of(cls, items: Sequence[Any], size: int, make: Callable[[Sequence[Any]], Iterator[Sequence[R]]]) -> Parts[R]:
        """The parts of ``items``, ``size`` of them a chunk; ``make`` yields the rows of the chunks of what it is given."""
        return cls(
            math.ceil(len(items) / size),
            lambda numbers: make([item for n in numbers for item in items[n * size : (n + 1) * size]]),
        )

    def __call__(self, start: int) -> Iterator[Sequence[R]]:
        """The rows of each chunk from number ``start`` on."""
        return self.make(range(start, self.count))


def marker(chunk: int, rows: int) -> str:
    """The line that closes chunk number ``chunk`` of so many rows."""
    return json.dumps({"chunk": chunk, "rows": rows})


def whole_chunks(content: bytes, kind: type[R], *, ordered: bool = True) -> tuple[dict[int, list[R]], int]:
    """The complete chunks at the beginning of ``content`` by number, and how many bytes they take.

    A chunk is good where its marker counts its rows and every row's id is that of its content; with ``ordered`` its
    number is that of the chunk before it plus one.
    """
    chunks: dict[int, list[R]] = {}
    pending: list[R] = []
    end = position = 0
    for raw in content.split(b"\n")[:-1]:
        position += len(raw) + 1
        try:
            line = raw.decode("utf-8")
            if not line.startswith(MARKER):
                pending.append(kind.from_line(line))
                continue
            told = json.loads(line)
            number = len(chunks) if ordered else int(told["chunk"])
            if told != {"chunk": number, "rows": len(pending)}:
                break
        except (ValueError, KeyError, TypeError):
            break
        chunks[number] = pending
        pending, end = [], position
    return chunks, end


def begun(folder: Path) -> bool:
    """Whether several processes have worked on the stage in ``folder``."""
    return any(folder.glob("share-*"))


def make_share(folder: Path, rows_file: str, kind: type[R], parts: Parts[R], ranks: Ranks) -> None:
    """Make and seal what is this process's to make. ``rows_file``: where one process alone would have begun."""
    seal, path = _seal(folder, ranks.rank), folder / f"share-{ranks.rank}.jsonl"
    if _complete(seal, ranks.world):
        return
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        seal.unlink(missing_ok=True)
        if path.exists():
            _, end = whole_chunks(path.read_bytes(), kind, ordered=False)
            os.truncate(path, end)
    held = _held(folder, rows_file, kind)
    missing = [n for n in range(ranks.rank, parts.count, ranks.world) if n not in held]
    file = AppendOnly(path)
    try:
        for number, rows in zip(missing, parts.make(missing) if missing else (), strict=True):
            file.append([*(row.to_line() for row in rows), marker(number, len(rows))])
    finally:
        file.close()
    write_sealed(seal, {"world": ranks.world, "chunks": len(missing)})


def merged(folder: Path, rows_file: str, kind: type[R], parts: Parts[R], ranks: Ranks) -> list[R]:
    """Wait for all shares, write them to ``rows_file`` in order and return the rows.

    Raises :class:`DamagedError` where a chunk is missing although its share is sealed.
    """
    for rank in range(ranks.world):
        wait_for(_seal(folder, rank), lambda seal: _complete(seal, ranks.world))
    held = _held(folder, rows_file, kind)
    if lacking := [n for n in range(parts.count) if n not in held]:
        raise DamagedError(f"{folder} lacks chunk {lacking[0]} of {parts.count}.", f"Remove {folder} to make it again.")
    lines = []
    for number in range(parts.count):
        lines += [*(row.to_line() for row in held[number]), marker(number, len(held[number]))]
    write_atomic(folder / rows_file, "".join(f"{line}\n" for line in lines))
    return [row for number in range(parts.count) for row in held[number]]


def remove_shares(folder: Path) -> None:
    """Forget the shares of a stage that is sealed as a whole, or that is to be made anew."""
    with disk_errors(folder):
        for path in folder.glob("share-*"):
            path.unlink(missing_ok=True)


def _seal(folder: Path, rank: int) -> Path:
    return folder / f"share-{rank}.json"


def _complete(seal: Path, world: int) -> bool:
    """Whether ``seal`` says that a share among ``world`` is made."""
    return seal.exists() and read_sealed(seal).get("world") == world


def _held(folder: Path, rows_file: str, kind: type[R]) -> dict[int, list[R]]:
    """The complete chunks in all files of the stage, by number. Files of other processes may grow meanwhile."""
    chunks: dict[int, list[R]] = {}
    for path in [folder / rows_file, *sorted(folder.glob("share-*.jsonl"))]:
        if path.exists():
            with disk_errors(path):
                content = path.read_bytes()
            chunks = {**whole_chunks(content, kind, ordered=path.name == rows_file)[0], **chunks}
    return chunks
