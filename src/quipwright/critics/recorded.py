"""The recorded critic: judgments that any judge once gave, read from a file and looked up by the texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from quipwright.core.errors import DataError
from quipwright.core.paths import resolve
from quipwright.core.records import Comparison, Grade, Judgment, Order, Response, Verdict
from quipwright.core.text import normalise
from quipwright.core.text_files import input_sha256, json_lines
from quipwright.critics.base import BaseCriticConfig, BuildContext
from quipwright.critics.combine import verdict_of

_ORDERS: tuple[Order, ...] = ("ab", "ba")
_CREDIT: dict[str, float] = {"a": 1.0, "b": 0.0, "tie": 0.5}
Key = tuple[str, str, str, str]


class Recorded(BaseCriticConfig):
    """``path``: JSONL with ``literal`` (or null), ``a``, ``b`` and, for each order, ``p_ab``/``p_ba`` (probability
    that a is better with a, or b, shown first) or ``verdict_ab``/``verdict_ba`` (``a``, ``b``, ``tie`` or null); or one
    order a row as ``shown`` and ``verdict``, the format of the bundled verdicts. ``quality_a``, ``quality_b``: what
    each text was graded by itself, from 0, the worst level that the task names, upwards."""

    shorthand: ClassVar[str] = "path"
    kind: Literal["recorded"] = "recorded"
    path: str

    def build(self, context: BuildContext) -> RecordedCritic:
        """Read the file. Raises :class:`DataError` naming the first bad line."""
        path = self._file(context)
        return RecordedCritic(*_read(path), f"recorded:{path.stem}", len(context.task.grades))

    def identity(self, context: BuildContext) -> list[Any]:
        """The content of the file, and its name, by which judgments are signed."""
        path = self._file(context)
        return [self.kind, path.stem, input_sha256(path, "Recorded critic")]

    def readers(self, context: BuildContext) -> list[Any]:
        """Whoever gave the verdicts of the file."""
        return [input_sha256(self._file(context), "Recorded critic")]

    def _file(self, context: BuildContext) -> Path:
        return resolve(self.path, "Recorded critic", context.recipe_dir)


class RecordedCritic:
    """Answers by literal, texts and order; what was never recorded is unparsed, never guessed."""

    positional = True

    def __init__(
        self,
        answers: Mapping[Key, tuple[float | None, Verdict]],
        marks: Mapping[tuple[str, str], int],
        name: str,
        levels: int = 3,
    ) -> None:
        """``answers``: (p that a is better, verdict) by (literal, a, b, shown); ``marks``: 0 to 3 by (literal, text);
        ``levels``: how many the task names, of which the best takes all marks from ``levels`` - 1 on."""
        self.levels = levels
        self.answers, self.marks = answers, marks
        self.name = name

    def recorded_grades(self, literals: Sequence[str], responses: Sequence[Response]) -> dict[str, Grade]:
        """Grades by response id, of those texts that the file has a grade for."""
        grades = {}
        for literal, response in zip(literals, responses, strict=True):
            mark = self.marks.get((normalise(literal), normalise(response.text)))
            if mark is not None:
                reached = min(mark, self.levels - 1)
                levels = tuple(float(level == reached) for level in range(self.levels))
                grades[response.id] = Grade(response_id=response.id, judge=self.name, score=mark, levels=levels)
        return grades

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """Two judgments a pair, shown ``ab`` then ``ba``."""
        return [self._judgment(c, shown) for c in comparisons for shown in _ORDERS]

    def _judgment(self, c: Comparison, shown: Order) -> Judgment:
        recorded = self._recorded(c, shown)
        if recorded.verdict != "unparsed":
            return recorded
        reverse = self._recorded(c.swapped(), "ba" if shown == "ab" else "ab").swapped(c.pair.id)
        return recorded if reverse.verdict == "unparsed" else reverse

    def _recorded(self, c: Comparison, shown: Order) -> Judgment:
        key = (normalise(c.literal), normalise(c.a), normalise(c.b), shown)
        p, verdict = self.answers.get(key, (None, "unparsed"))
        reason = "not recorded" if verdict == "unparsed" else ""
        return Judgment(pair_id=c.pair.id, judge=self.name, shown=shown, p_a=p, verdict=verdict, reason=reason)


def _read(path: Path) -> tuple[dict[Key, tuple[float | None, Verdict]], dict[tuple[str, str], int]]:
    answers: dict[Key, tuple[float | None, Verdict]] = {}
    marks: dict[tuple[str, str], int] = {}
    for line, fields in json_lines(path, "Recorded critic"):
        try:
            texts = normalise(fields.get("literal") or ""), normalise(fields["a"]), normalise(fields["b"])
            for shown, answer in _orders(fields):
                answers[*texts, shown] = answer
            for text, mark in zip(texts[1:], (fields.get("quality_a"), fields.get("quality_b")), strict=True):
                if mark is not None:
                    marks[texts[0], text] = _mark(mark)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path} line {line} is no recorded judgment: {error!r}.", "It needs a, b and p_ab/p_ba or verdicts."
            ) from None
    return answers, marks


def _mark(value: Any) -> int:
    if isinstance(value, bool) or value not in (0, 1, 2, 3):
        raise ValueError(f"quality {value!r} is none of 0, 1, 2, 3")
    return int(value)


def _orders(fields: Mapping[str, Any]) -> list[tuple[Order, tuple[float | None, Verdict]]]:
    if "shown" in fields:
        return [(_ORDERS[_ORDERS.index(fields["shown"])], _answer(None, fields["verdict"]))]
    answers = [
        (shown, _answer(fields.get(f"p_{shown}"), fields.get(f"verdict_{shown}")))
        for shown in _ORDERS
        if f"p_{shown}" in fields or f"verdict_{shown}" in fields
    ]
    if not answers:
        raise KeyError("p_ab")
    return answers


def _answer(p: float | None, verdict: str | None) -> tuple[float | None, Verdict]:
    if p is not None and not 0 <= p <= 1:
        raise ValueError(f"probability {p} is outside 0..1")
    credit: float | None
    if verdict is not None:
        credit = _CREDIT[verdict.lower()]
    elif p is None:
        return None, "unparsed"
    else:
        credit = p
    return p, verdict_of(credit)
