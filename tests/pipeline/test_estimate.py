"""The estimate: calls, tokens and money by hand, and a measured handful."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.config_files import validate
from quipwright.core.errors import CriticError
from quipwright.core.records import Example
from quipwright.critics.grading import GradeCritic, GradeReader
from quipwright.critics.multiple_choice import MultipleChoice
from quipwright.critics.reader import Reader
from quipwright.data.examples import load_examples
from quipwright.data.task import Task
from quipwright.data.teacher import ModelTeacher
from quipwright.evaluation.settings import EvaluateSettings
from quipwright.llm.batch_api import Batch
from quipwright.llm.calls import Calls
from quipwright.llm.costs import Price
from quipwright.llm.http_models import Anthropic, Chat
from quipwright.llm.local import Local
from quipwright.llm.offline_files import Files
from quipwright.llm.types import Capabilities
from quipwright.pipeline.costs.estimate import Work, estimate, main, measured
from quipwright.pipeline.costs.plan import Found, may_cost, plan
from quipwright.pipeline.recipe import Learning, OfflinePreferences, Recipe, TeacherPreferences, load_recipe
from quipwright.testing.asking import chat
from quipwright.testing.faulty_server import FaultyServer
from quipwright.training.early_stopping import EarlyStopping
from quipwright.training.preference.pairs import BestWorst, Diverse
from quipwright.training.settings import TrainSettings

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


def test_only_the_students_that_are_evaluated_are_counted() -> None:
    examples = [Example(text=f"It rained {i} times.", split="train" if i < 4 else "test") for i in range(14)]

    def pairs(**evaluate: object) -> float:
        critic = {"kind": "multiple_choice", "model": {"kind": "chat", "model": "m", "base_url": "http://x/v1"}}
        tree = {"name": "x", "rounds": 10, "select": {"kind": "diverse"}, "critic": critic, "evaluate": evaluate}
        return sum(line.calls for line in plan(validate(Recipe, tree, "recipe"), TASK, examples).lines) / 2

    assert pairs(base=False, noise_floor=False) == 10 * 4 + 10 * (11 + 10)
    assert pairs(base=False) == 10 * 4 + 10 * (11 + 10 + 2), "imitation and feedback against themselves"
    assert pairs(base=False, students=["feedback"]) == 10 * 4 + 10 * (1 + 1)
    assert pairs(base=True, students=["imitation", "feedback"]) == 10 * 4 + 10 * (2 * 2 + 1 + 2)


def test_an_unknown_price_is_unknown() -> None:
    made = estimate(TASK, Work(), {"teacher": Price(input=1, output=1)})
    assert made.cost is None
    assert made.table().count("unknown") == 2


def test_a_measured_handful_replaces_what_was_reckoned(tmp_path: Path) -> None:
    prices = {"m": Price(input=1.0, output=1.0)}
    examples = [Example(text=f"It rained {i} times.") for i in range(5)]
    with FaultyServer(lambda body: "1. Wet again, says my sock.", tokens=50) as server:
        with Calls.open(tmp_path, prices=prices) as calls:
            teacher = ModelTeacher(model=chat(server)).build(calls, TASK)
            (line,) = estimate(TASK, Work(literals=1000, pairs=0, teacher="m"), prices).lines
            better = measured(line, calls, lambda: teacher.teach(examples), prices)
            assert (better.tokens_in, better.tokens_out, better.measured) == (50, 50, True)
            assert better.cost == pytest.approx(1000 * 100 / 1e6)
            assert measured(line, calls, lambda: teacher.teach(examples), prices) == line
        assert len(server.bodies) == 5


# --- a recipe ---------------------------------------------------------------------------------------------------------

SERVED = Chat(model="m", base_url="http://a/v1")
EXAMPLES = [
    Example(text=f"It rained {i} times.", split=split)
    for split, count in (("train", 30), ("valid", 7), ("test", 5))
    for i in range(count)
]


def planned(*found: Found, **fields: object) -> dict[str, int]:
    """Calls by role of a recipe with these fields."""
    recipe = Recipe(**({"name": "x", "select": Diverse(), "critic": MultipleChoice(model=SERVED)} | fields))  # type: ignore[arg-type]
    calls = Counter[str]()
    for line in plan(recipe, TASK, EXAMPLES, found).lines:
        calls[line.role] += line.calls
    return calls


def test_every_step_that_asks_is_counted() -> None:
    # two students meet teacher, base and their own second samples, the later one the imitation student too
    one_round = 30 + 5 * (2 * 2 + 1 + 2)
    assert planned() == {"critic": 2 * one_round}
    assert planned(teacher=ModelTeacher(model=SERVED))["teacher"] == 42
    assert planned(feedback_examples=10, rounds=2)["critic"] == 2 * (20 + 5 * (3 * 2 + 2 + 2))
    assert planned(teacher_preferences=TeacherPreferences())["critic"] == 2 * (30 + 30 + 5 * (3 * 2 + 2 + 2))
    assert planned(offline_preferences=OfflinePreferences(), rounds=0)["critic"] == 2 * 5 * (2 * 2 + 1 + 2)
    assert planned(early_stopping=EarlyStopping())["critic"] == 2 * (one_round + 7)
    learn = Learning(train=TrainSettings(epochs=3))
    assert planned(early_stopping=EarlyStopping(each="epoch"), learn=learn)["critic"] == 2 * (one_round + 4 * 7)
    imitates = Learning.model_validate({"source": "teacher", "objective": {"kind": "mle"}})
    assert planned(learn=imitates)["critic"] == 2 * (one_round - 30)
    assert planned(evaluate=EvaluateSettings(base=False))["critic"] == 2 * (30 + 5 * (2 + 1 + 2))


@pytest.mark.parametrize(
    "model",
    [
        Anthropic(model="c"),
        Files(model="people", answers="a.jsonl"),
        Batch(model="m", capabilities=Capabilities()),
        Chat(model="m", capabilities=Capabilities()),
    ],
    ids=lambda model: model.kind,
)
def test_a_model_without_log_probabilities_is_counted_as_it_will_be_asked(model: Files) -> None:
    usual = planned()["critic"]
    assert planned(critic=MultipleChoice(model=model, samples=5)) == {"critic, sampled": 5 * usual}
    assert planned(critic=MultipleChoice(model=model, reading="reason_then_answer")) == {"critic": usual}
    with pytest.raises(CriticError, match="gives no log-probabilities"):
        planned(critic=MultipleChoice(model=model, missing="refuse"))


def test_what_the_probe_found_counts() -> None:
    found = Found("critic", SERVED, Capabilities())
    assert planned(found) == {"critic, sampled": 8 * planned()["critic"]}


def test_nothing_is_planned_for_what_costs_nothing() -> None:
    recipe = Recipe(name="x", select=Diverse(), critic=MultipleChoice(model=Local()))
    assert not may_cost(recipe)
    assert plan(recipe, TASK, EXAMPLES).lines == ()


def test_the_hours_are_of_the_recipes_concurrency_and_the_total_of_all_roles() -> None:
    fast, files = Chat(model="m", concurrency=256), Files(model="people", answers="a.jsonl")
    recipe = Recipe(
        name="x", select=Diverse(), teacher=ModelTeacher(model=fast), critic=MultipleChoice(model=SERVED),
        prices={"m": Price(input=1, output=1)},
    )  # fmt: skip
    made = plan(recipe, TASK, EXAMPLES)
    rows = made.lines
    teaching = sum(line.calls * line.seconds for line in rows if line.role == "teacher")
    judging = sum(line.calls * line.seconds for line in rows if line.role == "critic")
    assert made.hours == pytest.approx((teaching / 256 + judging / 32) / 3600)
    assert "with 256 (teacher), 32 (critic) calls under way." in made.table()
    assert made.cost == sum(line.cost or 0 for line in rows)
    assert made.table().count("| all |") == 1
    by_people = recipe.model_copy(update={"critic": MultipleChoice(model=files)})
    assert (
        "256 calls under way. How long answers take that come in files is not known"
        in plan(by_people, TASK, EXAMPLES).table()
    )


def answer(body: dict[str, Any]) -> str:
    return "Answer: 1" if "Rewrite 1:" in body["messages"][-1]["content"] else "1. Oh, a joke.\n2. Ha, a pun."


def test_a_handful_is_measured_under_the_recipes_prices_and_caps_and_kept_for_the_run(
    tiny_recipe: Path, tmp_path: Path, quipwright: Callable[..., tuple[int, str, str]]
) -> None:
    def command(name: str, *more: str, capabilities: str = ", capabilities: {}") -> tuple[int, str, str]:
        model = f"{{kind: chat, model: m, base_url: '{server.url}'{capabilities}}}"
        sets = [
            f"teacher={{kind: model, model: {model}}}",
            f"critic={{kind: multiple_choice, samples: 2, model: {model}}}",
            "select.kind=diverse",
            "prices={m: {input: 10000, output: 0}}",
        ]
        wanted = (part for s in sets for part in ("--set", s))
        return quipwright(name, tiny_recipe, *wanted, *more)

    run = ("--run", str(tmp_path / "run"))
    with FaultyServer(answer, tokens=50) as server:
        assert "(reckoned)" in command("estimate")[1]
        assert not server.bodies
        code, out, err = command("estimate", "--measure", "3", *run)
        assert (code, err) == (0, "")
        assert len(server.bodies) == 3 + 3 * 2 * 2
        assert "(reckoned)" not in out
        assert "| teacher | teach | train | m | 8 | 0.00 M | 0.00 M | 4.00 |" in out
        assert "| teacher | teach | test | m | 2 | 0.00 M | 0.00 M | 1.00 |" in out
        code, out, _ = command("distil", "--until", "teach", *run)
        assert code == 0
        assert out.index("| all |") > out.index("The whole run will ask")
        assert len(server.bodies) == 15 + 9
        code, _, err = command("estimate", "--probe", "--set", "budget={calls: 3}", capabilities="")
        assert (code, len(server.bodies)) == (11, 24 + 3)
        assert "budget.calls is reached" in err
        assert (
            "price of 'm' is unknown"
            in command("estimate", "--probe", "--set", "prices={}", "--set", "budget={money: 1}")[2]
        )
    code, out, _ = quipwright("distil", tiny_recipe, "--until", "teach", "--run", tmp_path / "b")
    assert (code, out) == (0, "")


def test_calls_are_shown_by_stage_and_split_and_none_is_made_that_nobody_reads() -> None:
    examples = [*EXAMPLES, *(Example(text=f"Elsewhere it rained {i} times.", split="ood") for i in range(120))]
    settings: dict[str, Any] = {
        "name": "x", "select": Diverse(), "critic": MultipleChoice(model=SERVED), "teacher": ModelTeacher(model=SERVED)
    }  # fmt: skip

    def parts(**fields: object) -> dict[tuple[str, str, str], int]:
        made = plan(Recipe(**(settings | fields)), TASK, examples)
        assert "| role | stage | split | model | calls |" in made.table()
        return {(line.role, line.stage, line.split): line.calls for line in made.lines}

    taught = {("teacher", "teach", "train"): 30, ("teacher", "teach", "valid"): 7, ("teacher", "teach", "test"): 5}
    judged = {("critic", "judge", "train"): 2 * 30, ("critic", "judge", "test"): 2 * 5 * 7}
    assert parts() == taught | judged
    both = parts(evaluate=EvaluateSettings(splits=("test", "ood")), early_stopping=EarlyStopping())
    more = {
        ("teacher", "teach", "ood"): 120,
        ("critic", "judge", "ood"): 2 * 120 * 7,
        ("critic", "validate", "valid"): 14,
    }
    assert both == taught | judged | more


def test_a_run_asks_as_often_as_the_estimate_says(
    tiny_recipe: Path, corpus_file: Path, tmp_path: Path, quipwright: Callable[..., tuple[int, str, str]]
) -> None:
    rows = [json.dumps({"literal": f"The old bridge over river {i} is closed.", "split": "ood"}) for i in range(20)]
    given = [json.loads(line) for line in corpus_file.read_text().splitlines()]
    corpus = tmp_path / "more.jsonl"
    corpus.write_text("\n".join([*(json.dumps({"literal": r["literal"], "split": r["split"]}) for r in given), *rows]))
    with FaultyServer(answer, tokens=50) as server:
        model = f"{{kind: chat, model: m, base_url: '{server.url}', capabilities: {{}}}}"
        sets = ("--set", f"teacher={{kind: model, model: {model}}}", "--set", f"data.path={corpus}")
        assert quipwright("distil", tiny_recipe, *sets, "--until", "teach", "--run", tmp_path / "run")[0] == 0
        assert len(server.bodies) == 12
        recipe, base = load_recipe(str(tiny_recipe), sets[1::2])
        planned_calls = [line.calls for line in plan(recipe, TASK, load_examples(recipe.data, base)).lines]
        assert planned_calls == [8, 2, 2]


def test_the_command_prints_three_prices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--reading", "sampled"]) == 0
    assert capsys.readouterr().out.count("| all |") == 3


def test_a_judge_is_priced_for_the_evaluation_and_the_critic_for_the_rounds_too() -> None:
    model = {"kind": "chat", "model": "m", "base_url": "http://x/v1"}
    critic = {"kind": "multiple_choice", "model": model}
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "critic": critic,
            "select": {"kind": "random"},
            "evaluate": {"judges": [critic, {"kind": "reward"}]},
        }
    )
    examples = [Example(text=f"It rained {i} times.", split=s) for i, s in enumerate(["train"] * 7 + ["test"] * 2)]
    calls = [line.calls for line in plan(recipe, TASK, examples).lines]
    # two students against teacher, base and themselves, and with one another: 7 pairs an input, each in both orders
    assert calls == [2 * 7, 2 * 2 * 7, 2 * 2 * 7]


def test_a_grading_critic_is_counted_by_its_lists() -> None:
    def lists(**fields: object) -> dict[str, int]:
        unsampled = EvaluateSettings(best_of=0, noise_floor=False)
        return planned(**({"evaluate": unsampled, "select": BestWorst()} | fields))

    once = GradeCritic(model=SERVED, twice=0)
    # six attempts at each of 30 literals, and four systems' answers to five: each a list of at most eight
    assert lists(critic=once) == {"critic, grades": 30 + 5}
    assert lists(critic=once, rounds=2) == {"critic, grades": 60 + 5}
    assert lists(critic=GradeCritic(model=SERVED, twice=0, size=4)) == {"critic, grades": 2 * 30 + 5}
    assert lists(critic=GradeCritic(model=SERVED, twice=0.2)) == {"critic, grades": 35 + 7}
    # a selector without scores: each pair is a list of two
    assert lists(critic=once, select=Diverse()) == {"critic, grades": 30 + 5}
    # one answer to each of seven validation literals
    stopping = EarlyStopping(measure="mean_grade")
    assert lists(critic=once, early_stopping=stopping) == {"critic, grades": 30 + 5 + 7}
    # as an outside judge it reads each literal's answers together
    judged = lists(
        critic=MultipleChoice(model=SERVED), evaluate=EvaluateSettings(best_of=0, judges=(once,)), select=Diverse()
    )
    assert judged["critic, grades"] == 5 + 5, "and two samples of each of two students together"
    beside = lists(critic=MultipleChoice(model=SERVED), scorer=once)
    assert beside == {"critic": 2 * (30 + 5 * 5), "critic, grades": 35}


def test_a_graded_list_costs_its_texts_and_a_line_each() -> None:
    (line,) = estimate(TASK, Work(literals=0, pairs=0, lists=((10, 4),), grading=GradeReader(twice=0)), {}).lines
    (more,) = estimate(TASK, Work(literals=0, pairs=0, lists=((10, 8),), grading=GradeReader(twice=0)), {}).lines
    assert (line.calls, line.tokens_out, more.tokens_out) == (10, 20, 40)
    # four more texts of 74 letters, each with its number and two marker lines
    assert 4 * 74 / 4 < more.tokens_in - line.tokens_in < 4 * 200 / 4
