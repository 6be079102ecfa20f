"""Reading "1" or "2" out of a model's words. No guessing."""

from __future__ import annotations

import re
from dataclasses import dataclass

LABELS = ("1", "2")
_NOUN = r"(?:(?:rewrite|option|choice|number|candidate|version|no)\W{0,3})?"
_MARKER = re.compile(r"\banswer\b(?=\W*(?:is\b|[:=*)\]]|\d|$))", re.IGNORECASE)
_TAIL = re.compile(rf"\W{{0,8}}(?:is\W{{1,4}})?{_NOUN}(?P<digit>\d+)", re.IGNORECASE)
_CHOSEN = re.compile(
    rf"\bI(?:'d|\s+would)?\s+(?:choose|pick|select|prefer|go\s+with)\W{{1,3}}{_NOUN}(?P<digit>\d+)", re.IGNORECASE
)
_BARE = re.compile(rf"\W*{_NOUN}(?P<digit>\d+)\W*", re.IGNORECASE)
_OTHER = re.compile(
    r"\W{0,3}(?:or|and|,|/|\\|&|\+|-|vs\.?)\W{0,3}(?:(?:rewrite|option|number|maybe|perhaps)\W{1,3}){0,2}\d",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answer:
    """A label of :data:`LABELS` and where in the text its digit stands."""

    label: str
    offset: int


def parse_answer(text: str) -> Answer | None:
    """The label that ``text`` answers with, or ``None``.

    Read are the last "Answer: 1" (in any dress: "**Answer:** 2", "answer is (1)", "Answer: Rewrite 2"), a text that is
    nothing but a label, and "I choose 2". Not read, because they are no choice: "Answer: 12", "Answer: Both", "Answer:
    1 or 2", "Answer: your choice of 2", and digits anywhere else, such as those of a restated list.
    """
    markers = list(_MARKER.finditer(text))
    if markers:
        return _label(_TAIL.match(text, markers[-1].end()), text)
    if bare := _BARE.fullmatch(text):
        return _label(bare, text)
    chosen = list(_CHOSEN.finditer(text))
    return _label(chosen[-1], text) if chosen else None


def _label(match: re.Match[str] | None, text: str) -> Answer | None:
    if match is None or match["digit"] not in LABELS or _OTHER.match(text, match.end("digit")):
        return None
    if re.match(r"\.\d", text[match.end("digit") :]):  # "Answer: 1.5"
        return None
    return Answer(match["digit"], match.start("digit"))
