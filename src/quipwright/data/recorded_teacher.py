"""The recorded teacher: paraphrases that a large model wrote once, read from files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

from quipwright.core.errors import DataError, TeacherError
from quipwright.core.paths import resolve
from quipwright.core.settings import Settings
from quipwright.core.text import normalise
from quipwright.data.examples import BUNDLED_CORPUS, Paths, as_paths, read_rows
from quipwright.data.task import Task


class RecordedTeacher(Settings):
    """``path``: one or several JSONL files with ``literal``, a list of paraphrases in ``field`` and, where they are of
    styles, a list of their names in ``styles``. ``bundled:humour.jsonl`` and ``bundled:tags.jsonl`` ship.
    """

    kind: Literal["recorded"] = "recorded"
    path: Paths = BUNDLED_CORPUS
    field: str = "humorous"
    styles: str = "styles"
    name: str = "recorded"

    def open(self, base: Path | None = None) -> Recording:
        """Read the files; what several rows say of one literal is put together, in their order.

        Raises :class:`DataError` for a file or row that cannot be used.
        """
        paths = self.files(base)
        answers: dict[str, list[Recorded]] = {}
        for path in paths:
            for row in read_rows(path):
                texts = self._texts(row.fields, f"{path} {row.place}")
                answers.setdefault(_key(row.literal), []).extend(texts)
        return Recording(", ".join(map(str, paths)), answers)

    def files(self, base: Path | None = None) -> list[Path]:
        """The files; a relative path is seen from ``base``. Raises :class:`DataError` where one does not exist."""
        return [resolve(path, "Recorded teacher", base) for path in as_paths(self.path)]

    def _texts(self, fields: Mapping[str, Any], where: str) -> list[Recorded]:
        texts, styles = fields.get(self.field), fields.get(self.styles)
        if not _are_texts(texts):
            raise DataError(f"{where}: {self.field!r} is {_shown(texts)}.", "It must be a list of sentences.")
        if styles is None:
            styles = [""] * len(texts)
        elif not _are_texts(styles) or len(styles) != len(texts):
            raise DataError(
                f"{where}: {self.styles!r} is {_shown(styles)}.",
                f"It must name a style for each of {len(texts)} texts.",
            )
        return [Recorded(normalise(text), style) for text, style in zip(texts, styles, strict=True)]


@dataclass(frozen=True)
class Recorded:
    """One paraphrase; ``style`` is empty where its row names none."""

    text: str
    style: str = ""


class Recording:
    """Answers by literal."""

    def __init__(self, where: str, answers: Mapping[str, Sequence[Recorded]]) -> None:
        """``where`` names the files; ``answers`` is by the normalised, case-folded literal."""
        self.where = where
        self.answers = answers

    @property
    def texts(self) -> dict[str, list[str]]:
        """All texts by the normalised, case-folded literal, whatever their style."""
        return {literal: [one.text for one in texts] for literal, texts in self.answers.items()}

    def paraphrases(self, literal: str, task: Task) -> list[Recorded] | None:
        """The recorded paraphrases of ``literal`` that are of ``task``'s styles; ``None`` where it was never recorded.

        A paraphrase without a style is taken to be of the default one. A task without styles gets all, without styles.
        """
        texts = self.answers.get(_key(literal))
        if texts is None:
            return None
        if not task.styles:
            return [Recorded(one.text) for one in texts]
        styled = (Recorded(one.text, one.style or task.style_named()) for one in texts)
        return [one for one in styled if one.style in task.styles]

    def other_styles(self, literal: str, task: Task) -> list[str]:
        """The style of each paraphrase of ``literal`` that :meth:`paraphrases` leaves out."""
        texts = self.answers.get(_key(literal), ()) if task.styles else ()
        return [one.style for one in texts if one.style and one.style not in task.styles]

    def require(self, literal: str, task: Task) -> list[Recorded]:
        """As :meth:`paraphrases`; raises :class:`TeacherError` for a literal that was never recorded."""
        texts = self.paraphrases(literal, task)
        if texts is None:
            raise TeacherError(
                f"The recorded teacher {self.where} has no answer for {literal[:60]!r}.",
                "Use a live teacher, or literals of the recording.",
            )
        return texts


def _key(literal: str) -> str:
    return normalise(literal).casefold()


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(t, str) and t.strip() for t in value)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]
