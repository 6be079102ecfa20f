"""The reward model's critic: what it cannot be biased by, its levels and its floor."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import expit

from quipwright.core.errors import CriticError, DamagedError, WeightsError
from quipwright.core.records import Comparison, Pair, Response
from quipwright.core.storage.run_folder import RunFolder
from quipwright.core.storage.seals import seal, seal_export
from quipwright.critics.base import BuildContext
from quipwright.critics.reward_model.card import CARD_FILE, Calibration, RewardCard, read_card
from quipwright.critics.reward_model.critic import RewardModelConfig, RewardModelCritic
from quipwright.critics.reward_model.model import MODEL_FILE, RewardModel
from quipwright.data.task import Task

PROMPT = "Plain: {literal}\nFunny:"
LITERAL = "I missed the last bus home and had to walk."
TEXTS = ("I walked home, the bus being a rumour by then.", "The bus left, and so did my mood.", "Bus gone.")


@pytest.fixture(scope="module")
def critic(tiny_critic: Path) -> RewardModelCritic:
    return RewardModelCritic.load(tiny_critic)


def compare(a: str, b: str, literal: str = LITERAL) -> Comparison:
    return Comparison(Pair(example_id="e", a_id=a[:20], b_id=b[:20], selector="test"), literal, a, b)


def test_swapping_a_pair_mirrors_the_verdict(critic: RewardModelCritic) -> None:
    there, back = critic.judge([compare(TEXTS[0], TEXTS[1]), compare(TEXTS[1], TEXTS[0])])
    assert there.p_a == pytest.approx(1 - back.p_a, abs=2e-6)
    assert {there.verdict, back.verdict} == {"A", "B"}
    same = critic.judge([compare(TEXTS[0], TEXTS[0])])[0]
    assert (same.p_a, same.verdict) == (0.5, "tie")


def test_a_score_does_not_depend_on_its_company(critic: RewardModelCritic) -> None:
    together = critic.scores([LITERAL] * 3, TEXTS)
    alone = [critic.scores([LITERAL], [text])[0] for text in TEXTS]
    assert together == pytest.approx(alone, abs=0.03)  # bf16


def test_grades_add_up_and_follow_the_score(critic: RewardModelCritic) -> None:
    responses = [Response(example_id="e", text=text, author="student") for text in TEXTS]
    grades = sorted(critic.grade([LITERAL] * 3, responses), key=lambda g: g.score)
    for grade in grades:
        assert sum(grade.levels or ()) == pytest.approx(1, abs=3e-6)
    levels = [g.levels or () for g in grades]
    assert [best for *_, best in levels] == sorted(best for *_, best in levels)
    assert [worst for worst, *_ in levels] == sorted((worst for worst, *_ in levels), reverse=True)


def test_a_critic_below_the_floor_is_refused(tiny_critic: Path) -> None:
    from quipwright.critics.reward_model.critic import RewardModelConfig

    with pytest.raises(CriticError, match=r"70\.0% of 50.*floor is 80%"):
        RewardModelConfig(path=str(tiny_critic), floor=0.8).load()
    with pytest.raises(CriticError, match="train-critic"):
        RewardModelConfig(path=str(tiny_critic.parent)).load()


def test_levels_are_as_many_as_the_task_names(tiny_critic: Path) -> None:
    model = RewardModelCritic.load(tiny_critic).model
    card = RewardCard(architecture=model.architecture, calibration=Calibration(slope=2.0, cuts=(0.0, 1.0, 3.0)))
    at_one = [1 - expit(2.0), expit(2.0) - expit(1.0), expit(1.0) - expit(-1.0), expit(-1.0)]
    for levels, shares in (
        (2, [at_one[0], sum(at_one[1:])]), (3, [*at_one[:2], sum(at_one[2:])]), (4, at_one),
    ):  # fmt: skip
        assert RewardModelCritic(model, card, "x", levels).grade_shares(1.0) == pytest.approx(shares)
    with pytest.raises(CriticError, match="The task names 5 grades, but a reward model tells 4 apart"):
        RewardModelCritic(model, card, "x", 5)


def test_scores_that_are_no_numbers_and_weights_that_do_not_fit_are_refused(tiny_critic: Path, tmp_path: Path) -> None:
    broken = RewardModelCritic.load(tiny_critic)
    with torch.no_grad():
        broken.model.head.fill_(math.nan)
    with pytest.raises(CriticError, match="gives scores that are no numbers"):
        broken.judge([compare(*TEXTS[:2])])
    shutil.copytree(tiny_critic, tmp_path / "critic")
    tensors = load_file(tiny_critic / MODEL_FILE)
    save_file({name: t for name, t in tensors.items() if name != "head"}, tmp_path / "critic" / MODEL_FILE)
    with pytest.raises(WeightsError, match=r"critic\.safetensors does not fit its settings: head \(of 1\) missing"):
        RewardModelCritic.load(tmp_path / "critic")


@pytest.mark.parametrize("name", [MODEL_FILE, CARD_FILE])
def test_a_critic_that_a_run_made_is_read_through_its_seal(tiny_critic: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "critic"
    shutil.copytree(tiny_critic, folder)
    seal(folder, [MODEL_FILE, CARD_FILE], {}, 0.0)
    RewardModelCritic.load(folder)
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DamagedError, match=rf"{name} does not match its recorded hash"):
        RewardModelCritic.load(folder)


def test_the_critic_in_a_runs_folder_is_not_read_without_its_seal(tiny_critic: Path, tmp_path: Path) -> None:
    folder = tmp_path / "critic"
    shutil.copytree(tiny_critic, folder)
    RewardModelCritic.load(folder)  # nobody sealed it, and no run holds it
    with RunFolder.open(tmp_path / "run", {"name": "one"}):
        shutil.copytree(tiny_critic, tmp_path / "run" / "critic")
    with pytest.raises(
        DamagedError, match=r"run/critic/done\.json cannot be read: it is not there\. Remove the folder"
    ):
        RewardModelCritic.load(tmp_path / "run" / "critic")
    seal_export(tmp_path / "run" / "critic")
    RewardModelCritic.load(tmp_path / "run" / "critic")


def test_a_relative_backbone_starts_at_the_critic_and_is_known_by_its_content(
    tiny_critic: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes, critic = tmp_path / "recipes", tmp_path / "critics" / "mine"
    shutil.copytree(tiny_weights, recipes / "base")
    shape = read_card(tiny_critic).architecture.model_copy(update={"weights": "base"})
    RewardModelCritic(RewardModel(shape, recipes), RewardCard(architecture=shape), "reward:mine").save(critic)
    assert read_card(critic).architecture.weights == "../../recipes/base"
    here = RewardModelCritic.load(critic).head_scores([LITERAL], TEXTS[:1])
    monkeypatch.chdir(tmp_path)
    assert RewardModelCritic.load(critic).head_scores([LITERAL], TEXTS[:1]) == here
    config = RewardModelConfig(path=str(critic))
    before = config.identity(BuildContext(None, Task.load()))
    tensors = load_file(recipes / "base" / "model.safetensors")
    tensors["model.norm.weight"] *= 2
    save_file(tensors, recipes / "base" / "model.safetensors", metadata={"format": "pt"})
    assert config.identity(BuildContext(None, Task.load())) != before
    with pytest.raises(WeightsError, match=r"trained on weights '\.\./\.\./recipes/base' of other content"):
        RewardModelCritic.load(critic)


def test_a_critic_without_a_card_has_no_identity(tmp_path: Path) -> None:
    with pytest.raises(CriticError, match="holds no reward model"):
        RewardModelConfig(path=str(tmp_path)).identity(BuildContext(None, Task.load()))
