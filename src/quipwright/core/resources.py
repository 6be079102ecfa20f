"""Where the files that ship with the package are."""

from __future__ import annotations

from pathlib import Path

from quipwright.core.errors import DataError

PACKAGE = Path(__file__).parents[1]
FILES = PACKAGE / "data" / "bundled"
BUNDLED = "bundled:"


def resolve(reference: str, what: str, base: Path | None = None) -> Path:
    """The path of ``reference``: ``bundled:NAME`` is a file of the package, anything else a path of the user's.

    Relative paths of a recipe start at ``base``, the recipe's folder, and fall back to the current folder.
    """
    if reference.startswith(BUNDLED):
        name = reference.removeprefix(BUNDLED)
        path = (FILES / name).resolve()
        if not path.is_relative_to(FILES) or not path.exists():
            shipped = ", ".join(sorted(p.name for p in FILES.iterdir() if not p.name.startswith("_")))
            raise DataError(f"{what} {reference!r} does not ship with the package.", f"What ships: {shipped}.")
        return path
    path = Path(reference).expanduser()
    if not path.is_absolute() and base is not None and (base / path).exists():
        return base / path
    return path


def recipe_path(name: str) -> Path:
    """The recipe ``name`` that ships: inside the installed package, or at the root of a checkout."""
    for folder in (PACKAGE / "recipes", PACKAGE.parents[1] / "recipes"):
        if (folder / f"{name}.yaml").exists():
            return folder / f"{name}.yaml"
    raise DataError(f"recipe {name!r} does not ship with the package.", "Name a file ending in .yaml.")
