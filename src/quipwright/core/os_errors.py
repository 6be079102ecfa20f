"""What to do about an error of the operating system. Nothing is imported but the numbers, so that it works at any time."""

from __future__ import annotations

import errno

_REMEDIES = {
    "ENOSPC": "Free disk space",
    "EDQUOT": "Free disk space",
    "EFBIG": "Raise the limit on file sizes, or write elsewhere",
    "EMFILE": "Raise the limit on open files (ulimit -n)",
    "ENFILE": "Close other programs, or raise the system's limit on open files",
    "ENAMETOOLONG": "Use a shorter name",
    "EACCES": "Check its permissions",
    "EPERM": "Check its permissions",
    "EROFS": "Write to another place",
    "ENOENT": "Check the path",
    "ENOTDIR": "Check the path (a part of it is a file)",
    "EISDIR": "Check the path (it is a folder)",
    "ENOMEM": "Free memory",
}
_BY_NUMBER = {getattr(errno, name): words for name, words in _REMEDIES.items() if hasattr(errno, name)}


def os_remedy(number: int | None) -> str:
    """What to do about the error of this ``number``, without a full stop."""
    return _BY_NUMBER.get(number or 0, "Check the path, its permissions and the disk")
