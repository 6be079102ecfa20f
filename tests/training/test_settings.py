"""A setting that is accepted is used: every field changes a loss, a schedule or the key of what is made with it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from quipwright.core.settings import Settings
from quipwright.students.base import LoRA, StudentSettings
from quipwright.students.batches import ANCHOR, LogProbs
from quipwright.training.loop import _groups
from quipwright.training.objectives import BRIO, DPO, MLE, AnyObjective, SimPO
from quipwright.training.preference.candidates import DecodeSettings, DiverseBeamSettings, MixedSettings, SampleSettings
from quipwright.training.preference.pairs import BestWorst, Diverse, DiverseQuality, Listed, Random, TeacherMix
from quipwright.training.preference.ranking import RankRule
from quipwright.training.settings import TrainSettings, learning_rate, total_steps

TOTAL = torch.tensor([[-4.0, -9.0, -5.0, -3.0]])
TOKENS = torch.tensor([[4.0, 3.0, 8.0, 5.0]])
POLICY = LogProbs(TOTAL, TOKENS, TOTAL * 1.5)
REFERENCE = LogProbs(torch.tensor([[-5.0, -8.0, -6.5, -3.0]]), TOKENS)
RANK = torch.tensor([[0, 1, 3, ANCHOR]])  # the margins of BRIO differ from a gap of three on

CHANGED: list[tuple[AnyObjective, dict[str, Any]]] = [
    (MLE(), {"label_smoothing": 0.2}),
    (DPO(), {"beta": 0.5}),
    *((DPO(), {"loss": loss}) for loss in ("hinge", "ipo_sum", "ipo", "sigmoid_norm")),
    (DPO(label_smoothing=0.1), {"loss": "robust"}),
    (DPO(), {"label_smoothing": 0.2}),
    (DPO(), {"nll_weight": 0.3}),
    (SimPO(), {"beta": 1.0}),
    (SimPO(), {"gamma_ratio": 0.1}),
    (SimPO(), {"nll_weight": 0.3}),
    (BRIO(mean_length=5), {"alpha": 2.0}),
    (BRIO(mean_length=5), {"margin": "linear"}),
    (BRIO(margin="constant"), {"constant": 0.5}),
    (BRIO(mean_length=5), {"mean_length": 2.0}),
    (BRIO(mean_length=5), {"reduction": "brio"}),
    (BRIO(mean_length=5), {"rank_weight": 7.0}),
    (BRIO(mean_length=5), {"mle_weight": 0.0}),
    (BRIO(mean_length=5), {"label_smoothing": 0.2}),
]


@pytest.mark.parametrize(("objective", "change"), CHANGED, ids=lambda value: str(value)[:40])
def test_every_field_of_an_objective_changes_its_loss(objective: AnyObjective, change: dict[str, Any]) -> None:
    other = type(objective)(**{**objective.model_dump(), **change})
    before, after = (float(one(POLICY, REFERENCE, RANK)) for one in (objective, other))
    assert before != pytest.approx(after, rel=1e-4)


def test_no_field_of_an_objective_is_left_out() -> None:
    for kind in (MLE, DPO, SimPO, BRIO):
        walked = {name for objective, change in CHANGED if isinstance(objective, kind) for name in change}
        assert walked == set(kind.model_fields) - {"kind"}


def test_a_list_trains_on_all_of_its_pairs() -> None:
    # d of the three: 1, -1, 1.5; the pairs (0,1), (0,2), (1,2) differ by 2, -0.5 and -2.5
    expected = sum(math.log(1 + math.exp(-0.1 * d)) for d in (2.0, -0.5, -2.5)) / 3
    assert float(DPO()(POLICY, REFERENCE, RANK)) == pytest.approx(expected, rel=1e-6)
    # means a token: -1, -3, -0.625
    margins = (2.0, -0.375, -2.375)
    simpo = sum(math.log(1 + math.exp(-2.0 * (m - 0.5))) for m in margins) / 3
    assert float(SimPO()(POLICY, None, RANK)) == pytest.approx(simpo, rel=1e-6)


def test_a_gap_as_wide_as_the_list_counts_in_the_sum_over_gaps() -> None:
    tied = LogProbs(torch.zeros(1, 2), torch.ones(1, 2))
    objective = BRIO(reduction="brio", margin="constant", constant=0.5, rank_weight=1, mle_weight=0)
    assert float(objective(tied, None, torch.tensor([[0, 2]]))) == pytest.approx(1.0)


def test_the_schedule_uses_warmup_and_epochs() -> None:
    settings = TrainSettings(epochs=2, batch_size=4, lr=0.1, warmup_ratio=0.5)
    assert total_steps(8, settings) == 4
    assert [learning_rate(step, 4, settings) for step in range(4)] == pytest.approx([0.05, 0.1, 0.1, 0.05])
    assert total_steps(8, settings.model_copy(update={"batch_size": 8})) == 2


def test_norms_and_biases_are_spared_from_weight_decay() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    decayed, spared = _groups(dict(network.named_parameters()), 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 3)]  # type: ignore[attr-defined]
    assert [tuple(p.shape) for p in spared["params"]] == [(2,), (2,), (2,)]  # type: ignore[attr-defined]


def other_value(value: Any) -> Any:
    """A value of the same kind that is not ``value``."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"not {value}"


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings(), RankRule(), StudentSettings(), LoRA(), SampleSettings(), DiverseBeamSettings(), MixedSettings(),
        DecodeSettings(), Diverse(), Random(), BestWorst(), DiverseQuality(), Listed(), TeacherMix(),
    ],
    ids=lambda settings: type(settings).__name__,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_every_field_is_part_of_the_key(settings: Settings) -> None:
    for name in type(settings).model_fields:
        changed = settings.model_copy(update={name: other_value(getattr(settings, name))})
        assert changed.hash != settings.hash, name
