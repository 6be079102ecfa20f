"""Names from recipes, recordings and archives are hostile: none leads outside the folder it belongs to."""

from __future__ import annotations

import re
from pathlib import Path

from quipwright.core.errors import RecipeError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def inside(root: Path, name: str, what: str) -> Path:
    """``root / name`` for a plain file name. Raises :class:`RecipeError` for anything that is or leads elsewhere:
    separators, ``..``, NUL, names a system reserves, more than 100 characters, links."""
    plain = bool(_NAME.fullmatch(name)) and ".." not in name and not name.endswith(".")
    if not plain or name.split(".")[0].lower() in _RESERVED:
        shown = name if len(name) <= 40 else name[:40] + "…"
        raise RecipeError(f"{what} is named {shown!r}.", "Use letters, digits, '.', '_' and '-' only, at most 100.")
    path = root / name
    if path.is_symlink() or not path.resolve().is_relative_to(root.resolve()):
        raise RecipeError(f"{what} {name!r} is a link that leads elsewhere.", "Remove it or choose another name.")
    return path
