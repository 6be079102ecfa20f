"""What was found out once and can be found out again: JSON files in the cache folder, where there can be one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quipwright.core.errors import DiskError
from quipwright.core.settings import cache_dir
from quipwright.core.storage.files import write_atomic


def place_of(name: str) -> Path | None:
    """Where the value under ``name`` is kept; ``None`` where there can be no cache folder."""
    try:
        return cache_dir() / name
    except DiskError:
        return None


def recall(name: str) -> Any:
    """The value under ``name``; ``None`` where there is none, or none that can be read."""
    path = place_of(name)
    try:
        return None if path is None else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def remember(name: str, value: Any) -> None:
    """Keep ``value`` under ``name``; where nothing can be written it is found out anew next time, and no more."""
    path = place_of(name)
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(value))
    except (OSError, DiskError):
        return
