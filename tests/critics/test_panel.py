"""The panel: means, majorities, and members that have no vote."""

from __future__ import annotations

from pathlib import Path

import pytest

from quipwright.core.config_files import validate
from quipwright.core.errors import CriticError
from quipwright.critics.base import BuildContext
from quipwright.critics.config import Panel
from quipwright.critics.panel import PanelCritic
from quipwright.critics.reward_model.critic import RewardModelConfig
from quipwright.data.task import Task
from quipwright.testing.asking import comparison
from quipwright.testing.critics import FixedCritic

TASK = Task.load()


def test_a_panel_takes_the_mean_or_the_majority_and_records_its_disagreement() -> None:
    members = [FixedCritic("x", 0.9), FixedCritic("y", 0.4), FixedCritic("z", 0.45), FixedCritic("u", None)]
    (mean,) = PanelCritic(members, "mean").judge([comparison()])
    assert (mean.p_a, mean.verdict) == (pytest.approx(1.75 / 3), "A")
    (most,) = PanelCritic(members, "majority", tie=0.01).judge([comparison()])
    assert (most.p_a, most.verdict) == (pytest.approx(1 / 3), "B")
    assert most.reason == "members: 1 A, 2 B, 1 unparsed; disagreement 0.33"
    (edge,) = PanelCritic([FixedCritic("x", 0.55), FixedCritic("y", 0.55)]).judge([comparison()])
    assert edge.verdict == "tie"  # 0.55 - 0.5 is a rounding more than 0.05
    (none,) = PanelCritic([FixedCritic("u", None), FixedCritic("v", None)]).judge([comparison()])
    assert (none.p_a, none.verdict) == (None, "unparsed")


def test_a_member_that_reads_one_order_only_has_no_vote() -> None:
    half_read = FixedCritic("first", 0.9, None, positional=True)
    (judged,) = PanelCritic([half_read, FixedCritic("x", 0.3)]).judge([comparison()])
    assert (judged.p_a, judged.verdict) == (0.3, "B")
    assert judged.reason == "members: 1 B, 1 unparsed; disagreement 0.00"
    (alone,) = PanelCritic([half_read]).judge([comparison()])
    assert (alone.p_a, alone.verdict) == (None, "unparsed")


def test_a_trained_critic_sits_on_a_panel(tiny_critic: Path) -> None:
    member = {"kind": "reward", "path": str(tiny_critic), "floor": 0.5}
    context = BuildContext(None, TASK)
    (judged,) = validate(Panel, {"critics": [member] * 2}, "panel").build(context).judge([comparison()])
    assert judged.p_a == RewardModelConfig.model_validate(member).load().judge([comparison()])[0].p_a
    strict = validate(Panel, {"critics": [{**member, "floor": 0.9}, member]}, "panel")
    with pytest.raises(CriticError, match="floor is 90%"):
        strict.build(context)
    assert len(strict.build(BuildContext(None, TASK, measuring=True)).members) == 2
