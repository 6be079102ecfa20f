"""Grades on file: what a reader thought of single attempts, and attempts with the smallest change that mends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quipwright.core.errors import DataError
from quipwright.data.examples import read_rows

R = TypeVar("R", bound="_Row")
TOP_GRADE = 8
"""The highest grade that a file may hold: a task names nine levels at most."""
_GRADES = ("grade", "second")


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class GradedRow(_Row):
    """One attempt and its grade, from 0, the worst level that the task names, upwards; where a reader used more levels
    than the task names, the best takes the higher ones too.

    ``style``: the style that was asked for; ``who`` wrote the text; ``id`` is the literal's in its corpus. ``rank``: the
    text's place among the attempts at this literal in the reader's order, 0 best. ``second``: another reader's grade.
    ``split`` is ``held`` where nothing may be learnt from the row.
    """

    id: str = ""
    literal: str = Field(min_length=1)
    text: str = Field(min_length=1)
    style: str = ""
    who: str = ""
    grade: int = Field(ge=0, le=TOP_GRADE)
    rank: int | None = Field(None, ge=0)
    second: int | None = Field(None, ge=0, le=TOP_GRADE)
    split: Literal["train", "held"] = "train"


class RepairRow(_Row):
    """An ``attempt`` that was graded ``grade`` and its ``repair``: the same text with as few words changed as make it
    good. ``style`` and ``id`` as in :class:`GradedRow`."""

    id: str = ""
    literal: str = Field(min_length=1)
    attempt: str = Field(min_length=1)
    repair: str = Field(min_length=1)
    style: str = ""
    grade: int | None = Field(None, ge=0, le=TOP_GRADE)
    split: Literal["train", "held"] = "train"


def read_graded(path: Path, levels: Sequence[str] = ()) -> list[GradedRow]:
    """The rows of a file of grades (any table that :func:`~quipwright.data.examples.read_rows` reads).

    ``levels`` are the task's names of grades, worst first; a file may name them instead of numbering them. Raises
    :class:`DataError` naming the first bad line, or when there is no row.
    """
    return _read(path, GradedRow, levels)


def read_repairs(path: Path, levels: Sequence[str] = ()) -> list[RepairRow]:
    """The rows of a file of repairs, as :func:`read_graded`."""
    return _read(path, RepairRow, levels)


def _read(path: Path, kind: type[R], levels: Sequence[str]) -> list[R]:
    rows = []
    for row in read_rows(path):
        try:
            rows.append(kind.model_validate(_numbered(row.fields, levels)))
        except ValidationError as error:
            issue = error.errors(include_url=False)[0]
            where = ".".join(map(str, issue["loc"]))
            named = f" Grades are numbers from 0 or {', '.join(levels)}." if where in _GRADES and levels else ""
            raise DataError(
                f"{path} {row.place}: {where}: {issue['msg']}.", f"See the cards of the bundled files.{named}"
            ) from None
    if not rows:
        raise DataError(f"{path} has no row.", "Name a file with graded texts.")
    return rows


def _numbered(fields: Mapping[str, Any], levels: Sequence[str]) -> dict[str, Any]:
    """``fields`` without empty ones, grades that are named turned into numbers."""
    number = {name: place for place, name in enumerate(levels)}
    given = {name: value for name, value in fields.items() if value is not None and value != ""}
    return given | {
        name: number[given[name]] for name in _GRADES if isinstance(given.get(name), str) and given[name] in number
    }
