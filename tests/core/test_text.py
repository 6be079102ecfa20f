"""Text measures: N-DIST's table worked by hand, its laws, and the filters that decide what may be trained on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from quipwright.core.text import (
    degenerate,
    distinct_n,
    is_copy,
    length_ratio,
    n_dist,
    normalise,
    printable,
    repetition,
    stock_turns,
    word_count,
    words,
)

C = (
    "the cat stole my sandwich",
    "the cat stole my lunch",
    "my sandwich was stolen by a furry bandit",
    "a furry bandit relieved me of my sandwich",
    "the cat stole my sandwich again",
    "my cat is a thief",
)


@pytest.mark.parametrize(
    ("i", "j", "two", "one", "characters", "ratio"),
    [
        (0, 1, 0.1000, 0.2000, 0.2200, 1.000),
        (0, 2, 0.9375, 1.0000, 0.6875, 0.625),
        (0, 3, 0.7500, 0.7500, 0.5976, 0.625),
        (0, 4, 0.1667, 0.1667, 0.1935, 0.833),
        (0, 5, 0.7000, 0.8000, 0.6600, 1.000),
        (2, 3, 0.9375, 1.0000, 0.7439, 1.000),
        (3, 5, 0.9375, 1.0000, 0.7927, 0.625),
    ],
)
def test_n_dist_table(i: int, j: int, two: float, one: float, characters: float, ratio: float) -> None:
    a, b = C[i].split(), C[j].split()
    assert n_dist(a, b, 2) == pytest.approx(two, abs=5e-5)
    assert n_dist(a, b, 1) == pytest.approx(one, abs=5e-5)
    assert n_dist(C[i], C[j], 2) == pytest.approx(characters, abs=5e-5)
    assert length_ratio(C[i], C[j]) == pytest.approx(ratio, abs=5e-4)


def test_n_dist_of_kondrak() -> None:
    assert n_dist("ABCD", "ABTUIO", 2) == pytest.approx(0.583333, abs=1e-6)
    assert n_dist("a", "abbaaa", 1) == pytest.approx(5 / 6)


sequences = st.lists(st.sampled_from("abc"), max_size=7)


@given(sequences, sequences, st.integers(1, 4))
def test_n_dist_is_symmetric_bounded_and_zero_only_for_equals(a: list[str], b: list[str], n: int) -> None:
    distance = n_dist(a, b, n)
    assert distance == pytest.approx(n_dist(b, a, n), abs=1e-12)
    assert 0 <= distance <= 1
    assert (distance == 0) == (a == b)


@given(sequences, sequences)
def test_n_dist_of_single_items_is_levenshtein_over_the_longer(a: list[str], b: list[str]) -> None:
    assert n_dist(a, b, 1) == pytest.approx(Levenshtein.normalized_distance(a, b))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_n_dist_of_nothing(n: int) -> None:
    assert n_dist([], [], n) == 0
    assert n_dist([], ["a"], n) == 1
    assert n_dist(["a"], [], n) == 1


def test_n_dist_needs_n() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        n_dist("a", "b", 0)


@given(st.text(max_size=40), st.text(max_size=40))
def test_length_ratio_is_symmetric_and_bounded(a: str, b: str) -> None:
    assert 0 <= length_ratio(a, b) <= 1
    assert length_ratio(a, b) == length_ratio(b, a)


@given(st.text(max_size=60))
def test_normalise_is_idempotent(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_words_and_their_count() -> None:
    assert words("“It’s  LATE,” he said—again!") == ['"', "it's", "late", ",", '"', "he", "said", "—", "again", "!"]
    assert word_count("It’s LATE, he said — again!") == 5
    assert word_count("?!") == 0


def test_a_copy_is_known_whatever_its_punctuation() -> None:
    literal = "My train was late again today, sadly."
    assert is_copy("my train was late again today -- sadly!", literal)
    assert is_copy("My bus was late again today, sadly.", literal)
    assert not is_copy("My train treats its timetable as fiction.", literal)


def test_diversity_and_repetition() -> None:
    assert distinct_n(["a b c", "a b d"]) == pytest.approx(3 / 4)
    assert distinct_n([]) == 0
    assert repetition("a b c a b c a b c") == pytest.approx(1 - 3 / 7)
    assert repetition("a b") == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("!?! 12", "symbols"),
        ("ha ha ha ha ha ha ha", "repeats"),
        (" ".join(f"w{i}" for i in range(17)), "too long"),
        ("My train has retired.", None),
    ],
)
def test_degenerate_names_the_reason(text: str, reason: str | None) -> None:
    assert degenerate(text, "My train was late.") == reason


@given(st.text())
def test_what_is_printed_moves_no_cursor_and_is_one_line(text: str) -> None:
    shown = printable(text)
    assert "\n" not in shown
    assert not [c for c in shown if ord(c) < 32 or 0x7F <= ord(c) < 0xA0]
    shown.encode()  # half surrogates are escaped too
    assert printable(shown) == shown


def test_printable_leaves_ordinary_text_alone() -> None:
    assert printable("Zoë said: “½ of 👩‍👧 שלום”\tand left.\n") == "Zoë said: “½ of 👩‍👧 שלום” and left. "
    assert printable("\x1b[2J\x07\x9b\ud83d\u202e") == r"\x1b[2J\x07\x9b\ud83d\u202e"


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.lists(st.sampled_from("abcd"), max_size=8))
def test_a_copy_is_told_by_the_word_distance(a: list[str], b: list[str]) -> None:
    assert is_copy(" ".join(a), " ".join(b), 0.3) == (n_dist(a, b, 1) <= 0.3)


def test_stock_turns_are_endings_that_another_text_shares() -> None:
    happy = [
        "I lost my key, and I've never been happier.",
        "It rained. I have never been happier!",
        "Never been happier",
    ]
    assert stock_turns([*happy, "The cat ate it, so the cat is full."]) == 3 / 4
    assert stock_turns(["been happier", "been happier"]) == 0  # two words are no turn
    assert stock_turns(["a b c d", "x b c d", "a b c e", "a b c e", "c d e"]) == 4 / 5
    assert stock_turns(["It rained."]) == 0
    assert stock_turns([]) is None


@given(st.lists(st.text(alphabet="ab ,.", max_size=12), min_size=1, max_size=8))
def test_one_more_text_takes_no_stock_turn_away(texts: list[str]) -> None:
    before = round((stock_turns(texts) or 0) * len(texts))
    assert round((stock_turns([*texts, "c c c"]) or 0) * (len(texts) + 1)) == before
    assert round((stock_turns(texts * 2) or 0) * 2 * len(texts)) == sum(
        len([w for w in words(t) if w[0].isalnum()]) >= 3 for t in texts * 2
    )
