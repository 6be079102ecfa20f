"""What judgments of a pair add up to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.core.errors import CriticError
from quipwright.core.records import Judgment, Verdict
from quipwright.critics.combine import (
    by_pair,
    combined,
    combined_by_pair,
    require_readable,
    unread,
    verdict_of,
    vote_share,
)
from quipwright.testing.asking import comparison


def judgment(pair: str = "p", p: float | None = None, verdict: Verdict | None = None, reason: str = "") -> Judgment:
    return Judgment(pair_id=pair, judge="m", p_a=p, verdict=verdict or verdict_of(p), reason=reason)


def test_votes_are_counted_with_a_half_each() -> None:
    assert vote_share(["1", "1", "2", None]) == pytest.approx(2.5 / 4)
    assert vote_share(["1"] * 8) == pytest.approx(8.5 / 9)
    assert vote_share([None, None]) is None


def test_both_orders_are_averaged_and_one_order_alone_is_no_verdict() -> None:
    assert combined([judgment(p=0.75), judgment(p=0.375)]) == 0.5625  # the paper's worked numbers
    assert combined([judgment(p=0.75), judgment()]) is None
    assert combined([judgment(verdict="A"), judgment(verdict="tie")]) == 0.75
    assert combined([judgment(p=0.2)]) == 0.2  # a judge that is shown no order answers once
    assert combined([]) is None


def test_judgments_are_grouped_by_pair_in_order() -> None:
    rows = [judgment("p", 0.9), judgment("q", 0.3), judgment("p", 0.7)]
    assert by_pair(rows) == {"p": [rows[0], rows[2]], "q": [rows[1]]}
    assert combined_by_pair(rows) == {"p": pytest.approx(0.8), "q": 0.3}


@given(st.floats(0, 1), st.floats(0, 0.49))
def test_swapping_a_judgment_turns_its_verdict_and_swapping_twice_changes_nothing(p: float, tie: float) -> None:
    one = Judgment(pair_id=comparison().pair.id, judge="m", p_a=p, verdict=verdict_of(p, tie))
    other = one.swapped("q")
    assert (other.pair_id, other.shown, other.credit) == ("q", "ba", 1 - p)
    assert other.verdict == {"A": "B", "B": "A", "tie": "tie"}[one.verdict]
    back = other.swapped(one.pair_id)
    assert back.p_a == pytest.approx(p)
    assert (back.verdict, back.shown) == (one.verdict, one.shown)


def test_swapping_a_comparison_is_another_pair() -> None:
    one = comparison("x", "y")
    assert (one.swapped().a, one.swapped().b, one.swapped().pair.a_id) == ("y", "x", "y")
    assert one.swapped().pair.id != one.pair.id
    assert one.swapped().swapped() == one


def test_a_judge_that_cannot_be_read_is_named_with_what_stood_in_the_way() -> None:
    lost = [judgment(reason="no label: I like both"), judgment(reason="no label: I like both"), judgment(reason="x")]
    with pytest.raises(
        CriticError, match=r"Critic m could not be read in 3 of 3 judgments \(2 times: no label: I like both\)"
    ):
        require_readable(lost)
    require_readable([*lost, judgment(p=0.5)])
    require_readable([])
    assert unread([judgment(p=0.5)]) == "every judgment was read"
