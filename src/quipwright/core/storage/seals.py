"""The seal of a folder: a small file beside its other files that holds their SHA-256 and a hash of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from quipwright.core.errors import DamagedError
from quipwright.core.storage.files import damaged, disk_errors, file_sha256
from quipwright.core.storage.sealed_files import read_sealed, write_sealed

SEAL = "done.json"


def seal(folder: Path, names: Sequence[str], facts: Mapping[str, Any], seconds: float) -> None:
    """Close ``folder``: the hashes of its files ``names``, its ``facts`` and the ``seconds`` it took go to its seal."""
    files = {name: file_sha256(folder / name) for name in names}
    write_sealed(folder / SEAL, {"files": files, "facts": facts, "seconds": seconds}, _plain)


def sealed_content(folder: Path, remedy: str | None = None) -> dict[str, Any]:
    """What the seal of ``folder`` says. Raises :class:`DamagedError` with ``remedy`` where it cannot be read."""
    return read_sealed(folder / SEAL, remedy or _remake(folder))


def check_seal(folder: Path, remedy: str | None = None, sha: Callable[[Path], str] = file_sha256) -> dict[str, Any]:
    """The facts of a sealed folder.

    Raises :class:`DamagedError`, with ``remedy`` if given, where it has no seal or a file is not what it was when
    sealed. ``sha`` gives the SHA-256 of a file.
    """
    content = sealed_content(folder, remedy)
    try:
        files, facts = dict(content["files"]), dict(content["facts"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(folder / SEAL, error) from None
    for name, sealed in files.items():
        path = folder / name
        with disk_errors(path):
            intact = path.is_file() and sha(path) == sealed
        if not intact:
            raise DamagedError(
                f"{path} does not match its recorded hash: it was changed or damaged after it was finished.",
                remedy or _remake(folder),
            )
    return facts


def seal_export(folder: Path) -> None:
    """Seal a folder that is given away: all its files but the card, which its owner may edit."""
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    seal(folder, [name for name in names if name not in ("README.md", SEAL)], {}, 0.0)


def check_export(folder: Path, sha: Callable[[Path], str] = file_sha256) -> None:
    """As :func:`check_seal` for a folder that may come from elsewhere: without a seal it passes."""
    if (folder / SEAL).exists():
        check_seal(folder, f"Restore it from a copy. To read it as it is, remove {folder / SEAL}.", sha)


def _remake(folder: Path) -> str:
    return f"Remove the folder ({folder}) to make it again, or restore it from a copy."


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot store a {type(value).__name__}")
