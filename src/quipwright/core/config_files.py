"""Settings from files and from ``--set``: YAML in, validated objects out, errors that name the nearest valid key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from quipwright.core.errors import RecipeError
from quipwright.core.text_files import SURROGATE, read_text

S = TypeVar("S", bound=BaseModel)
_MOST_DEPTH, _MOST_VALUES, _MOST_BITS = 50, 100_000, 64
_STRUCTURE = tuple("[{\"'&*!|>")
"""A value that begins with one of these is more than a plain word in YAML."""


class _Loader(yaml.SafeLoader):
    """YAML without object tags, that refuses what only an attack or a slip would hold: aliases that multiply or refer to
    themselves, nesting deeper than any recipe's, a key given twice in one mapping."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._values: dict[int, int] = {}
        """By node: how many values it stands for once its aliases are written out."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One node with all below it. Raises ``yaml.YAMLError`` for a document that is refused."""
        mark = self.peek_event().start_mark
        is_alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise _refusal(f"it is nested more than {_MOST_DEPTH} deep", mark)
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and id(node) not in self._values:
            raise _refusal("an alias refers to what it is part of", mark)
        if not is_alias:
            self._values[id(node)] = 1 + sum(self._values[id(child)] for child in _children(node))
        if self._values[id(node)] > _MOST_VALUES:
            raise _refusal(f"its aliases stand for more than {_MOST_VALUES} values", mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        """A mapping. Raises ``yaml.YAMLError`` for a key given twice."""
        node = super().compose_mapping_node(anchor)
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in keys:
                    raise _refusal(f"key {key.value[:40]!r} is given twice", key.start_mark)
                keys.add(key.value)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """The value of ``node``. Raises ``yaml.YAMLError`` for one that its tag does not fit, or that no setting holds."""
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError):
            # PyYAML's constructors have no error of their own for a number, a date or a tagged word that is none.
            raise _refusal(f"{_short(node.value)} is no {node.tag.rpartition(':')[2]}", node.start_mark) from None
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise _refusal(f"{_short(node.value)} does not fit in {_MOST_BITS} bits", node.start_mark)
        if isinstance(value, str) and SURROGATE.search(value):
            raise _refusal("a text holds half a surrogate pair", node.start_mark)
        return value


def _refusal(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def parse_yaml(text: str, what: str) -> Any:
    """The value of a YAML document. Raises :class:`RecipeError` naming ``what``, line and column."""
    loader = None
    try:
        loader = _Loader(text)
        value = loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not valid YAML"
        raise RecipeError(f"{what} cannot be read{where}: {problem}.", "Mend that line.") from None
    except RecursionError:
        raise RecipeError(f"{what} is nested too deeply.", "Write plain settings.") from None
    finally:
        if loader is not None:
            loader.dispose()
    return value


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file (safe loader: no object tags).

    Raises :class:`RecipeError` naming line and column, and :class:`~quipwright.core.errors.DataError` where there is no
    such text.
    """
    loaded = parse_yaml(read_text(path, what), f"{what} {path}")
    if not isinstance(loaded, dict):
        raise RecipeError(
            f"{what} {path} holds a {type(loaded).__name__}, not a mapping of settings.", "Write 'key: value' lines."
        )
    return loaded


def override(tree: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """A copy of ``tree`` with each ``a.b=c`` applied; values are YAML. List items are addressed by their number.

    Raises :class:`RecipeError` for an assignment that is none, or whose path or value cannot be used.
    """
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
        node[last] = _assigned(value, path)
    return dict(result)


def _assigned(value: str, path: str) -> Any:
    """What ``--set path=value`` assigns: ``value`` as YAML, but for a ``#``, which begins no comment there."""
    word = value.strip()
    if SURROGATE.search(word):  # bytes that the locale's encoding could not read
        raise RecipeError(
            f"--set {path}: its value has letters that this locale's encoding lacks.",
            "Use a UTF-8 one: LC_ALL=C.UTF-8.",
        )
    if "#" in word and not word.startswith(_STRUCTURE):
        return word
    try:
        return parse_yaml(value, f"--set {path}")
    except RecipeError:
        raise RecipeError(f"--set {path}: {value[:60]!r} is not a YAML value.", "Quote it.") from None


def _copy(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


def _index(node: list[Any], key: str, path: str) -> int:
    if not key.isdecimal() or len(key) > 6 or int(key) >= len(node):
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
    return f"{path!r}: {message[0].lower()}{message[1:]}, got {_short(got)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


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
