"""Reading "1" or "2" out of a critic's words, and out of the probabilities of the token that says it. No guessing."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from understudy.llm import Choice, Completion
from understudy.llm.reading import choice_from, label_mass, least, token_at
from understudy.records import Judgment

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


def read_reasoned(answer: Completion) -> Choice:
    """The preference in an answer that reasons first: from the alternatives to the digit it closes with, given the
    reason it wrote. Without log-probabilities the probabilities are ``None`` and the text must do."""
    if not answer.tokens:
        return Choice(None, None, answer.text, answer.call_id)
    said = "".join(token.text for token in answer.tokens)
    parsed = parse_answer(said)
    token = token_at(answer.tokens, parsed.offset) if parsed else None
    if token is None:
        return Choice(None, 0.0, answer.text, answer.call_id)
    return choice_from(label_mass(token, LABELS), least(token), answer)


def vote_share(labels: Sequence[str | None]) -> float | None:
    """P(first) from sampled answers, ``(n1 + 1/2) / (n1 + n2 + 1)``; ``None`` where none was valid."""
    first, second = labels.count("1"), labels.count("2")
    return (first + 0.5) / (first + second + 1) if first + second else None


def combine(p_a: Sequence[float], how: Literal["probability", "logit"] = "probability") -> float:
    """P(A better) from its readings in both showings: their mean, or the sigmoid of the mean logit.

    The logit mean removes an additive position bias exactly. From 0.6 : 0.2 (AB) and 0.5 : 0.3 (BA), p_a is 0.75 and
    0.375: 0.5625 by probability (Ravi et al. 2024 sec. 3.2), 0.5729 by logit.
    """
    if how == "probability":
        return sum(p_a) / len(p_a)
    return 1 / (1 + math.exp(-sum(_logit(p) for p in p_a) / len(p_a)))


def position_bias(p_ab: float, p_ba: float) -> float:
    """Log-odds a text gains by standing first, from p_a in both showings: 0 for a critic that ignores the order."""
    return (_logit(p_ab) - _logit(p_ba)) / 2


def combined(judgments: Sequence[Judgment], how: Literal["probability", "logit"] = "probability") -> float | None:
    """P(A better) over the readable ones of a pair's judgments; a verdict without a probability is 1, 0 or 1/2."""
    certain = {"A": 1.0, "B": 0.0, "tie": 0.5}
    read = [certain[j.verdict] if j.p_a is None else j.p_a for j in judgments if j.verdict != "unparsed"]
    return combine(read, how) if read else None


def _logit(p: float) -> float:
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))
