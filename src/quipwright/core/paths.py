"""Every path a user names is found here: files that ship, paths of a recipe, names that must stay in their folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from quipwright.core.errors import DataError, DiskError, RecipeError, WeightsError
from quipwright.core.os_errors import os_remedy

PACKAGE = Path(__file__).parents[1]
FILES = PACKAGE / "data" / "bundled"
SCAFFOLD = PACKAGE / "data" / "scaffold"
SCHEMA = "recipe.schema.json"
"""The JSON schema of recipes, beside those that ship."""
BUNDLED = "bundled:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_PATH_SIGNS = ("/", "./", "../", "~")


def resolve(reference: str, what: str, recipe_dir: Path | None = None) -> Path:
    """The path of ``reference``, for data, tasks, critics, recordings, answers, weights and adapters alike.

    ``bundled:NAME`` is a file of the package; ``~`` is the home folder. A relative path starts at ``recipe_dir``, the
    recipe's folder, and at the current folder where the recipe's folder has no such file. The path need not exist.

    Raises :class:`DataError` for a bundled name that does not ship and for a text that no path can be.
    """
    if reference.startswith(BUNDLED):
        return _bundled(reference, what)
    if not reference.strip() or "\0" in reference:
        raise DataError(f"{what} {reference!r} is no path.", "Name a file or folder.")
    path = _expanded(reference, what)
    if not path.is_absolute() and recipe_dir is not None and _exists(recipe_dir / path):
        return recipe_dir / path
    return path


def weights_source(reference: str, what: str = "Weights", recipe_dir: Path | None = None) -> str:
    """``reference`` as ``from_pretrained`` takes it: an existing folder as its path, anything else as a hub name.

    Raises :class:`WeightsError` where ``reference`` can only be a path (it begins with ``/``, ``./``, ``../``, ``~`` or
    ``bundled:``) and there is no such folder: the hub is never asked for it.
    """
    try:
        path = resolve(reference, what, recipe_dir)
    except DataError as error:
        raise WeightsError(error.problem, error.remedy) from None
    if _exists(path):
        return str(path)
    if reference.startswith(_PATH_SIGNS):
        beside = f" (seen from {recipe_dir})" if recipe_dir is not None and not path.is_absolute() else ""
        raise WeightsError(f"{what} {reference!r} is no folder{beside}.", "Check the path, or name a hub model.")
    return reference


def seen_from(folder: Path, reference: str, recipe_dir: Path | None = None) -> str:
    """``reference`` as a file in ``folder`` has to write it: a relative path (see :func:`resolve`) of something that
    exists is turned round to start at ``folder``, anything else stays as it is."""
    if reference.startswith((BUNDLED, "~")) or Path(reference).is_absolute():
        return reference
    path = resolve(reference, "Path", recipe_dir)
    return os.path.relpath(path.resolve(), folder.resolve()) if _exists(path) else reference


def is_yaml(reference: str) -> bool:
    """Whether ``reference`` is the path of a YAML file, by its ending in any letter case, and not a name that ships."""
    return reference.lower().endswith((".yaml", ".yml"))


def recipe_path(reference: str, recipe_dir: Path | None = None) -> Path:
    """The file of recipe ``reference``: a YAML file's path (see :func:`resolve`), or the name of one that ships, inside
    the installed package or at the root of a checkout.

    Raises :class:`DataError` where none of that name ships.
    """
    if is_yaml(reference):
        return resolve(reference, "Recipe", recipe_dir)
    path = shipped_recipes() / f"{reference}.yaml"
    if _NAME.fullmatch(reference) and path.exists():
        return path
    raise DataError(f"recipe {reference[:60]!r} does not ship with the package.", "Name a file ending in .yaml.")


def shipped_recipes() -> Path:
    """The folder of the recipes that ship: in the installed package, or at the root of a checkout."""
    installed = PACKAGE / "recipes"
    return installed if installed.exists() else PACKAGE.parents[1] / "recipes"


def inside(root: Path, name: str, what: str) -> Path:
    """``root / name`` for a plain file name from a recipe, a recording or an archive, which may be hostile.

    Raises :class:`RecipeError` for anything that is or leads elsewhere: separators, ``..``, NUL, names a system
    reserves, more than 100 characters, links.
    """
    plain = bool(_NAME.fullmatch(name)) and ".." not in name and not name.endswith(".")
    if not plain or name.split(".")[0].lower() in _RESERVED:
        shown = name if len(name) <= 40 else name[:40] + "…"
        raise RecipeError(f"{what} is named {shown!r}.", "Use letters, digits, '.', '_' and '-' only, at most 100.")
    path = root / name
    if path.is_symlink() or not path.resolve().is_relative_to(root.resolve()):
        raise RecipeError(f"{what} {name!r} is a link that leads elsewhere.", "Remove it or choose another name.")
    return path


def check_writable(path: Path, what: str) -> None:
    """Raises :class:`DiskError` where file or folder ``path`` could not be made or written. Nothing is written.

    It is asked before work is paid for, so that a result has a place to go.
    """
    place = path
    try:
        path.exists()
    except OSError as error:
        raise DiskError(f"{what} {path} cannot be written: {error.strerror}.", f"{os_remedy(error.errno)}.") from None
    while not _exists(place) and place != place.parent:
        place = place.parent
    if place != path and not place.is_dir():
        raise DiskError(f"{what} {path} cannot be written: {place} is a file, not a folder.", "Name another path.")
    if not os.access(place, os.W_OK | (os.X_OK if place.is_dir() else 0)):
        raise DiskError(f"{what} {path} cannot be written: no permission for {place}.", "Name another path.")


def _bundled(reference: str, what: str) -> Path:
    path = (FILES / reference.removeprefix(BUNDLED)).resolve()
    if path == FILES or not path.is_relative_to(FILES) or not _exists(path):
        shipped = ", ".join(sorted(p.name for p in FILES.iterdir() if not p.name.startswith("_")))
        raise DataError(f"{what} {reference[:60]!r} does not ship with the package.", f"What ships: {shipped}.")
    return path


def _expanded(reference: str, what: str) -> Path:
    try:
        return Path(reference).expanduser()
    except RuntimeError:  # no home folder, or none of that user
        raise DataError(f"{what} {reference[:60]!r} names a home folder that is unknown.", "Write it out.") from None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long a name, a folder we may not look into
        return False
