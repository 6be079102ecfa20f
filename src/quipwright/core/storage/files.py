"""Files that are whole or absent: atomic writes, append-only lines, hashes, locks, and disk errors in one line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from quipwright.core.errors import DamagedError, DiskError, RunError
from quipwright.core.os_errors import os_remedy

_DISK = {
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EROFS", "EPERM", "EMFILE", "ENFILE", "ENAMETOOLONG"),
        *("EIO", "ELOOP", "ENOTDIR", "EISDIR", "ENOTEMPTY", "ESTALE", "EINVAL"),
    )
    if hasattr(errno, name)
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a forbidden path or a missing descriptor into one :class:`DiskError`.

    Errors of the safetensors library count too: its writer raises its own kind instead of ``OSError``.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise _disk_error(path, error.strerror or str(error), os_remedy(error.errno)) from None
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:  # a torn or strange file, not a disk
            raise DamagedError(f"{path} cannot be read or written: {error}.", "Restore it from a copy.") from None
        raise _disk_error(path, str(error), os_remedy(int(number[1]))) from None


def _disk_error(path: Path, reason: str, what_to_do: str) -> DiskError:
    return DiskError(
        f"could not write {path}: {reason}.", f"{what_to_do} and run the same command again; finished work is kept."
    )


def write_atomic(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8 as :func:`write_atomic_bytes` does."""
    write_atomic_bytes(path, text.encode("utf-8"))


def write_atomic_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` through a temporary file, fsync and rename: readers see the old or the new, whole."""
    temporary = path.with_name(path.name + ".tmp")
    with disk_errors(path):
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


RESTORE = "Restore it from a copy, or make the run anew."
"""What to do about a file of ours that is damaged, unless something better is known."""


def read_json(path: Path, remedy: str = RESTORE) -> Any:
    """The JSON value of one of our own files.

    Raises :class:`DamagedError` naming the file for whatever goes wrong: not there, not UTF-8, not JSON, too deep.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error, remedy) from None


def read_object(path: Path, remedy: str = RESTORE) -> dict[str, Any]:
    """As :func:`read_json`, of a file that holds a JSON object. Raises :class:`DamagedError` for any other value."""
    content = read_json(path, remedy)
    if not isinstance(content, dict):
        raise damaged(path, ValueError("not a JSON object"), remedy)
    return content


def damaged(path: Path, error: Exception, remedy: str = RESTORE) -> DamagedError:
    """The one error for a file of ours that cannot be read."""
    reason = "it is not there" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {error}"
    return DamagedError(f"{path} cannot be read: {reason}.", remedy)


def read_lines(path: Path) -> list[str]:
    """The complete lines of one of our own append-only files; a torn last line is left out.

    Only "\\n" ends a line: JSON strings may hold other separators. Raises :class:`DamagedError` where the file cannot
    be read.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, ValueError) as error:
        raise damaged(path, error) from None
    return whole_lines(text)


def whole_lines(text: str) -> list[str]:
    """The lines of ``text`` that are ended and not empty."""
    return [line for line in text.split("\n")[:-1] if line]


class AppendOnly:
    """A file of lines to which whole batches are added, or nothing.

    A batch that fails (a full disk) is taken back, so that a later one is never glued to half a line; a torn last line
    of an earlier process is cut off at opening.
    """

    def __init__(self, path: Path) -> None:
        """Opens or creates ``path``. Raises :class:`DiskError` where that is impossible."""
        self.path = path
        with disk_errors(path):
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - held until close()
            self._length = self._complete_length()
            self._file.truncate(self._length)

    def _complete_length(self) -> int:
        """Bytes up to and including the last line end."""
        size = self._file.seek(0, os.SEEK_END)
        position = size
        while position:
            start = max(0, position - 65536)
            self._file.seek(start)
            block = self._file.read(position - start)
            if (end := block.rfind(b"\n")) >= 0:
                return start + end + 1
            position = start
        return 0

    def append(self, lines: Sequence[str]) -> None:
        """Add ``lines`` and flush them to the disk. Raises :class:`DiskError`; the file is then as it was before."""
        data = "".join(f"{line}\n" for line in lines).encode()
        with disk_errors(self.path):
            try:
                written = 0
                while written < len(data):
                    written += self._file.write(data[written:]) or 0
                os.fsync(self._file.fileno())
                self._written(data)
            except (OSError, DiskError):
                self._file.truncate(self._length)
                raise
        self._length += len(data)

    def _written(self, data: bytes) -> None:
        """``data`` is on the disk. Whatever fails here takes it back."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def locked(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Hold the lock file ``path`` or raise :class:`RunError` at once, naming the process that holds it.

    The holder's PID stands in a file beside the lock. A lock dies with its process, so a killed run blocks nobody.
    """
    holder = path.with_name(path.name + ".pid")
    lock = FileLock(path, timeout=0)
    with disk_errors(path):
        try:
            lock.acquire()
        except Timeout:
            pid = holder.read_text(encoding="utf-8").strip() if holder.exists() else ""
            raise RunError(f"{what} is in use by process {pid or 'unknown'}.", remedy) from None
    try:
        write_atomic(holder, str(os.getpid()))
        yield
    finally:
        lock.release()
