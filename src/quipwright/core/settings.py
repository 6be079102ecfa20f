"""Reading settings: YAML in, frozen and validated objects out, with errors that name the nearest valid key.

This module is the only reader of the environment.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from quipwright.core.errors import DataError, RecipeError
from quipwright.core.records import content_hash

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every settings object: frozen, no unknown keys, hashable by content."""

    # Errors do not show what was given: it may be a key in the wrong field.
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False, hide_input_in_errors=True)

    whole: ClassVar[bool] = False
    """True for a model that answers nothing before it was asked everything: a provider's batch, an exchange of files."""

    @model_validator(mode="before")
    @classmethod
    def _kind_of_the_default(cls, tree: Any) -> Any:
        """A group given without ``kind`` is of the kind that stands as default: ``objective: {beta: 0.2}`` is DPO."""
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
    """``settings`` as JSON without what changes no result: a model in them (whatever has an ``identity()``) is only
    that, with the capabilities stated for it, because those shape what is asked."""
    identify, fields = getattr(settings, "identity", None), set(type(settings).model_fields)
    found: dict[str, Any] = identify() if identify else {}
    names = fields & {"capabilities"} if identify else fields
    plain = settings.model_dump(mode="json", include=names)
    for name in plain:  # without fields that are never dumped
        value = getattr(settings, name)
        if isinstance(value, Settings):
            found[name] = identity_of(value)
        elif isinstance(value, tuple):
            found[name] = [
                identity_of(item) if isinstance(item, Settings) else old
                for item, old in zip(value, plain[name], strict=True)
            ]
        else:
            found[name] = plain[name]
    return found


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
    """Where converted weights live: ``QUIPWRIGHT_CACHE``, else ``XDG_CACHE_HOME``/quipwright, else ~/.cache."""
    if named := os.environ.get("QUIPWRIGHT_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quipwright"


def read_text(path: Path, what: str) -> str:
    """The UTF-8 text of ``path``. Raises :class:`DataError` naming ``what`` when missing, a folder, empty or not UTF-8."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(
            f"{what} {path} does not exist.", "Check the path (relative paths start where you are)."
        ) from None
    except IsADirectoryError:
        raise DataError(f"{what} {path} is a folder, not a file.", "Name a file.") from None
    except PermissionError:
        raise DataError(f"{what} {path} cannot be read.", "Check its permissions.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{what} {path} is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}.",
            "Save it as UTF-8, for example: iconv -f latin1 -t utf-8.",
        ) from None
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {error.strerror}.", "Check the path.") from None
    if not text.strip():
        raise DataError(f"{what} {path} is empty.", "Give it content or name another file.")
    return text


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file (safe loader: no object tags). Raises :class:`RecipeError` naming line and column."""
    try:
        loaded = yaml.safe_load(read_text(path, what))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise RecipeError(f"{what} {path} is not YAML{where}: {problem}.", "Mend that line.") from None
    if not isinstance(loaded, dict):
        raise RecipeError(
            f"{what} {path} holds a {type(loaded).__name__}, not a mapping of settings.", "Write 'key: value' lines."
        )
    return loaded


def override(tree: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """A copy of ``tree`` with each ``a.b=c`` applied; values are YAML. List items are addressed by their number."""
    result: Any = _copy(tree)
    for assignment in assignments:
        path, sign, value = assignment.partition("=")
        if not sign or not path.strip():
            raise RecipeError(f"--set got {assignment!r}.", "Write it as key.subkey=value.")
        node = result
        keys = path.strip().split(".")
        for key in keys[:-1]:
            node = node[_index(node, key, path)] if isinstance(node, list) else node.setdefault(key, {})
            if not isinstance(node, dict | list):
                raise RecipeError(
                    f"--set {path}: {key!r} is a single value, not a group of settings.", "Check the path."
                )
        last: Any = _index(node, keys[-1], path) if isinstance(node, list) else keys[-1]
        try:
            node[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RecipeError(f"--set {path}: {value!r} is not a YAML value.", "Quote it.") from None
    return dict(result)


def _copy(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


def _index(node: list[Any], key: str, path: str) -> int:
    if not key.isdigit() or int(key) >= len(node):
        raise RecipeError(f"--set {path}: {key!r} is no item of a list of {len(node)}.", "Items count from 0.")
    return int(key)


def validate(kind: type[S], tree: dict[str, Any], what: str) -> S:
    """``tree`` as a ``kind``. Raises :class:`RecipeError` with every problem in one line, typos with the nearest key."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problems = [_explain(kind, issue) for issue in error.errors(include_url=False)]
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise RecipeError(f"{what}: {shown}.", "Mend it and run again.") from None


def _explain(kind: type[BaseModel], issue: Any) -> str:
    location = [str(part) for part in issue["loc"]]
    path, got = ".".join(_without_tags(kind, location)), issue.get("input")
    if issue["type"] == "extra_forbidden":
        known = _keys_at(kind, location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.6)
        hint = f"the nearest valid one is {near[0]!r}" if near else f"valid keys are {', '.join(known)}"
        return f"unknown key {path!r}, {hint}"
    if issue["type"] == "missing":
        return f"{path!r} is missing"
    if issue["type"] == "union_tag_invalid":
        tags = issue["ctx"]["expected_tags"]
        return f"{path}.kind is {issue['ctx']['tag']!r}, but must be one of {tags}"
    message = issue["msg"].removeprefix("Value error, ")
    if issue["type"] == "value_error":
        return f"{path}: {message}" if path else message
    return f"{path!r}: {message[0].lower()}{message[1:]}, got {got!r}"


def _without_tags(kind: Any, location: Sequence[str]) -> list[str]:
    """``location`` as the user wrote it: pydantic puts a discriminator's value (``dpo``) into the path of its fields."""
    return [
        part for i, part in enumerate(location) if i in (0, len(location) - 1) or not _is_tag(kind, location[:i], part)
    ]


def _is_tag(kind: Any, above: Sequence[str], part: str) -> bool:
    return part not in _keys_at(kind, above) and not part.isdigit()


def _keys_at(kind: Any, location: Sequence[str]) -> list[str]:
    """Field names of the settings class found by following ``location`` (discriminator tags included) from ``kind``."""
    candidates: list[Any] = [kind]
    for part in location:
        following: list[Any] = []
        for candidate in candidates:
            fields = getattr(candidate, "model_fields", {})
            if part in fields:
                following += _models_in(fields[part].annotation)
            elif "kind" in fields and fields["kind"].default == part:
                following.append(candidate)  # pydantic puts the discriminator's value into the path
            elif part.isdigit():
                following.append(candidate)
        candidates = following or candidates
    return sorted({name for candidate in candidates for name in getattr(candidate, "model_fields", {})})


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
