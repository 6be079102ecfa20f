"""Files that vouch for their own content: small JSON objects with a hash, and lines with a seal beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quipwright.core.errors import DamagedError
from quipwright.core.records import content_hash
from quipwright.core.storage.files import (
    RESTORE,
    AppendOnly,
    damaged,
    disk_errors,
    read_object,
    whole_lines,
    write_atomic,
)

_HASH = "hash"


def write_sealed(path: Path, fields: Mapping[str, Any], default: Callable[[Any], Any] | None = None) -> None:
    """Write the JSON object ``fields`` to ``path`` at once or not at all, with a hash of its content.

    ``default`` makes plain data of what JSON does not know.
    """
    plain = json.loads(json.dumps(fields, default=default))
    write_atomic(path, json.dumps({**plain, _HASH: content_hash(plain)}, indent=1, ensure_ascii=False))


def read_sealed(path: Path, remedy: str = RESTORE) -> dict[str, Any]:
    """What :func:`write_sealed` wrote. Raises :class:`DamagedError` where it is gone, unreadable or was changed.

    An object without a hash passes: one damage cannot take the hash away and change something else as well.
    """
    content = read_object(path, remedy)
    sealed = content.pop(_HASH, None)
    if sealed is not None and sealed != content_hash(content):
        raise damaged(path, ValueError("its hash is not that of its content"), remedy)
    return content


class SealedAppendOnly(AppendOnly):
    """An append-only file that vouches for what was added: nothing of it can be lost or changed unseen.

    The small file ``<name>.seal`` beside it says how many bytes were added and what their SHA-256 is. It is written
    anew after each batch and before :meth:`append` returns. Whole lines beyond it count as well: their process was
    killed in between.
    """

    def __init__(self, path: Path) -> None:
        """Opens or creates ``path``. Raises :class:`DiskError`, and :class:`DamagedError` where it is not as sealed."""
        read_sealed_lines(path)
        super().__init__(path)
        with disk_errors(path):
            self._hash = hashlib.sha256(path.read_bytes())
        if _read_seal(path) != self._seal(self._hash, self._length):
            self._written(b"")

    def _written(self, data: bytes) -> None:
        sha = self._hash.copy()
        sha.update(data)
        write_sealed(seal_of(self.path), self._seal(sha, self._length + len(data)))
        self._hash = sha

    @staticmethod
    def _seal(sha: hashlib._Hash, length: int) -> dict[str, Any]:
        return {"bytes": length, "sha256": sha.hexdigest()}


def seal_of(path: Path) -> Path:
    """The seal beside the append-only file ``path``."""
    return path.with_name(path.name + ".seal")


def _read_seal(path: Path) -> dict[str, Any]:
    """The seal of ``path``; an empty one where there is none."""
    seal = seal_of(path)
    if not seal.exists():
        return {}
    remedy = f"Restore it from a copy, or remove it to go on with what {path.name} holds."
    content = read_sealed(seal, remedy)
    if not isinstance(content.get("bytes"), int) or "sha256" not in content:
        raise damaged(seal, ValueError("not a seal"), remedy)
    return content


def read_sealed_lines(path: Path) -> list[str]:
    """As :func:`read_lines`, of a file that :class:`SealedAppendOnly` wrote; none where there is neither file nor seal.

    Raises :class:`DamagedError` where anything that was added is gone or was changed.
    """
    seal = _read_seal(path)  # before the file: another process may be adding to it
    try:
        content = path.read_bytes() if seal.get("bytes") or path.exists() else b""
        text = content.decode("utf-8")
    except (OSError, ValueError) as error:
        raise damaged(path, error) from None
    if seal and hashlib.sha256(content[: seal["bytes"]]).hexdigest() != seal["sha256"]:
        raise DamagedError(
            f"{path} is not what was written to it: {seal_of(path).name} vouches for {seal['bytes']} bytes that are "
            f"not there any more ({len(content)} are).",
            f"Restore it from a copy, or remove {seal_of(path)} to go on with the lines that are left.",
        )
    return whole_lines(text)
