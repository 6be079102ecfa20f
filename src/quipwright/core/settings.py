"""What every settings object is: frozen, validated, hashed by content, known by what changes a result.

This module is also the only reader of the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from quipwright.core.errors import DiskError
from quipwright.core.records import content_hash


class Settings(BaseModel):
    """Base of every settings object: frozen, no unknown keys, hashable by content."""

    # Errors do not show what was given: it may be a key in the wrong field.
    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=False, hide_input_in_errors=True, allow_inf_nan=False
    )

    identity_needs_context: ClassVar[bool] = False
    """True where ``identity`` needs to know more than the settings, so that :func:`identity_of` takes all of them."""

    @model_validator(mode="before")
    @classmethod
    def _default_kind(cls, tree: Any) -> Any:
        """A group without ``kind`` has the default's kind: ``objective: {beta: 0.2}`` is DPO."""
        if not isinstance(tree, dict):
            return tree
        filled = dict(tree)
        for name, info in cls.model_fields.items():
            kind = getattr(info.get_default(call_default_factory=True), "kind", None)
            if kind is not None and isinstance(given := filled.get(name), dict) and "kind" not in given:
                filled[name] = {"kind": kind, **given}
        return filled

    @property
    def hash(self) -> str:
        """Content hash of all settings, defaults included."""
        return content_hash(type(self).__name__, self.model_dump(mode="json"))


def identity_of(settings: Settings) -> dict[str, Any]:
    """``settings`` as JSON, without settings that cannot change a result.

    A model in them (whatever has an ``identity()``) is reduced to that identity and to the capabilities stated for it,
    because those shape what is asked. Fields that are never dumped are left out.
    """
    identify = None if settings.identity_needs_context else getattr(settings, "identity", None)
    names = set(type(settings).model_fields)
    identity: dict[str, Any] = {}
    if identify is not None:
        identity, names = dict(identify()), names & {"capabilities"}
    plain = settings.model_dump(mode="json", include=names)
    for name, dumped in plain.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            identity[name] = identity_of(value)
        elif isinstance(value, tuple):
            items = zip(value, dumped, strict=True)
            identity[name] = [identity_of(item) if isinstance(item, Settings) else kept for item, kept in items]
        else:
            identity[name] = dumped
    return identity


def within(settings: Settings) -> Iterator[Settings]:
    """``settings`` and all settings in it, at any depth."""
    yield settings
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Settings):
                yield from within(item)


def secret(name: str) -> str | None:
    """The value of environment variable ``name`` (an API key, say), or ``None`` when it is unset or blank."""
    return os.environ.get(name, "").strip() or None


def cache_dir() -> Path:
    """The folder of converted weights: ``QUIPWRIGHT_CACHE``, else ``quipwright`` in ``XDG_CACHE_HOME`` or ~/.cache.

    It is made if it is missing. Raises :class:`DiskError` naming the variable that moves it where it cannot be.
    """
    named = secret("QUIPWRIGHT_CACHE")
    try:
        if named is not None:
            folder = Path(named).expanduser()
        else:
            folder = Path(secret("XDG_CACHE_HOME") or Path.home() / ".cache") / "quipwright"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody's home folder is known
        place = getattr(error, "filename", None) or named or "the home folder"
        reason = getattr(error, "strerror", None) or str(error)
        raise DiskError(
            f"The cache of converted weights cannot be made at {place}: {reason}.",
            "Set QUIPWRIGHT_CACHE to a folder you may write.",
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DiskError(
            f"The cache of converted weights {folder} cannot be written.",
            "Set QUIPWRIGHT_CACHE to a folder you may write.",
        )
    return folder
