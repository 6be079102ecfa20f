"""The recorded critic: judgments that any judge once gave, read from a file and looked up by the texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from quipwright.core.errors import DataError
from quipwright.core.paths import resolve
from quipwright.core.records import Grade, Judgment, Response, Verdict
from quipwright.core.settings import Settings
from quipwright.core.text import normalise
from quipwright.core.text_files import json_lines
from quipwright.critics.base import Comparison

_CREDIT: dict[str, float] = {"a": 1.0, "b": 0.0, "tie": 0.5}
Key = tuple[str, str, str, str]


class ReplaySettings(Settings):
    """``path``: JSONL with ``literal`` (or null), ``a``, ``b`` and, for each showing, ``p_ab``/``p_ba`` (probability
    that a is better with a, or b, shown first) or ``verdict_ab``/``verdict_ba`` (``a``, ``b``, ``tie`` or null); or one
    showing a row as ``shown`` and ``verdict``, the format of the bundled verdicts. ``quality_a``, ``quality_b``: what
    each text was graded by itself, 0 broken, 1 plain, 2 or 3 funny (or whatever the task asks for)."""

    kind: Literal["recorded"] = "recorded"
    path: str

    def open(self, base: Path | None = None) -> ReplayCritic:
        """Read the file. Raises :class:`DataError` naming the first bad line."""
        path = resolve(self.path, "Recorded critic", base)
        return ReplayCritic(*_read(path), f"recorded:{path.stem}")


class ReplayCritic:
    """Answers by literal, texts and showing; what was never recorded is unparsed, never guessed."""

    positional = True

    def __init__(
        self, answers: Mapping[Key, tuple[float | None, Verdict]], marks: Mapping[tuple[str, str], int], name: str
    ) -> None:
        """``answers``: (p that a is better, verdict) by (literal, a, b, shown); ``marks``: 0 to 3 by (literal, text)."""
        self.answers, self.marks = answers, marks
        self.name = name

    def recorded_grades(self, literals: Sequence[str], responses: Sequence[Response]) -> dict[str, Grade]:
        """Grades by response id, of those texts that the file has a grade for."""
        found = {}
        for literal, response in zip(literals, responses, strict=True):
            mark = self.marks.get((normalise(literal), normalise(response.text)))
            if mark is not None:
                found[response.id] = Grade(
                    response_id=response.id, judge=self.name, score=mark,
                    broken=float(mark == 0), plain=float(mark == 1), funny=float(mark >= 2),
                )  # fmt: skip
        return found

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """Two judgments a pair, shown ``ab`` then ``ba``."""
        return [self._judgment(c, shown) for c in comparisons for shown in ("ab", "ba")]

    def _judgment(self, c: Comparison, shown: Any) -> Judgment:
        p, verdict = self._look_up(c, shown)
        reason = "not recorded" if verdict == "unparsed" else ""
        return Judgment(pair_id=c.pair.id, judge=self.name, shown=shown, p_a=p, verdict=verdict, reason=reason)

    def _look_up(self, c: Comparison, shown: str) -> tuple[float | None, Verdict]:
        a, b = normalise(c.a), normalise(c.b)
        if (found := self.answers.get((normalise(c.literal), a, b, shown))) is not None:
            return found
        other = "ba" if shown == "ab" else "ab"
        p, verdict = self.answers.get((normalise(c.literal), b, a, other), (None, "unparsed"))
        swapped: Verdict = "B" if verdict == "A" else "A" if verdict == "B" else verdict
        return None if p is None else 1 - p, swapped


def _read(path: Path) -> tuple[dict[Key, tuple[float | None, Verdict]], dict[tuple[str, str], int]]:
    answers: dict[Key, tuple[float | None, Verdict]] = {}
    marks: dict[tuple[str, str], int] = {}
    for line, fields in json_lines(path, "Recorded critic"):
        try:
            texts = normalise(fields.get("literal") or ""), normalise(fields["a"]), normalise(fields["b"])
            for shown, answer in _showings(fields):
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


def _showings(fields: Mapping[str, Any]) -> list[tuple[str, tuple[float | None, Verdict]]]:
    if "shown" in fields:
        return [(fields["shown"], _answer(None, fields["verdict"]))]
    found = [
        (shown, _answer(fields.get(f"p_{shown}"), fields.get(f"verdict_{shown}")))
        for shown in ("ab", "ba")
        if f"p_{shown}" in fields or f"verdict_{shown}" in fields
    ]
    if not found:
        raise KeyError("p_ab")
    return found


def _answer(p: float | None, verdict: str | None) -> tuple[float | None, Verdict]:
    if p is not None and not 0 <= p <= 1:
        raise ValueError(f"probability {p} is outside 0..1")
    if verdict is not None:
        credit = _CREDIT[verdict.lower()]
    elif p is None:
        return None, "unparsed"
    else:
        credit = p
    return p, "tie" if credit == 0.5 else "A" if credit > 0.5 else "B"
