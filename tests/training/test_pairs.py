"""Selectors keep their laws; judgments imply the order they should, whichever side stood first."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.core.records import Example, Grade, Judgment, Pair, Ranking, Response, Status
from quipwright.core.text import n_dist, words
from quipwright.data.task import LengthRule
from quipwright.training.preference.pairs import (
    BestWorst,
    Diverse,
    DiverseQuality,
    Listed,
    Random,
    Scores,
    TeacherMix,
    acceptance,
    copies_last,
    select,
)
from quipwright.training.preference.ranking import RankRule, chained, copy_losers, rank, unranked

EXAMPLE = Example(text="The cat ate my sandwich.")
ANY = LengthRule(minimum=0)
TEXTS = (
    "the cat stole my sandwich",
    "the cat stole my lunch",
    "my sandwich was stolen by a furry bandit",
    "a furry bandit relieved me of my sandwich",
    "the cat stole my sandwich again",
    "my cat is a thief",
)


def responses(*texts: str) -> list[Response]:
    return [Response(example_id=EXAMPLE.id, text=text, author="student:x") for text in texts]


def scored(own: list[Response], *values: float) -> dict[str, float]:
    return {r.id: v for r, v in zip(own, values, strict=True)}


# --- the length rule -------------------------------------------------------------------------------------------------


def test_length_rule_gives_both_orders_one_answer() -> None:
    rule = LengthRule()
    short, long = " ".join(["w"] * 82), " ".join(["w"] * 100)
    assert rule.passes(short, long) == rule.passes(long, short) == False  # noqa: E712 - both sides of the chain
    assert rule.passes("a b c d e", "a b c d e f")
    assert not rule.passes("a b c d", "a b c d e")


@given(st.lists(st.sampled_from("ab"), max_size=9), st.lists(st.sampled_from("ab"), max_size=9))
def test_length_rule_is_symmetric(a: list[str], b: list[str]) -> None:
    assert LengthRule().passes(" ".join(a), " ".join(b)) == LengthRule().passes(" ".join(b), " ".join(a))


# --- selectors -------------------------------------------------------------------------------------------------------


def test_diverse_takes_the_largest_distance_within_the_rule() -> None:
    texts = responses(*TEXTS)
    a, b = Diverse()(texts, None, LengthRule(), 0)[0]
    assert (a, b) == (texts[2].id, texts[3].id)


def test_diverse_with_the_rule_after_loses_an_input_whose_most_distant_pair_is_unequal() -> None:
    texts = responses(*TEXTS)
    # (0, 2) is as distant as (2, 3) and comes first; its ratio is 5/8
    assert Diverse(length_rule="after")(texts, None, LengthRule(), 0) == []
    assert Diverse(length_rule="after")(texts, None, ANY, 0) == [(texts[0].id, texts[2].id)]


def test_what_the_length_rule_let_through_is_counted() -> None:
    texts = responses("a b c", "x y z", "a b c d e f")
    dropped = [texts[0], *(r.model_copy(update={"status": Status.DUPLICATE}) for r in texts[1:])]
    picked = [Pair(example_id="e", a_id=texts[0].id, b_id=texts[1].id, selector="diverse")]
    counts = acceptance({"e": texts, "f": texts[1:], "g": dropped}, picked, LengthRule())
    assert counts == {"pairs": 4, "within": 1, "literals": 2, "paired": 1}


attempts = st.lists(
    st.lists(st.sampled_from(["cat", "dog", "late", "train"]), min_size=1, max_size=6).map(" ".join),
    max_size=6,
    unique=True,
)


@given(attempts)
def test_diverse_beats_every_other_pair(texts: list[str]) -> None:
    attempts = responses(*texts)
    picked = Diverse()(attempts, None, LengthRule(), 0)
    allowed = [(a, b) for a, b in combinations(attempts, 2) if LengthRule().passes(a.text, b.text)]
    assert len(picked) == min(1, len(allowed))
    by_id = {r.id: words(r.text) for r in attempts}
    for a, b in picked:
        best = max(n_dist(words(x.text), words(y.text)) for x, y in allowed)
        assert n_dist(by_id[a], by_id[b]) == best


@given(attempts, st.integers(0, 9))
def test_random_keeps_the_rule_and_repeats_itself(texts: list[str], seed: int) -> None:
    attempts = responses(*texts)
    picked = Random()(attempts, None, LengthRule(), seed)
    assert picked == Random()(attempts, None, LengthRule(), seed)
    by_id = {r.id: r.text for r in attempts}
    assert all(a != b and LengthRule().passes(by_id[a], by_id[b]) for a, b in picked)


def test_random_draws_differently_by_seed() -> None:
    attempts = responses(*TEXTS)
    assert len({Random()(attempts, None, ANY, seed)[0] for seed in range(40)}) > 5


def test_best_worst_is_the_widest_margin_within_the_rule() -> None:
    attempts = responses("a b c d", "a b c e", "x", "a b d d")
    scores = scored(attempts, 1.0, 3.0, -9.0, 0.5)
    assert BestWorst()(attempts, scores, LengthRule(), 0) == [(attempts[1].id, attempts[3].id)]
    assert BestWorst()(attempts, scores, ANY, 0) == [(attempts[1].id, attempts[2].id)]
    both = BestWorst(pairs=2)(attempts, scores, LengthRule(), 0)
    assert both == [(attempts[1].id, attempts[3].id), (attempts[1].id, attempts[0].id)]


def test_a_copy_is_the_worst_candidate_however_the_critic_likes_it() -> None:
    attempts = responses("the cat ate my sandwich", "the cat stole my sandwich", "sandwich sandwich cat the my")
    liked = scored(attempts, 2.0, 0.5, -3.0)
    scores = copies_last(liked, [EXAMPLE], {EXAMPLE.id: attempts})
    assert scores == scored(attempts, -4.0, 0.5, -3.0)
    (pair,) = select(BestWorst(), [EXAMPLE], {EXAMPLE.id: attempts}, scores, ANY, round=1, seed=0)
    assert (pair.a_id, pair.b_id) == (attempts[1].id, attempts[0].id)


def test_best_worst_without_a_margin_buys_nothing() -> None:
    attempts = responses("a b", "a c")
    assert BestWorst()(attempts, scored(attempts, 1.0, 1.0), ANY, 0) == []
    assert BestWorst()([], {}, ANY, 0) == []
    with pytest.raises(ValueError, match="critic that scores"):
        BestWorst()(attempts, None, ANY, 0)


@pytest.mark.parametrize("selector", [Diverse(), Random(), BestWorst()])
def test_select_uses_no_dropped_response(selector: Diverse | Random | BestWorst) -> None:
    attempts = responses("a b c", "a b d", "x y z")
    attempts[0] = attempts[0].model_copy(update={"status": Status.DUPLICATE})
    scores: Scores = scored(attempts, 9.0, 1.0, 0.0)
    pairs = select(selector, [EXAMPLE], {EXAMPLE.id: attempts}, scores, ANY, round=2, seed=0)
    assert [{p.a_id, p.b_id} for p in pairs] == [{attempts[1].id, attempts[2].id}]
    assert (pairs[0].selector, pairs[0].round, pairs[0].example_id) == (selector.kind, 2, EXAMPLE.id)


# --- orders ----------------------------------------------------------------------------------------------------------

PAIR = Pair(example_id=EXAMPLE.id, a_id="a", b_id="b", selector="test")


def judged(pair: Pair, *p_a: float | None, verdicts: str = "") -> list[Judgment]:
    judgments = []
    for i, p in enumerate(p_a):
        verdict = {"A": "A", "B": "B", "t": "tie", "u": "unparsed"}.get(verdicts[i : i + 1]) or (
            "tie" if p is None or p == 0.5 else "A" if p > 0.5 else "B"
        )
        judgments.append(Judgment(pair_id=pair.id, judge="j", shown=("ab", "ba")[i % 2], p_a=p, verdict=verdict))  # type: ignore[arg-type]
    return judgments


probabilities = st.floats(0, 1).map(lambda p: round(p, 3))


@given(st.lists(probabilities, min_size=1, max_size=2))
def test_naming_the_responses_the_other_way_round_gives_the_same_order(values: list[float]) -> None:
    swapped = Pair(example_id=EXAMPLE.id, a_id="b", b_id="a", selector="test")
    one = rank(PAIR, judged(PAIR, *values), RankRule())
    other = rank(swapped, judged(swapped, *(1 - v for v in values)), RankRule())
    assert (one is None) == (other is None)
    if one and other:
        assert one.best_first == other.best_first
        assert one.strength == pytest.approx(other.strength)


def test_rank_means_over_the_showings() -> None:
    ranking = rank(PAIR, judged(PAIR, 0.75, 0.6), RankRule())
    assert ranking is not None
    assert ranking.best_first == ("a", "b")
    assert ranking.strength == pytest.approx(0.675)
    assert ranking.agreement is True
    assert len(ranking.judgment_ids) == 2


@pytest.mark.parametrize(
    ("values", "verdicts"),
    [
        ((0.9, 0.45), ""),  # the showings name different winners
        ((0.55, 0.55), ""),  # below the strength
        ((0.5, 0.5), ""),
        ((), ""),
        ((None, None), "uu"),
        ((None, None), "tt"),
        ((0.99, 0.001), ""),
    ],
)
def test_no_order_without_a_clear_winner(values: tuple[float | None, ...], verdicts: str) -> None:
    assert rank(PAIR, judged(PAIR, *values, verdicts=verdicts), RankRule()) is None


@pytest.mark.parametrize(("broken", "follows"), [(0.5, True), (0.51, False), (None, True)])
def test_a_winner_that_its_grade_calls_broken_is_no_example(broken: float | None, follows: bool) -> None:
    pair = Pair(example_id="e", a_id="a", b_id="b", selector="random", round=1)
    grades = {
        i: Grade(response_id=i, judge="x", score=0.0, levels=None if value is None else (value, 1 - value, 0.0))
        for i, value in (("a", broken), ("b", 0.9))
    }
    assert (rank(pair, judged(pair, 0.9), RankRule(broken=0.5), grades) is not None) == follows
    assert rank(pair, judged(pair, 0.9), RankRule(), grades) is not None
    assert rank(pair, judged(pair, 0.9), RankRule(broken=0.5)) is not None


def test_why_pairs_have_no_order_is_counted() -> None:
    pairs = [Pair(example_id=EXAMPLE.id, a_id=f"a{i}", b_id=f"b{i}", selector="test") for i in range(7)]
    values: list[tuple[tuple[float | None, ...], str]] = [
        ((0.9, 0.1), ""), ((0.9, 0.2), ""), ((None, 0.9), "uA"), ((0.55, 0.56), ""), ((0.5, 0.5), ""), ((0.9, 0.8), ""),
        ((0.1, 0.1), ""),
    ]  # fmt: skip
    judgments = {pair.id: judged(pair, *v, verdicts=said) for pair, (v, said) in zip(pairs, values, strict=True)}
    broken = {"b6": Grade(response_id="b6", judge="x", score=0.0, levels=(0.8, 0.1, 0.1))}
    assert unranked(pairs, judgments, RankRule(broken=0.5), broken) == {
        "won by another text in either order": 2,
        "unread": 1,
        "weaker than rank.strength": 1,
        "a tie": 1,
        "won by a broken text": 1,
    }
    assert unranked(pairs[:1], {}, RankRule()) == {"unread": 1}


def test_a_pair_read_in_one_order_only_does_not_train() -> None:
    assert rank(PAIR, judged(PAIR, 0.2, None, verdicts="Bu"), RankRule()) is None
    assert rank(PAIR, judged(PAIR, 0.2, 0.2, verdicts="BB"), RankRule()) is not None


def test_a_verdict_without_probability_counts_whole() -> None:
    ranking = rank(PAIR, judged(PAIR, None, None, verdicts="BB"), RankRule())
    assert ranking is not None
    assert (ranking.best_first, ranking.strength) == (("b", "a"), 1.0)


# --- copies lose -----------------------------------------------------------------------------------------------------


def world(copies: int, n: int = 8) -> tuple[list[Ranking], dict[str, Example], dict[str, Response]]:
    examples = [Example(text=f"The cat ate sandwich number {i} in the kitchen today.") for i in range(n)]
    texts, rankings = {}, []
    for i, e in enumerate(examples):
        winner = Response(example_id=e.id, text=e.text if i < copies else f"A heist of snack {i}.", author="student:x")
        loser = Response(example_id=e.id, text=f"Cat {i}.", author="student:x")
        texts |= {winner.id: winner, loser.id: loser}
        rankings.append(Ranking(example_id=e.id, best_first=(winner.id, loser.id), strength=0.9))
    return rankings, {e.id: e for e in examples}, texts


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_copy_losers_are_literals_that_lose_to_winners_which_are_no_copies(share: float) -> None:
    rankings, examples, texts = world(copies=2)
    extra, literals = copy_losers(rankings, examples, texts, share, seed=1)
    assert len(extra) == len(literals) == round(share * 6)
    for ranking, literal in zip(extra, literals, strict=True):
        assert literal.text == examples[ranking.example_id].text
        assert ranking.best_first[1] == literal.id
        assert texts[ranking.best_first[0]].text != literal.text


def test_copy_losers_depend_on_the_seed_alone() -> None:
    rankings, examples, texts = world(copies=0)
    assert copy_losers(rankings, examples, texts, 0.5, 1) == copy_losers(rankings, examples, texts, 0.5, 1)
    drawn = {tuple(r.example_id for r in copy_losers(rankings, examples, texts, 0.5, s)[0]) for s in range(9)}
    assert len(drawn) > 1


# --- lists, variety and the teacher ----------------------------------------------------------------------------------


def test_a_list_is_spread_evenly_from_best_to_worst_and_compared_by_neighbours() -> None:
    attempts = responses("a", "b", "c", "d", "e", "f", "g")
    pairs = Listed(size=4)(attempts, scored(attempts, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0), LengthRule(), 0)
    names = {r.id: r.text for r in attempts}
    assert ["".join(names[i] for i in pair) for pair in pairs] == ["bf", "fe", "ea"]
    assert Listed()(attempts[:1], scored(attempts[:1], 1.0), LengthRule(), 0) == []


def neighbours(*orders: str, strength: float = 0.8) -> list[Ranking]:
    return [Ranking(example_id="e", best_first=tuple(o), strength=strength, agreement=True) for o in orders]


def test_neighbours_chain_into_lists_and_break_where_a_verdict_is_missing() -> None:
    assert [r.best_first for r in chained(neighbours("ab", "bc", "cd"))] == [("a", "b", "c", "d")]
    assert [r.best_first for r in chained(neighbours("ab", "cd"))] == [("a", "b"), ("c", "d")]
    assert [r.best_first for r in chained(neighbours("ba", "bc"))] == [("b", "a"), ("b", "c")]
    assert chained([]) == []
    weakest = chained([*neighbours("ab", strength=0.9), *neighbours("bc", strength=0.7)])
    assert (weakest[0].strength, weakest[0].agreement) == (0.7, True)
    other = Ranking(example_id="f", best_first=("b", "c"), strength=0.8)
    assert len(chained([*neighbours("ab"), other])) == 2


def test_diverse_quality_is_a_varied_good_one_against_a_common_bad_one() -> None:
    attempts = responses("the cat sat down", "the cat sat here", "a heist by whiskers", "the cat sat there")
    picked = DiverseQuality()(attempts, scored(attempts, 3.0, 0.0, 2.0, 0.5), LengthRule(), 0)
    assert picked == [(attempts[2].id, attempts[3].id)]
    assert DiverseQuality()(attempts, scored(attempts, 1.0, 1.0, 1.0, 1.0), LengthRule(), 0) == []


@given(attempts, st.integers(0, 5))
def test_diverse_quality_prefers_only_what_the_critic_prefers(texts: list[str], seed: int) -> None:
    attempts = responses(*texts)
    scores = {r.id: float((i * 7 + seed) % 5) for i, r in enumerate(attempts)}
    for good, bad in DiverseQuality()(attempts, scores, ANY, seed):
        assert scores[good] > scores[bad]


def test_teacher_mix_mixes_its_share_in_early_rounds_only() -> None:
    examples = [Example(text=f"Cat {i}.") for i in range(200)]
    mixed = TeacherMix(share=0.3, rounds=1, otherwise=Random())
    attempts = {
        e.id: [
            *(Response(example_id=e.id, text=f"s {i}", author="student:x") for i in range(3)),
            *(Response(example_id=e.id, text=f"t {i}", author="teacher:y") for i in range(2)),
        ]
        for e in examples
    }
    authors = {r.id: r.author for own in attempts.values() for r in own}

    def share(round: int) -> float:
        pairs = select(mixed, examples, attempts, None, ANY, round=round, seed=1)
        assert len(pairs) == 200
        return sum({authors[p.a_id], authors[p.b_id]} == {"student:x", "teacher:y"} for p in pairs) / 200

    assert share(1) == pytest.approx(0.3, abs=0.1)
    # once its rounds are over the teacher's responses are out of the game
    assert share(2) == 0
