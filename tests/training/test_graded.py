"""Graded attempts: which pairs, labelled texts and imitated texts are made of them, by hand and by law."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.core.errors import DataError
from quipwright.core.records import Example, Response
from quipwright.core.text import is_copy, length_ratio
from quipwright.data.graded import GradedRow, RepairRow
from quipwright.students.batches import CONTRAST
from quipwright.training.preference.graded import (
    GradedPairs,
    Preferred,
    graded_pairs,
    grouped,
    imitated,
    labelled,
    repaired,
)
from quipwright.training.preference.rows import labelled_rows

LITERAL = "The cat ate my lunch."
LEVELS = ("broken", "plain", "funny")
JOKE, BETTER = "The cat ate my lunch and rated it two stars.", "The cat ate my lunch and asked for the bill."
PLAIN, BROKEN = "The cat had my lunch all to itself today.", "The lunch ate my star cat and two bills."


def row(text: str, grade: int, style: str = "tag", literal: str = LITERAL) -> GradedRow:
    return GradedRow(literal=literal, text=text, style=style, grade=grade)


def pairs(
    rows: list[GradedRow], *, least: int = 2, length: float = 0.8, seed: int = 0, **rule: object
) -> list[Preferred]:
    settings = GradedPairs.model_validate(rule)
    return graded_pairs(grouped(rows), settings, least=least, levels=LEVELS, length=length, seed=seed)


def told(chosen: list[Preferred]) -> set[tuple[str, str]]:
    return {(pair.winner, pair.loser) for pair in chosen}


def test_a_good_text_beats_each_sort_of_worse_one() -> None:
    rows = [row(JOKE, 2), row(PLAIN, 1), row(BROKEN, 0)]
    assert told(pairs(rows)) == {(JOKE, PLAIN), (JOKE, BROKEN)}
    assert told(pairs(rows, losers={"broken": 1})) == {(JOKE, BROKEN)}
    assert told(pairs(rows, losers={"broken": 0, "plain": 2})) == {(JOKE, PLAIN)}
    assert told(pairs(rows, least=1, losers={"broken": 1})) == {(JOKE, BROKEN), (PLAIN, BROKEN)}
    assert told(pairs(rows, least=1)) == {(JOKE, PLAIN), (JOKE, BROKEN), (PLAIN, BROKEN)}


def test_a_text_that_was_graded_twice_has_the_lower_grade() -> None:
    twice = grouped([row(JOKE, 2), row(PLAIN, 1), row(JOKE, 1), row(JOKE, 3)])
    assert {text.text: text.grade for text in twice[LITERAL, "tag"]} == {JOKE: 1, PLAIN: 1}


def test_only_texts_of_one_style_and_like_length_meet() -> None:
    assert pairs([row(JOKE, 2, "tag"), row(PLAIN, 1, "free"), row(BROKEN, 0, "short")]) == []
    short = row("My lunch is cat.", 0)
    assert pairs([row(JOKE, 2), short], losers={"broken": 1}) == []
    assert told(pairs([row(JOKE, 2), short], losers={"broken": 1}, length=0.4)) == {(JOKE, short.text)}


def test_copies_neither_win_nor_lose() -> None:
    assert pairs([row(LITERAL, 2), row(BROKEN, 0)], losers={"broken": 1}, length=0.0) == []
    assert pairs([row(JOKE, 2), row(LITERAL, 1)], losers={"plain": 1}, length=0.0) == []


def test_a_literals_pairs_are_few_and_of_different_texts() -> None:
    rows = [row(JOKE, 3), row(BETTER, 2), row(BROKEN, 0), row("The bills ate my cat and lunch is a star.", 0)]
    chosen = pairs(rows, most=2, losers={"broken": 1})
    assert len(chosen) == 2
    assert Counter(text for pair in chosen for text in (pair.winner, pair.loser)) == dict.fromkeys(
        [r.text for r in rows], 1
    )
    assert len(pairs(rows, most=9, losers={"broken": 1})) == 4


def test_the_shares_of_losers_hold_and_what_is_too_much_is_left_out() -> None:
    rows = []
    for number in range(30):  # ten literals have a plain loser, all have a broken one
        literal = f"Number {number} of my cats ate lunch."
        rows += [row(f"Number {number} of my cats ate and rated it.", 2, literal=literal)]
        rows += [row(f"Number {number} of my lunch is cats in it.", 0, literal=literal)]
        rows += [row(f"Lunch went to cat number {number} of mine.", 1, literal=literal)] * (number < 10)
    grade = {r.text: r.grade for r in rows}

    def losers(**rule: object) -> dict[int, int]:
        return dict(Counter(grade[pair.loser] for pair in pairs(rows, **rule)))

    assert losers() == {0: 30, 1: 10}
    assert losers(losers={"broken": 1, "plain": 1}) == {0: 10, 1: 10}
    assert losers(losers={"broken": 3, "plain": 1}) == {0: 30, 1: 10}
    assert losers(losers={"broken": 1, "plain": 3}) == {0: 3, 1: 10}
    assert losers(losers={"broken": 1}) == {0: 30}


def test_a_level_that_no_loser_has_is_named() -> None:
    with pytest.raises(DataError, match="losers names 'funny', which is no level below the best"):
        pairs([row(JOKE, 2)], losers={"funny": 1})


TEXTS = st.builds(
    row,
    st.lists(st.sampled_from(["cat", "lunch", "bill", "star"]), min_size=1, max_size=6).map(" ".join),
    st.integers(0, 3),
    st.sampled_from(["tag", "free"]),
    st.sampled_from(["I ate.", "It rained on my cat.", "cat lunch bill star"]),
)


@given(st.lists(TEXTS, max_size=25, unique_by=lambda r: (r.literal, r.text)), st.integers(1, 4), st.integers(0, 3))
def test_every_pair_keeps_the_rules(rows: list[GradedRow], most: int, seed: int) -> None:
    grades = {(r.literal, r.style, r.text): r.grade for r in rows}
    even = {"broken": 0.5, "plain": 0.5}
    chosen = pairs(rows, most=most, seed=seed, length=0.7, losers=even)
    assert chosen == pairs(rows, most=most, seed=seed, length=0.7, losers=even)
    assert len(set(chosen)) == len(chosen)
    assert all(count <= most for count in Counter(pair.group[0] for pair in chosen).values())
    lost = Counter()
    for pair in chosen:
        assert grades[*pair.group, pair.winner] >= 2 > grades[*pair.group, pair.loser]
        assert length_ratio(pair.winner, pair.loser) >= 0.7
        assert not is_copy(pair.winner, pair.group[0])
        lost[grades[*pair.group, pair.loser]] += 1
    assert lost[0] == lost[1]


def test_repairs_beat_the_attempt_they_mend() -> None:
    mended = RepairRow(literal=LITERAL, attempt=BROKEN, repair=JOKE, style="tag", grade=0)
    assert repaired([mended]) == [Preferred((LITERAL, "tag"), JOKE, BROKEN)]


def test_labelled_texts_are_desirable_from_a_grade_on_and_copies_never() -> None:
    rows = [row(JOKE, 2), row(PLAIN, 1), row(BROKEN, 0), row(LITERAL, 3)]
    group = (LITERAL, "tag")
    by_hand = [(group, JOKE, True), (group, PLAIN, False), (group, BROKEN, False), (group, LITERAL, False)]
    assert labelled(grouped(rows), 2) == by_hand
    assert labelled(grouped(rows[:3]), 1) == [(g, t, good or t == PLAIN) for g, t, good in by_hand[:3]]
    assert labelled(grouped(rows[:3]), 2, copies=1.0) == [*by_hand[:3], (group, LITERAL, False)]


def test_imitated_texts_are_the_good_ones_and_weighted_by_their_grade() -> None:
    rows = [row(JOKE, 2), row(BETTER, 3), row(PLAIN, 1), row(LITERAL, 3), row(BROKEN, 0, literal="Another one.")]
    assert imitated(grouped(rows), 2, weighted=False) == {(LITERAL, "tag"): [JOKE, BETTER]}
    assert imitated(grouped(rows), 2, weighted=True) == {(LITERAL, "tag"): [JOKE, BETTER, BETTER]}
    assert imitated(grouped(rows), 3, weighted=True) == {(LITERAL, "tag"): [BETTER]}


def test_a_labelled_row_is_a_text_its_label_and_another_examples_text() -> None:
    examples = [Example(text=text) for text in ("One.", "Two.", "Three.")]
    texts = [Response(example_id=e.id, text=f"{e.text} {i}", author="x", style="tag") for e in examples for i in "ab"]
    marks = [(r, r.text.endswith("a")) for r in texts]
    rows, columns = labelled_rows(lambda e, style: f"{e.text}|{style}", {e.id: e for e in examples}, marks, 2, 0)
    assert [r.prompt for r in rows] == [f"{e.text}|tag" for e in examples for _ in "ab"]
    assert [r.ranks for r in rows] == [(0, CONTRAST, CONTRAST), (1, CONTRAST, CONTRAST)] * 3
    for made, own, response in zip(rows, columns, texts, strict=True):
        assert made.responses == tuple(r.text for r in own)
        assert own[0] is response
        assert all(other.example_id != response.example_id for other in own[1:])
        assert own[1] is not own[2]
    assert [r.ranks for r in labelled_rows(lambda e, s: "", {e.id: e for e in examples}, marks[:2], 1, 0)[0]] == [
        (0,),
        (1,),
    ]
