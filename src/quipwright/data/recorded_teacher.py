"""The recorded teacher: paraphrases that a large model wrote once, read from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from quipwright.core.errors import DataError, TeacherError
from quipwright.core.paths import resolve
from quipwright.core.settings import Settings
from quipwright.core.text import normalise
from quipwright.data.examples import read_rows


class RecordedTeacher(Settings):
    """``path``: JSONL with ``literal`` and a list of paraphrases in ``field``. ``bundled:humour.jsonl`` ships."""

    kind: Literal["recorded"] = "recorded"
    path: str = "bundled:humour.jsonl"
    field: str = "humorous"
    name: str = "recorded"

    def open(self, base: Path | None = None) -> Recording:
        """Read the file. Raises :class:`DataError` for a file or row that cannot be used."""
        path = resolve(self.path, "Recorded teacher", base)
        answers: dict[str, list[str]] = {}
        for row in read_rows(path):
            texts = row.fields.get(self.field)
            if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
                shown = json.dumps(texts, ensure_ascii=False)[:60]
                raise DataError(
                    f"{path} line {row.line}: {self.field!r} is {shown}.", "It must be a list of sentences."
                )
            answers[normalise(row.literal).casefold()] = [normalise(text) for text in texts]
        return Recording(path, answers)


class Recording:
    """Answers by literal."""

    def __init__(self, path: Path, answers: dict[str, list[str]]) -> None:
        """``answers`` is by the normalised, case-folded literal."""
        self.path = path
        self.answers = answers

    def paraphrases(self, literal: str) -> list[str] | None:
        """The recorded paraphrases of ``literal``, or ``None`` where it was never recorded."""
        return self.answers.get(normalise(literal).casefold())

    def require(self, literal: str) -> list[str]:
        """As :meth:`paraphrases`; raises :class:`TeacherError` for a literal that was never recorded."""
        texts = self.paraphrases(literal)
        if texts is None:
            raise TeacherError(
                f"The recorded teacher {self.path} has no answer for {literal[:60]!r}.",
                "Use a live teacher, or literals of the recording.",
            )
        return texts
