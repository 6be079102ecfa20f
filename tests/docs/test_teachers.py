"""The snippets of docs/teachers-and-critics.md are valid, and those for a server answer against one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from quipwright.core.errors import ModelError
from quipwright.critics.base import BuildContext
from quipwright.critics.grading import GradeCritic
from quipwright.critics.multiple_choice import MultipleChoice
from quipwright.critics.recorded_grades import RecordedGrades
from quipwright.critics.reward_model.critic import RewardModelConfig
from quipwright.data.task import Task
from quipwright.data.teacher import ModelTeacher
from quipwright.llm.calls import Calls
from quipwright.llm.config import ModelConfig
from quipwright.llm.costs import Budget, Price
from quipwright.llm.types import Completion
from quipwright.pipeline.costs.estimate import main
from quipwright.pipeline.recipe import OfflineGrades, Recipe
from quipwright.testing.asking import FAST, ask, comparison, requests
from quipwright.testing.faulty_server import FaultyServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "teachers-and-critics.md").read_text(encoding="utf-8")
SNIPPETS: list[dict[str, Any]] = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
MODELS: TypeAdapter[Any] = TypeAdapter(ModelConfig)


@pytest.mark.parametrize("snippet", [s for s in SNIPPETS if "kind" in s], ids=lambda s: s["kind"])
def test_every_door_is_what_the_page_says(
    snippet: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = MODELS.validate_python(snippet)
    assert door.identity()["model" if "model" in snippet else "kind"]
    if snippet["kind"] == "chat":
        monkeypatch.setenv("GATEWAY_KEY", "x")
        with FaultyServer() as server:
            here = MODELS.validate_python(snippet | {"base_url": server.url, "retry": FAST.model_dump()})
            assert isinstance(ask(tmp_path, here, requests(1))[0], Completion)


def test_the_other_snippets_are_valid() -> None:
    first, by_files, scored, graded, on_file, learnt, money = (s for s in SNIPPETS if "kind" not in s)
    assert GradeCritic.model_validate(graded["critic"]).twice == 0.2
    assert RecordedGrades.model_validate(on_file["critic"]) == RecordedGrades()
    assert Recipe.model_validate({"name": "r", **learnt}).offline_preferences == OfflineGrades.model_validate(
        learnt["offline_preferences"]
    )
    assert Recipe.model_validate({"name": "r", **scored}).grader == RewardModelConfig()
    assert ModelTeacher.model_validate(first["teacher"])
    assert MultipleChoice.model_validate(first["critic"])
    assert MultipleChoice.model_validate(by_files["critic"])
    assert Price.model_validate(money["prices"]["some-model"])
    assert Budget.model_validate(money["budget"])


def documented_critics() -> list[dict[str, Any]]:
    """The critics of both pages that are asked by files."""
    guide = (ROOT / "docs" / "your-own-task.md").read_text(encoding="utf-8")
    shown = [yaml.safe_load(text) for text in re.findall(r"--set 'critic=(.*)'", guide)]
    shown += [s["critic"] for s in SNIPPETS if "critic" in s]
    critics = [critic.get("from", critic) for critic in shown]
    return [critic for critic in critics if critic.get("model", {}).get("kind") == "files"]


def test_a_critic_by_files_asks_each_showing_once(tmp_path: Path) -> None:
    critics = documented_critics()
    assert len(critics) == 2
    compared = [comparison(f"joke {i}", f"pun {i}") for i in range(5)]
    for number, tree in enumerate(critics):
        with Calls.open(tmp_path / str(number), base=tmp_path) as calls:
            critic = MultipleChoice.model_validate(tree).build(BuildContext(None, Task.load(), calls))
            with pytest.raises(ModelError, match="10 questions for"):
                critic.judge(compared)


def test_all_kinds_are_shown() -> None:
    kinds = {s["kind"] for s in SNIPPETS if "kind" in s}
    assert kinds == {"chat", "anthropic", "local", "gguf", "vllm", "recorded", "batch", "files"}


@pytest.mark.parametrize("arguments", [[], ["--reading", "reason_then_answer"]])
def test_the_cost_table_is_what_the_command_prints(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments)
    assert capsys.readouterr().out.strip() in PAGE
