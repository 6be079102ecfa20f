"""Sentences with what is known of them: sensitive or harmless, and of which kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quipwright.core.errors import DataError
from quipwright.core.text import normalise
from quipwright.data.care.classifier import KINDS
from quipwright.data.examples import read_rows


class CareRow(BaseModel):
    """One sentence. ``pair``: the id of its look-alike; ``kind`` of a harmless row is that of its look-alike. An
    ``unclear`` one, about which readers may differ, is neither learnt from nor measured."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    id: str = ""
    text: str = Field(min_length=1)
    label: Literal["sensitive", "harmless", "unclear"]
    kind: Literal["death", "self-harm", "abuse", "illness", "disaster", "group"] | None = None
    pair: str | None = None
    split: Literal["train", "heldout"] = "train"
    source: str = ""

    @property
    def target(self) -> int:
        """Its class: 0 for harmless, else one more than its place among ``KINDS``."""
        return 1 + KINDS.index(str(self.kind)) if self.label == "sensitive" else 0


def other_literals(path: Path, known: Sequence[CareRow]) -> list[CareRow]:
    """The literals of a table that are of no training split and not among ``known``, as harmless everyday sentences."""
    listed = {normalise(row.text).lower() for row in known}
    literals = {normalise(r.literal): None for r in read_rows(path) if r.fields.get("split", "train") != "train"}
    return [
        CareRow(text=text, label="harmless", split="heldout", source="literals")
        for text in literals
        if text.lower() not in listed
    ]


def read_care_rows(path: Path) -> list[CareRow]:
    """The sentences of a table. Raises :class:`DataError` naming the first row that is none."""
    rows = []
    for row in read_rows(path, "text"):
        try:
            known = CareRow.model_validate(row.fields)
        except ValidationError as error:
            issue = error.errors(include_url=False)[0]
            where = ".".join(map(str, issue["loc"]))
            raise DataError(f"{path} {row.place}: {where}: {issue['msg']}.", "Mend that row.") from None
        if known.label == "sensitive" and known.kind is None:
            raise DataError(f"{path} {row.place}: a sensitive sentence has no kind.", f"Use {', '.join(KINDS)}.")
        rows.append(known)
    return rows
