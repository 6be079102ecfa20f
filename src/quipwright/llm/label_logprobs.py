"""Reading a choice between labels out of the log-probabilities a server gives: mass, coverage, floor."""

from __future__ import annotations

import math
from collections.abc import Sequence

from quipwright.llm.answer_parser import LABELS, parse_answer
from quipwright.llm.types import Choice, Completion, Token

_WRAPPING = " \t\r\n\"'`“”‘’()[]{}<>*_.:,;!▁ĠĊ"


def bare(text: str) -> str:
    """``text`` without the blanks, quotes, brackets and stars around it."""
    return text.strip(_WRAPPING)


def read_choice(answer: Completion, options: Sequence[str]) -> Choice:
    """How ``answer`` chose between ``options``, each a label of one token.

    The mass of a label is summed over all alternatives that spell it. Where the token drawn is only a blank or a
    quote ("Answer:" is often continued by a bare space), reading goes on behind it, weighted by its probability.
    Where words come first ("Answer: 1") the label is read where it stands, given those words.
    A label missing from the alternatives has at most the probability of the least likely one given: that is its floor.
    """
    if not answer.tokens:
        return Choice(None, None, answer.text, answer.call_id)
    mass, floor, weight = [0.0] * len(options), 0.0, 1.0
    for token in answer.tokens:
        here = label_mass(token, options)
        mass = [total + weight * p for total, p in zip(mass, here, strict=True)]
        floor = weight * least(token)
        if said := bare(token.text):
            if said not in options and (later := read_said(answer, options)).probabilities is not None:
                return later
            break
        weight *= math.exp(token.logprob)
    return choice_from(mass, floor, answer)


def read_said(answer: Completion, options: Sequence[str] = LABELS) -> Choice:
    """The preference in an answer that comes to its label in words: from the alternatives to the digit it closes with,
    given what it wrote before. Without log-probabilities the probabilities are ``None`` and the text must do."""
    if not answer.tokens:
        return Choice(None, None, answer.text, answer.call_id)
    parsed = parse_answer("".join(token.text for token in answer.tokens))
    token = token_at(answer.tokens, parsed.offset) if parsed else None
    if token is None:
        return Choice(None, 0.0, answer.text, answer.call_id)
    return choice_from(label_mass(token, options), least(token), answer)


def choice_from(mass: Sequence[float], floor: float, answer: Completion) -> Choice:
    """Normalise the labels' ``mass``; a label without any gets ``floor``. No mass at all is no probability."""
    coverage = sum(mass)
    if not coverage > 0.0:
        return Choice(None, 0.0, answer.text, answer.call_id)
    floored = any(p == 0.0 for p in mass)
    filled = [p or min(floor, max(0.0, 1.0 - coverage)) or 1e-12 for p in mass]
    whole = sum(filled)
    return Choice(tuple(p / whole for p in filled), min(coverage, 1.0), answer.text, answer.call_id, floored)


def label_mass(token: Token, options: Sequence[str]) -> list[float]:
    """Probability of each of ``options`` at ``token``: the sum over the alternatives that spell it."""
    alternatives = dict(token.top)
    alternatives.setdefault(token.text, token.logprob)
    return [sum(math.exp(p) for text, p in alternatives.items() if bare(text) == label) for label in options]


def least(token: Token) -> float:
    """The smallest probability among the alternatives given at ``token``."""
    return math.exp(min([p for _, p in token.top] or [token.logprob]))


def token_at(tokens: Sequence[Token], offset: int) -> Token | None:
    """The token that holds character ``offset`` of the concatenated token texts."""
    end = 0
    for token in tokens:
        end += len(token.text)
        if offset < end:
            return token
    return None
