"""Each file of a finished run is flipped, cut, emptied and deleted, and each folder deleted, under every command that
reads it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.drill.commands import commands, made, outcome
from tests.drill.processes import Ended
from tests.drill.small_run import Drill

Damage = Callable[[Path, random.Random], None]


def flipped(path: Path, rng: random.Random) -> None:
    """One bit is the other one."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut(path: Path, rng: random.Random) -> None:
    """The file ends somewhere within."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def emptied(path: Path, rng: random.Random) -> None:
    """The file has no bytes."""
    path.write_bytes(b"")


def deleted(path: Path, rng: random.Random) -> None:
    """The file is gone."""
    path.unlink()


DAMAGES: tuple[Damage, ...] = (flipped, flipped, cut, emptied, deleted)


def files(drill: Drill) -> None:
    """See the module. A ``distil`` that refuses goes on to the same result once what it names is taken
    away, which is tried once a file."""
    mended: set[Path] = set()
    for name, command in commands(drill).items():
        drill.fresh()
        straight, expected = made(drill, name, command)
        drill.fresh()
        again, repeated = made(drill, name, command)
        if straight.code or again.code or repeated != expected:
            drill.note(name, "nothing", "does not repeat itself", straight.err[-600:] or "other files")
            continue
        read = sorted(_read_by(drill, name, straight))
        for folder in sorted({file.parent for file in read} - {Path()}):
            drill.fresh()
            shutil.rmtree(drill.run / folder)
            ended, result = made(drill, name, command)
            words, detail = outcome(ended, result == expected, folder)
            drill.note(name, "folder deleted", words, detail and f"{folder}: {detail}")
        for file in read:
            for damage in DAMAGES:
                if damage is deleted and file.name == "audit.json":  # nobody but the user knows that there was one
                    continue
                drill.fresh()
                damage(drill.run / file, drill.rng)
                ended, result = made(drill, name, command)
                words, detail = outcome(ended, result == expected, file)
                drill.note(name, f"file {damage.__name__}", words, detail and f"{file}: {detail}")
                if name == "distil" and ended.code and file not in mended:
                    mended.add(file)
                    _mend(drill, file, expected)


def _mend(drill: Drill, file: Path, expected: str) -> None:
    """Take away what was named, as the message says, and run the recipe again."""
    how = "refused; again without what was named"
    if file.parts[0] == "stages":
        shutil.rmtree(drill.run / file.parent)
    elif file.name == "calls.sqlite":
        return  # salvaged by its own command, which has its own tests
    else:
        (drill.run / file).unlink(missing_ok=True)
    again = drill.distil()
    same = again.code == 0 and drill.result() == expected
    words = "again: same result" if same else "another result"
    drill.note("distil", how, words, "" if same else f"{file}: {again.err[-600:]}")


def _read_by(drill: Drill, name: str, ended: Ended) -> Iterator[Path]:
    """The files of the run that a command reads: all but people's votes for ``distil``, else those that it opened."""
    for path in (p for p in drill.straight.rglob("*") if p.is_file() and p.stat().st_size):
        file = path.relative_to(drill.straight)
        opened = str(drill.run / file) in ended.opened
        if "lock" not in path.name and (opened or (name == "distil" and file.parts[0] != "ratings")):
            yield file
