"""Active labelling: which pairs are labelled, and the measure that a reward model must pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from quipwright.core.errors import CriticError
from quipwright.core.records import Comparison
from quipwright.critics.active import ActiveCritic, LabelBudget, Labelled, choose, label_actively
from quipwright.critics.reward_model.critic import RewardModelConfig, RewardModelCritic
from quipwright.testing.asking import comparison
from quipwright.testing.critics import FixedCritic


def pairs(n: int) -> list[Comparison]:
    return [comparison(f"a{i}", f"b{i}", f"literal {i}") for i in range(n)]


def test_policies_choose_by_the_cheap_critics_margin() -> None:
    compared = pairs(100)
    cheap = FixedCritic("cheap", *[0.5 + i / 250 for i in range(100)])
    small = choose(LabelBudget(budget=10, policy="small_margin"), compared, cheap)
    large = choose(LabelBudget(budget=10, policy="large_gap"), compared, cheap)
    drawn = choose(LabelBudget(budget=10), compared)
    assert small == compared[:10]
    assert large == compared[90:]
    assert len(drawn) == 10
    assert drawn not in (small, large)
    assert drawn == choose(LabelBudget(budget=10), compared)
    with pytest.raises(CriticError, match="needs a cheap critic"):
        choose(LabelBudget(policy="large_gap"), compared)


def test_a_copy_is_measured_on_held_out_verdicts_before_it_is_trusted() -> None:
    learnt: list[Labelled] = []

    def learn(labels: Sequence[Labelled]) -> FixedCritic:
        learnt.extend(labels)
        return FixedCritic("copy", 0.8)

    compared = pairs(100)
    critic = label_actively(LabelBudget(budget=50), FixedCritic("dear", 0.9), compared, learn)
    assert (critic.agreement.right, critic.agreement.n, critic.agreement.labelled) == (10, 10, 50)
    assert len(learnt) == 40
    judged = critic.judge(compared)
    assert [j.judge for j in judged].count("dear") == 50
    assert [j.pair_id for j in judged] == [c.pair.id for c in compared]
    with pytest.raises(
        CriticError, match=r"agrees with 0\.0% \(0% to 28%\) of 10 held-out verdicts .* the floor is 65%"
    ):
        label_actively(LabelBudget(budget=50), FixedCritic("dear", 0.1), compared, learn)
    with pytest.raises(CriticError, match="dear could not be read in 50 of 50 judgments"):
        label_actively(LabelBudget(budget=50), FixedCritic("dear", None), compared, learn)


def test_a_pair_labelled_in_one_order_only_is_not_learnt_from() -> None:
    learnt: list[Labelled] = []

    def train(labels: Sequence[Labelled]) -> FixedCritic:
        learnt.extend(labels)
        return FixedCritic("copy", 0.9)

    half_read = FixedCritic("dear", 0.9, 0.9, 0.9, None, positional=True)  # of every second pair one order is unread
    critic = label_actively(LabelBudget(budget=40), half_read, pairs(40), train)
    assert (critic.agreement.labelled, critic.agreement.unparsed) == (40, 20)
    assert len(learnt) == 20 - critic.agreement.n == 16
    assert critic.figures()["agreement"] == 1.0


def test_what_a_run_trained_is_restored_with_its_labels(tiny_critic: Path, tmp_path: Path) -> None:
    compared = pairs(100)
    loaded = RewardModelConfig(path=str(tiny_critic), floor=0).load()
    card = loaded.card.model_copy(update={"data_hash": "0123456789"})
    model = RewardModelCritic(loaded.model, card, "reward:01234567")
    critic = label_actively(LabelBudget(budget=50, floor=0), FixedCritic("dear", 0.9), compared, lambda labels: model)
    critic.save(tmp_path)
    restored = ActiveCritic.load(tmp_path)
    assert restored.agreement == critic.agreement
    assert restored.judge(compared) == critic.judge(compared)
    assert {j.judge for j in restored.judge(compared)} == {"dear", "reward:01234567"}
