"""The union of critics: former names, identities, independence, and that every accepted setting is used."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.config_files import validate
from quipwright.core.errors import CriticError, QuipwrightError, RecipeError
from quipwright.critics.base import BaseCriticConfig, BuildContext
from quipwright.critics.cloze import Cloze, ClozeCritic, ClozeReader
from quipwright.critics.config import ActiveLabelling, Panel, config_of, outsiders
from quipwright.critics.heuristics import Heuristic
from quipwright.critics.loading import Chosen
from quipwright.critics.multiple_choice import MultipleChoice, MultipleChoiceCritic
from quipwright.critics.reader import Reader
from quipwright.critics.recorded import Recorded
from quipwright.critics.reward_model.critic import RewardModelConfig
from quipwright.data.task import Task
from quipwright.llm.types import Capabilities, Choice, Completion, Request, Token
from quipwright.testing.asking import comparison
from quipwright.testing.critics import LengthScorer, ScriptedModel

TASK = Task.load()
CONTEXT = BuildContext(None, TASK)
LOCAL = {"kind": "local", "weights": "a"}
MULTIPLE_CHOICE = {"kind": "multiple_choice", "model": LOCAL}


def critic(tree: dict[str, Any]) -> BaseCriticConfig:
    return validate(Chosen, {"critic": tree}, "critic").critic


def test_a_former_kind_is_read_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    former = {**MULTIPLE_CHOICE, "kind": "mcp"}
    assert critic(former) == critic(MULTIPLE_CHOICE) == MultipleChoice.model_validate(MULTIPLE_CHOICE)
    assert critic({"kind": "panel", "critics": [former, former]}).models() == critic(MULTIPLE_CHOICE).models() * 2
    assert config_of("mcp") is config_of("multiple_choice") is MultipleChoice
    assert config_of("unheard-of") is None


def test_the_kinds_are_listed_where_an_unknown_one_is_named() -> None:
    with pytest.raises(RecipeError, match=r"critic\.kind is 'judge', but must be one of .*'multiple_choice'.*'rule'"):
        critic({"kind": "judge"})


@pytest.mark.parametrize("outer", [{"kind": "panel", "critics": 2}, {"kind": "active_labelling", "from": 1}])
def test_a_critic_that_a_run_trains_stands_nowhere_inside_another(outer: dict[str, Any]) -> None:
    inner = {"kind": "active_labelling", "from": {"kind": "rule"}}
    name, count = next(item for item in outer.items() if item[0] != "kind")
    with pytest.raises(RecipeError, match="a critic that a run trains first cannot stand here"):
        critic({**outer, name: inner if count == 1 else [inner] * count})
    with pytest.raises(CriticError, match="only after a round of feedback"):
        critic(inner).build(CONTEXT)


def test_a_reward_model_is_identified_by_its_files_and_not_by_its_path(tiny_critic: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_critic, copy)
    one, other = (RewardModelConfig(path=str(folder)) for folder in (tiny_critic, copy))
    assert one.identity(CONTEXT) == other.identity(CONTEXT)
    assert outsiders(one, (other, Heuristic(), Cloze.model_validate({"model": LOCAL})), CONTEXT) == [
        Cloze.model_validate({"model": LOCAL})
    ]  # the same weights under another path, and a rule that reads no meaning, back no claim
    card = json.loads((copy / "critic.json").read_text())
    (copy / "critic.json").write_text(json.dumps({**card, "n": 51}))
    assert one.identity(CONTEXT) != other.identity(CONTEXT)


# --- every setting is used ---------------------------------------------------------------------------------------------


def top(first: float, second: float) -> tuple[Token, ...]:
    return (Token("1", math.log(first), (("1", math.log(first)), ("2", math.log(second)))),)


def outcome(reader: dict[str, Any]) -> Any:
    """What a multiple-choice critic with these settings asks and says. It reads 0.56 at a coverage of 0.9, and the
    first reason it gives is unreadable at a low number of tokens."""

    def reply(request: Request) -> Completion | Choice:
        if request.options:
            return Choice((0.56, 0.44), 0.9, "1")
        return Completion("Answer: 1", tokens=top(0.5, 0.4) if request.logprobs else None)

    model = ScriptedModel(reply, Capabilities(logprobs=0 if "missing" in reader else 20))
    with warnings.catch_warnings(action="ignore"):
        try:
            judged = MultipleChoiceCritic(model, TASK, Reader.model_validate(reader)).judge([comparison()])
        except QuipwrightError as error:
            return str(error)
    return model.asked, judged


READER = {
    "reading": ({}, "sampled"), "question": ({}, "humour"), "samples": ({"reading": "sampled"}, 3),
    "reasons": ({"reading": "reason_then_answer"}, 2), "reason_tokens": ({"reading": "reason_then_answer"}, 40),
    "temperature": ({}, 0.3), "missing": ({"missing": "sampled"}, "refuse"), "coverage": ({}, 0.95),
    "tie": ({}, 0.2), "seed": ({}, 7),
}  # fmt: skip


def test_every_setting_of_a_multiple_choice_critic_changes_what_it_asks_or_says() -> None:
    assert READER.keys() == Reader.model_fields.keys()
    for name, (beside, value) in READER.items():
        assert outcome(beside) != outcome({**beside, name: value}), name


def test_every_setting_of_a_cloze_critic_changes_what_it_says() -> None:
    changed = {"scope": "paraphrase", "temperature": 5.0, "question": "humour"}
    assert changed.keys() == ClozeReader.model_fields.keys()
    pair = [comparison("so wet", "extraordinarily precipitous")]
    usual = ClozeCritic(LengthScorer(), TASK).judge(pair)
    for name, value in changed.items():
        assert ClozeCritic(LengthScorer(), TASK, ClozeReader.model_validate({name: value})).judge(pair) != usual, name


OTHER = {
    MultipleChoice: ({"model": LOCAL}, {name: value for name, (_, value) in READER.items()} | {"model": {"kind": "local"}}),
    Cloze: ({"model": LOCAL}, {"scope": "paraphrase", "temperature": 2, "question": "humour", "model": {"kind": "local"}}),
    Panel: (
        {"critics": [{"kind": "rule"}, MULTIPLE_CHOICE]},
        {"critics": [{"kind": "rule"}] * 2, "rule": "majority", "tie": 0.2},
    ),
    ActiveLabelling: (
        {"from": {"kind": "rule"}},
        {"from": MULTIPLE_CHOICE, "budget": 10, "policy": "large_gap", "heldout": 0.3, "floor": 0.1, "seed": 1},
    ),
    Heuristic: ({}, {"pick": "coin"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER, ids=lambda kind: kind.__name__)
def test_every_setting_of_a_critic_is_in_its_identity(kind: type[BaseCriticConfig], tiny_critic: Path) -> None:
    usual, changed = OTHER[kind]
    names = {info.alias or name for name, info in kind.model_fields.items()}
    assert changed.keys() == names - {"kind"}
    key = kind.model_validate(usual).identity(CONTEXT)
    for name, value in changed.items():
        assert kind.model_validate({**usual, name: value}).identity(CONTEXT) != key, name


def test_settings_of_critics_on_files_are_used(tiny_critic: Path, tmp_path: Path) -> None:
    assert RewardModelConfig.model_fields.keys() == {"kind", "path", "floor"}
    with pytest.raises(CriticError, match="the floor is 80%"):
        RewardModelConfig(path=str(tiny_critic), floor=0.8).build(CONTEXT)
    assert Recorded.model_fields.keys() == {"kind", "path"}
    keys = []
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text('{"literal": "L.", "a": "x", "b": "y", "p_ab": 0.9}\n')
        keys.append(Recorded(path=str(tmp_path / f"{name}.jsonl")).identity(CONTEXT))
    assert keys[0] != keys[1]  # judgments are signed with the file's name
    (tmp_path / "one.jsonl").write_text('{"literal": "L.", "a": "x", "b": "y", "p_ab": 0.8}\n')
    assert Recorded(path=str(tmp_path / "one.jsonl")).identity(CONTEXT) not in keys
