"""The listwise critic: one list for all attempts, read in two orders, and every pair judged by its places."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from quipwright.core.records import Comparison
from quipwright.critics.combine import by_pair
from quipwright.critics.config import config_of
from quipwright.critics.listwise import Listwise, ListwiseCritic, parse_order
from quipwright.data.task import Task
from quipwright.llm.types import Failure, Request
from quipwright.testing.asking import comparison
from quipwright.testing.critics import ScriptedModel

WORTH = {"a joke": 3, "a pun": 2, "a fact": 1, "a mess": 0}


def shown(request: Request) -> list[str]:
    blocks = re.findall(r"--- begin (\w+) ---\n(.*?)\n--- end \1 ---", request.messages[-1].content, re.DOTALL)
    return [text for _, text in blocks][1:]


def honest(request: Request) -> str:
    texts = shown(request)
    return " > ".join(str(texts.index(text) + 1) for text in sorted(texts, key=lambda text: -WORTH[text]))


def pairs() -> list[Comparison]:
    return [comparison(a, b) for a, b in combinations(WORTH, 2)]


def test_two_calls_judge_every_pair_of_a_list() -> None:
    model = ScriptedModel(honest)
    judgments = by_pair(ListwiseCritic(model, Task.load()).judge(pairs()))
    assert len(model.asked) == 2, "six pairs one by one are twelve calls"
    first, second = map(shown, model.asked)
    assert first == second[::-1]
    assert sorted(first) == sorted(WORTH)
    for pair in pairs():
        one, other = judgments[pair.pair.id]
        assert (one.shown, other.shown) == ("ab", "ba")
        assert (one.p_a, other.p_a) == (1.0, 1.0), "the first of each pair is worth more"
        assert one.judge == "listwise:fake"


def test_a_critic_of_places_changes_every_verdict_with_the_order() -> None:
    model = ScriptedModel(lambda request: " > ".join(str(i) for i in range(1, len(shown(request)) + 1)))
    judged = by_pair(ListwiseCritic(model, Task.load()).judge(pairs()))
    assert all([j.p_a for j in both] == [1.0, 0.0] for both in judged.values())


def test_no_order_is_asked_for_once_more_and_then_unread() -> None:
    model = ScriptedModel(lambda request: "I like the second.")
    judgments = ListwiseCritic(model, Task.load()).judge(pairs()[:1])
    assert [(j.verdict, j.p_a, j.answered) for j in judgments] == [("unparsed", None, True)] * 2
    assert "no order in: I like the second." in (judgments[0].reason or "")
    assert len(model.asked) == 4
    failed = ScriptedModel(lambda request: Failure("status 500"))
    assert not any(j.answered for j in ListwiseCritic(failed, Task.load()).judge(pairs()[:1]))
    assert len(failed.asked) == 2, "what nobody answered is not asked for again"


def test_the_same_text_twice_is_a_tie_without_a_question() -> None:
    model = ScriptedModel(honest)
    assert [j.verdict for j in ListwiseCritic(model, Task.load()).judge([comparison("a joke", "a joke")])] == [
        "tie",
        "tie",
    ]
    assert model.asked == []


@pytest.mark.parametrize(
    ("answer", "order"),
    [
        ("2 > 1 > 3", [2, 1, 3]),
        ("Of 3 texts:\n**3, 1, 2**", [3, 1, 2]),
        ("3 > 1", []),
        ("1 > 1 > 2", []),
        ("1 > 2 > 3 > 4", []),
        ("", []),
    ],
)
def test_an_order_is_a_line_that_holds_each_number_once(answer: str, order: list[int]) -> None:
    assert parse_order(answer, 3) == order


def test_it_is_a_kind_of_critic() -> None:
    assert config_of("listwise") is Listwise
    settings = Listwise.model_validate(Listwise.tree("embedded"))
    (asked,) = settings.questions(10)
    assert (asked.pairs, asked.lists) == (0, ((10, 2),))
