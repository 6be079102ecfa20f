"""Reading the words and the log-probabilities of an answer."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.llm.answer_parser import parse_answer
from quipwright.llm.label_logprobs import read_choice, read_said
from quipwright.llm.types import Completion, Token

# --- reading words ----------------------------------------------------------------------------------------------------

PARSED = [
    ("Answer: 1", "1"), ("**Answer:** 2", "2"), ("answer is (1)", "1"), ("1", "1"), (" 2.", "2"), ("(2)", "2"),
    ("Answer: Rewrite 2", "2"), ("The answer is 1.", "1"), ("It is funnier than 2.\nAnswer: 1", "1"),
    ("Answer: 2\nNo wait. Answer: 1", "1"), ("**Answer: 2**", "2"), ("Answer:\n1", "1"), ("Answer = 2", "2"),
    ("I choose 2.", "2"), ("I would pick rewrite 1", "1"), ("Option 2", "2"),
    ("Answer: 1, since it is funnier than 2.", "1"), ("Answer: 12", None), ("Answer: Both", None),
    ("Answer: 1 or 2", None), ("Answer: 1/2", None), ("Answer: 1 and 2", None), ("Answer: 1, 2", None),
    ("Answer: your choice of 2", None), ("Answer: 3", None), ("Answer: 1.5", None), ("Answer:", None),
    ("1. The train arrived late.\n2. It came.", None), ("12", None), ("", None),
    ("I cannot decide between 1 and 2.", None), ("Answer: 1\nAnswer: Both", None), ("The answer to life is 42", None),
    ("answers 1", None), ("Rewrite 1 is bad.", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "label"), PARSED)
def test_the_parse_table(text: str, label: str | None) -> None:
    answer = parse_answer(text)
    assert (answer.label if answer else None) == label
    if answer:
        assert text[answer.offset] == label


@given(st.text(max_size=80))
def test_no_words_break_the_reader(text: str) -> None:
    answer = parse_answer(text)
    assert answer is None or text[answer.offset] in "12"


# --- reading probabilities --------------------------------------------------------------------------------------------


def token(text: str, **top: float) -> Token:
    names = {"one": "1", "two": "2", "blank": " ", "the": "The", "bold": "**1", "spaced": " 1"}
    pairs = tuple((names.get(n, n), math.log(p)) for n, p in top.items())
    return Token(text, dict(pairs).get(text, 0.0), pairs)


def test_worked_numbers_of_both_orders() -> None:
    first = read_choice(Completion("1", tokens=(token("1", one=0.6, two=0.2),)), ("1", "2"))
    second = read_choice(Completion("1", tokens=(token("1", one=0.5, two=0.3),)), ("1", "2"))
    assert first.probabilities == pytest.approx((0.75, 0.25))
    assert (first.coverage, second.coverage) == pytest.approx((0.8, 0.8))
    assert second.probabilities == pytest.approx((0.625, 0.375))


def test_a_missing_label_gets_the_floor_and_says_so() -> None:
    top = (("1", -0.1), ("The", -5.0), ("x", -9.2))
    choice = read_choice(Completion("1", tokens=(Token("1", -0.1, top),)), ("1", "2"))
    assert choice.floored
    assert choice.probabilities is not None
    assert choice.probabilities[0] == pytest.approx(0.99989, abs=5e-6)


def test_all_spellings_of_a_label_are_summed() -> None:
    choice = read_choice(Completion("1", tokens=(token("1", one=0.3, spaced=0.2, bold=0.1, two=0.2),)), ("1", "2"))
    assert choice.coverage == pytest.approx(0.8)
    assert choice.probabilities == pytest.approx((0.75, 0.25))


def test_reading_goes_on_behind_a_blank_weighted_by_it() -> None:
    tokens = (token(" ", blank=0.8, one=0.1), token("2", one=0.3, two=0.6), token("1", one=1.0))
    choice = read_choice(Completion(" 2", tokens=tokens), ("1", "2"))
    assert choice.probabilities == pytest.approx((0.34 / 0.82, 0.48 / 0.82))
    assert choice.coverage == pytest.approx(0.82)


def test_no_label_among_the_alternatives_is_no_probability() -> None:
    choice = read_choice(Completion("The", tokens=(token("The", the=0.9),)), ("1", "2"))
    assert choice.probabilities is None
    assert choice.coverage == 0.0


def test_a_reasoned_answer_is_read_at_its_last_digit() -> None:
    tokens = (token("1", one=1.0), Token(" is better, Answer", 0.0), Token(": ", 0.0), token("2", one=0.2, two=0.6))
    choice = read_said(Completion("1 is better, Answer: 2", tokens=tokens))
    assert choice.probabilities == pytest.approx((0.25, 0.75))
