"""The estimate: calls, tokens and money by hand, and a measured handful."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faulty_server import FaultyServer
from tests.test_calls_drill import chat
from understudy.critic.mcp import Reader
from understudy.estimate import Work, estimate, main, measured
from understudy.llm.calls import Calls
from understudy.llm.spend import Price
from understudy.planning import plan
from understudy.recipe import Recipe
from understudy.records import Example
from understudy.task import Task
from understudy.teacher import ModelTeacher

TASK = Task.load()


def test_the_papers_setting_counts_calls_by_hand() -> None:
    price = Price(input=1.0, output=2.0)
    made = estimate(TASK, Work(), {"teacher": price, "critic": price})
    teacher, critic = made.lines
    assert (teacher.calls, critic.calls) == (12_000, 24_000)
    assert teacher.cost == pytest.approx(12_000 * (teacher.tokens_in + 2 * teacher.tokens_out) / 1e6)
    assert made.cost == pytest.approx((teacher.cost or 0) + (critic.cost or 0))
    assert made.hours == pytest.approx((12_000 * teacher.seconds + 24_000 * critic.seconds) / 32 / 3600)


@pytest.mark.parametrize(
    ("reader", "calls", "out"),
    [
        ({"reading": "answer_only"}, 24_000, 4),
        ({"reading": "reason_then_answer", "reasons": 3}, 72_000, 40),
        ({"reading": "sampled", "samples": 8}, 192_000, 8),
    ],
)
def test_each_reading_has_its_own_count(reader: dict[str, object], calls: int, out: int) -> None:
    (line,) = estimate(TASK, Work(literals=0, reader=Reader.model_validate(reader)), {}).lines
    assert (line.calls, line.tokens_out) == (calls, out)


def test_an_unknown_price_is_unknown() -> None:
    made = estimate(TASK, Work(), {"teacher": Price(input=1, output=1)})
    assert made.cost is None
    assert made.table().count("unknown") == 2


def test_a_measured_handful_replaces_what_was_reckoned(tmp_path: Path) -> None:
    prices = {"m": Price(input=1.0, output=1.0)}
    examples = [Example(text=f"It rained {i} times.") for i in range(5)]
    with FaultyServer(lambda body: "1. Wet again, says my sock.", tokens=50) as server:
        with Calls.open(tmp_path, prices=prices) as calls:
            teacher = ModelTeacher(model=chat(server)).open(calls, TASK)
            (line,) = estimate(TASK, Work(literals=1000, pairs=0, teacher="m"), prices).lines
            better = measured(line, calls, lambda: teacher.teach(examples), prices)
            assert (better.tokens_in, better.tokens_out, better.measured) == (50, 50, True)
            assert better.cost == pytest.approx(1000 * 100 / 1e6)
            assert measured(line, calls, lambda: teacher.teach(examples), prices) == line
        assert len(server.bodies) == 5


def test_the_command_prints_three_prices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--reading", "sampled"]) == 0
    assert capsys.readouterr().out.count("| all |") == 3


def test_a_judge_is_priced_for_the_evaluation_and_the_critic_for_the_rounds_too() -> None:
    model = {"kind": "local", "weights": "embedded"}
    critic = {"kind": "mcp", "model": model}
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "critic": critic,
            "select": {"kind": "random"},
            "evaluate": {"judges": [critic, {"kind": "reward"}]},
        }
    )
    examples = [Example(text=f"It rained {i} times.", split=s) for i, s in enumerate(["train"] * 7 + ["test"] * 2)]
    calls = [line.calls for one in plan(recipe, TASK, examples) for line in one.lines]
    # two students against teacher and base, and with one another: 5 pairs an input, each in both orders
    assert calls == [2 * (7 + 2 * 5), 2 * 2 * 5]
