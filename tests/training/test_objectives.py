"""Losses against numbers worked by hand (BRIO: E1-E4, DPO: A, B, C), and the laws they must keep."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from quipwright.core.errors import TrainingError
from quipwright.core.settings import Settings
from quipwright.students.batches import ANCHOR, CONTRAST, LogProbs
from quipwright.training.objectives import BRIO, DPO, KTO, MLE, SimPO, nll

LOG2 = math.log(2)


def wide(values: list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def scores(values: list[list[float]]) -> LogProbs:
    """Log-probabilities whose length-normalised score is ``values``: one token each."""
    return LogProbs(wide(values), torch.ones(len(values), len(values[0]), dtype=torch.float64))


def ranks(rows: int, k: int) -> Tensor:
    return torch.arange(k).repeat(rows, 1)


def brio(**settings: object) -> BRIO:
    return BRIO(rank_weight=1, mle_weight=0, **settings)


# --- BRIO ------------------------------------------------------------------------------------------------------------

E1 = [[-0.50, -0.40, -0.90]]
E2 = [[-1.0, -1.1, -0.9, -1.5, -1.4, -1.2], [-2.0, -1.0, -1.0, -3.0, -0.5, -2.5]]


@pytest.mark.parametrize(
    ("settings", "official", "mean"),
    [
        ({"margin": "constant", "constant": 0.001}, 0.0505, 0.0336666667),
        ({"margin": "linear", "mean_length": 20}, 0.067328679514, 0.044885786343),
    ],
)
def test_brio_e1(settings: dict[str, object], official: float, mean: float) -> None:
    policy = scores(E1)
    policy.total.requires_grad_()
    loss = brio(reduction="brio", **settings)(policy, None, ranks(1, 3))
    assert loss.item() == pytest.approx(official, abs=1e-10)
    loss.sum().backward()
    assert policy.total.grad.tolist() == [pytest.approx([-0.5, 0.5, 0.0])]
    assert brio(**settings)(scores(E1), None, ranks(1, 3)).item() == pytest.approx(mean, abs=1e-10)


def test_brio_e2_sum_over_gaps_of_means_and_its_gradient() -> None:
    policy = scores(E2)
    policy.total.requires_grad_()
    loss = brio(margin="linear", mean_length=20, reduction="brio")(policy, None, ranks(2, 6)).mean()
    assert loss.item() == pytest.approx(1.2840928451, abs=1e-9)
    loss.backward()
    assert policy.total.grad[0].tolist() == pytest.approx([-0.125, -0.35, 0.225, -0.225, 0, 0.475])
    assert policy.total.grad[1].tolist() == pytest.approx([-0.475, -1 / 6, 0.1, -0.225, 0.6416666667, 0.125])


def test_brio_e2_mean_over_pairs() -> None:
    loss = brio(margin="linear", mean_length=20)(scores(E2), None, ranks(2, 6))
    assert loss.mean().item() == pytest.approx(0.3078582898, abs=1e-9)
    assert (loss * 15).mean().item() == pytest.approx(4.6178743469, abs=1e-8)


LOGITS = torch.tensor(
    [
        [[2, 0, 0.5, -1, 1], [0.1, 0.2, 1.5, 0, 0], [1, 0, 3, 0, 0], [9, 9, 9, 9, 9]],
        [[0, 0, 0.5, 2, 1], [0.1, 0.2, 1.5, 1, 0], [1, 1, 1, 1, 1], [0, 5, 0, 0, 0]],
    ],
    dtype=torch.float64,
)
LABELS = torch.tensor([[0, 4, 2, 1], [3, 2, 1, 1]])


def from_logits() -> LogProbs:
    """E3: token 1 is padding."""
    logs, real = LOGITS.log_softmax(-1), LABELS != 1
    token = logs.gather(-1, LABELS[..., None])[..., 0]
    even = (logs.mean(-1) * real).sum(-1)
    return LogProbs((token * real).sum(-1)[None], real.sum(-1)[None].double(), even[None])


@pytest.mark.parametrize(
    ("alpha", "s_a", "s_b", "log2_third", "thousandth"),
    [
        (0.0, -3.0006506637, -1.4753795178, 1.7563202061, 1.5262711459),
        (0.6, -1.5521821504, -0.9733874725, 0.8098437381, 0.5797946779),
        (1.0, -1.0002168879, -0.7376897589, 0.4935761892, 0.2635271290),
        (2.0, -0.3334056293, -0.3688448794, 0.1956098100, 0.0),
    ],
)
def test_brio_e3_alpha_changes_the_score_and_may_flip_the_order(
    alpha: float, s_a: float, s_b: float, log2_third: float, thousandth: float
) -> None:
    policy = from_logits()
    assert policy.mean(alpha)[0].tolist() == pytest.approx([s_a, s_b], abs=1e-9)
    by_length = brio(alpha=alpha, mean_length=3)(policy, None, ranks(1, 2))
    constant = brio(alpha=alpha, margin="constant", constant=0.001)(policy, None, ranks(1, 2))
    assert by_length.item() == pytest.approx(log2_third, abs=1e-9)
    assert constant.item() == pytest.approx(thousandth, abs=1e-9)


def test_brio_e3_mixes_with_mle_on_the_best() -> None:
    policy, order = from_logits(), ranks(1, 2)
    best = torch.tensor([[True, False]])
    assert nll(policy, best).item() == pytest.approx(1.0002168879, abs=1e-9)
    assert nll(policy, best, 0.1).item() == pytest.approx(1.1115502212, abs=1e-9)
    smooth = {"mean_length": 3, "label_smoothing": 0.1}
    paper = BRIO(rank_weight=10, mle_weight=0.1, **smooth)(policy, None, order)
    even = BRIO(rank_weight=1, mle_weight=1, **smooth)(policy, None, order)
    plain = BRIO(rank_weight=1, mle_weight=1, mean_length=3)(policy, None, order)
    # the published smoothed MLE is float32, hence seven digits
    assert [v.item() for v in (paper, even, plain)] == pytest.approx(
        [5.0469169140, 1.6051264104, 1.4937930771], abs=1e-7
    )


@pytest.mark.parametrize(
    ("values", "order", "expected"),
    [
        ([-1.00, -1.02], [0, 1], 0.014657359028),
        ([-1.10, -1.00], [0, 1], 0.134657359028),
        ([-1.0, -1.0 - LOG2 / 20], [0, 1], 0),
        ([-0.9, -0.5, -0.95, -1.3], [0, 1, 1, 2], 0.086931471806),
        ([-0.9, -0.5, -0.95, -1.3], [1, 1, 1, 1], 0),
        ([-0.1, -1.0, -2.0], [0, 1, 2], 0),
    ],
)
def test_brio_e4_over_unequal_pairs(values: list[float], order: list[int], expected: float) -> None:
    loss = brio(mean_length=20)(scores([values]), None, torch.tensor([order]))
    assert loss.item() == pytest.approx(expected, abs=1e-10)


def test_brio_in_the_wrong_order_pulls_each_by_one() -> None:
    policy = scores([[-1.10, -1.00]])
    policy.total.requires_grad_()
    brio(mean_length=20)(policy, None, ranks(1, 2)).sum().backward()
    assert policy.total.grad.tolist() == [[-1.0, 1.0]]


def test_brio_of_a_row_that_ties_has_a_graph_and_no_nan() -> None:
    policy = scores([[-0.9, -0.5], [-0.2, -0.3]])
    policy.total.requires_grad_()
    for reduction in ("mean", "brio"):
        loss = brio(mean_length=20, reduction=reduction)(policy, None, torch.zeros(2, 2, dtype=torch.long))
        assert loss.tolist() == [0.0, 0.0]
        loss.sum().backward()
    assert policy.total.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_brio_of_equal_scores_is_the_margins_alone() -> None:
    loss = brio(margin="constant", constant=0.3, reduction="brio")(scores([[-1.0] * 3]), None, ranks(1, 3))
    assert loss.item() == pytest.approx(0.3 * (1 + 2))


@given(st.permutations(range(4)), st.sampled_from(["mean", "brio"]), st.sampled_from(["log2gap", "linear"]))
def test_brio_goes_by_ranks_and_not_by_the_order_of_columns(order: list[int], reduction: str, margin: str) -> None:
    loss = brio(mean_length=20, reduction=reduction, margin=margin)
    straight = loss(scores([[-1.0, -0.7, -0.9, -0.2]]), None, ranks(1, 4))
    values = [[-1.0, -0.7, -0.9, -0.2][i] for i in order]
    assert loss(scores([values]), None, torch.tensor([order])).item() == pytest.approx(straight.item(), abs=1e-12)


def test_brio_margins_agree_at_gaps_one_and_two_only() -> None:
    equal = scores([[-1.0, -1.0]])
    for gap, doubled, linear in (
        (1, 0.06931, 0.06931),
        (2, 0.13863, 0.13863),
        (3, 0.17918, 0.20794),
        (5, 0.23026, 0.34657),
    ):
        both = [
            brio(mean_length=10, margin=m)(equal, None, torch.tensor([[0, gap]])).item() for m in ("log2gap", "linear")
        ]
        assert both == pytest.approx([doubled, linear], abs=1e-5)


def test_brio_leaves_out_anchor_and_absent_columns() -> None:
    policy = LogProbs(wide([[-1.0, -2.0, -9.0, 0.0]]), wide([[1, 1, 1, 0]]))
    order = torch.tensor([[0, 1, ANCHOR, 0]])
    assert brio(mean_length=20)(policy, None, order).item() == 0
    anchored = BRIO(rank_weight=0, mle_weight=1, mean_length=20)(policy, None, order)
    assert anchored.item() == pytest.approx(9.0)


def test_brio_without_lambda_says_so() -> None:
    with pytest.raises(TrainingError, match="mean_length"):
        brio()(scores(E1), None, ranks(1, 3))


# --- DPO -------------------------------------------------------------------------------------------------------------

CASES = {
    "A": ((-20.0, -25.0), (10, 12), 0.1),
    "B": ((-18.0, -27.0), (10, 12), 0.1),
    "C": ((-24.0, -22.0), (8, 16), 0.5),
}
EXPECTED = {
    "sigmoid": (0.69314718, 0.51301525, 3.52975042),
    "cdpo": (0.69314718, 0.55301525, 3.17975042),
    "robust": (0.69314718, 0.46301525, 3.96725042),
    "hinge": (1.0, 0.6, 4.5),
    "ipo_sum": (25.0, 1.0, 64.0),
    "ipo": (25.0, 21.46777778, 2.84765625),
    "sigmoid_norm": (0.69314718, 0.67498189, 0.87972053),
}


def pair(case: str) -> tuple[LogProbs, LogProbs, float]:
    total, tokens, beta = CASES[case]
    count = wide([list(tokens)])
    return LogProbs(wide([list(total)]), count), LogProbs(wide([[-20.0, -25.0]]), count), beta


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", EXPECTED)
def test_dpo_worked_numbers(case: str, name: str) -> None:
    policy, reference, beta = pair(case)
    smoothing = 0.1 if name in ("cdpo", "robust") else 0.0
    loss = DPO(beta=beta, loss="sigmoid" if name == "cdpo" else name, label_smoothing=smoothing)
    expected = EXPECTED[name]["ABC".index(case)]
    assert loss(policy, reference, ranks(1, 2)).item() == pytest.approx(expected, abs=5e-9)


@pytest.mark.parametrize(("case", "expected"), [("A", 1.19421815), ("B", 0.74439666), ("C", 4.26416346)])
def test_simpo_worked_numbers(case: str, expected: float) -> None:
    policy, _, _ = pair(case)
    loss = SimPO(beta=2, gamma_ratio=0.5)(policy, None, ranks(1, 2))
    assert loss.item() == pytest.approx(expected, abs=5e-9)


def test_dpo_gradient_of_the_chosen() -> None:
    policy, reference, beta = pair("B")
    policy.total.requires_grad_()
    DPO(beta=beta)(policy, reference, ranks(1, 2)).sum().backward()
    assert policy.total.grad[0, 0].item() == pytest.approx(-0.0401312, abs=1e-7)


@pytest.mark.parametrize(("d", "expected"), [(-1e5, 1e4), (1e5, 0.0)])
def test_dpo_of_extreme_margins_is_finite(d: float, expected: float) -> None:
    ones = torch.ones(1, 2)
    policy = LogProbs(torch.tensor([[d, 0.0]], requires_grad=True), ones)
    loss = DPO(beta=0.1)(policy, LogProbs(torch.zeros(1, 2), ones), ranks(1, 2))
    assert loss.item() == pytest.approx(expected)
    loss.sum().backward()
    assert torch.isfinite(policy.total.grad).all()


@given(st.floats(-50, 50), st.sampled_from(["sigmoid", "hinge", "sigmoid_norm"]))
def test_dpo_falls_as_the_margin_grows(d: float, name: str) -> None:
    count = torch.full((1, 2), 5.0, dtype=torch.float64)
    reference = LogProbs(torch.zeros(1, 2, dtype=torch.float64), count)
    here, more = (DPO(loss=name)(LogProbs(wide([[x, 0.0]]), count), reference, ranks(1, 2)).item() for x in (d, d + 1))
    assert more <= here


def test_dpo_anchor_is_the_anchor_column_else_the_chosen() -> None:
    count = wide([[2, 2, 4]])
    policy = LogProbs(wide([[-4.0, -6.0, -10.0]]), count)
    loss, plain = (DPO(nll_weight=w)(policy, policy, torch.tensor([[0, 1, ANCHOR]])).item() for w in (0.5, 0.0))
    assert loss - plain == pytest.approx(0.5 * 10 / 4)
    without = DPO(nll_weight=0.5)(policy.columns(0, 2), policy.columns(0, 2), ranks(1, 2)).item()
    assert without - LOG2 == pytest.approx(0.5 * 4 / 2)


@pytest.mark.parametrize("objective", [DPO(), SimPO(), BRIO(mean_length=20)])
def test_preferences_refuse_single_columns(objective: DPO | SimPO | BRIO) -> None:
    with pytest.raises(TrainingError, match="compares 2 responses"):
        objective(scores([[-1.0]]), scores([[-1.0]]), ranks(1, 1))


def test_dpo_needs_a_reference() -> None:
    with pytest.raises(TrainingError, match="reference"):
        DPO()(scores([[-1.0, -2.0]]), None, ranks(1, 2))


@pytest.mark.parametrize("name", ["hinge", "ipo", "ipo_sum", "sigmoid_norm"])
def test_smoothing_that_nothing_would_read_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no meaning"):
        DPO(loss=name, label_smoothing=0.1)


# --- MLE -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_mle_equals_torch_cross_entropy_with_smoothing(smoothing: float) -> None:
    for row in range(2):
        expected = cross_entropy(LOGITS[row], LABELS[row], ignore_index=1, label_smoothing=smoothing)
        one = from_logits()
        policy = one.columns(row, row + 1)
        assert MLE(label_smoothing=smoothing)(policy, None, ranks(1, 1)).item() == pytest.approx(expected.item())


def test_mle_weighs_each_literal_alike_and_absent_columns_not() -> None:
    policy = LogProbs(wide([[-4.0, -6.0], [-3.0, 0.0]]), wide([[4, 2], [1, 0]]))
    assert MLE()(policy, None, ranks(2, 2)).tolist() == pytest.approx([(1 + 3) / 2, 3.0])


def test_smoothing_without_the_vocabulary_mean_says_so() -> None:
    with pytest.raises(TrainingError, match="Ask the student"):
        MLE(label_smoothing=0.1)(scores([[-1.0]]), None, ranks(1, 1))


@pytest.mark.parametrize("objective", [MLE(), DPO(), SimPO(), BRIO(mean_length=5)])
def test_every_objective_is_its_settings(objective: Settings) -> None:
    assert type(objective).model_validate(objective.model_dump()) == objective


# --- KTO -------------------------------------------------------------------------------------------------------------

KTO_RANKS = torch.tensor([[0, 1, CONTRAST]])


def kto(contrast: float, **settings: object) -> float:
    """The loss of a desirable response with r = 2 and an undesirable one with r = -3, and another's with ``contrast``."""
    policy, reference = scores([[-8.0, -13.0, -20.0]]), scores([[-10.0, -10.0, -20.0 - contrast]])
    return float(KTO(beta=0.1, **settings)(policy, reference, KTO_RANKS))


def test_kto_by_hand() -> None:
    # z = 1: (1 - s(0.1 (2 - 1)) + 1 - s(0.1 (1 + 3))) / 2 = (0.4750208125 + 0.4013123399) / 2
    assert kto(1.0) == pytest.approx(0.4381665762)
    assert kto(1.0, desirable_weight=2.0) == pytest.approx((2 * 0.4750208125 + 0.4013123399) / 2)
    assert kto(1.0, undesirable_weight=0.5) == pytest.approx((0.4750208125 + 0.5 * 0.4013123399) / 2)
    # below 0 the reference point is 0: (1 - s(0.2) + 1 - s(0.3)) / 2 = (0.4501660027 + 0.4255574832) / 2
    assert kto(-5.0) == kto(0.0) == pytest.approx(0.4378617429)
    assert kto(0.0, nll_weight=0.5) == pytest.approx(0.4378617429 + 0.5 * 8)


def test_kto_has_no_gradient_through_its_reference_point() -> None:
    policy = scores([[-8.0, -13.0, -20.0]])
    policy.total.requires_grad_()
    KTO(beta=0.1)(policy, scores([[-10.0, -10.0, -21.0]]), KTO_RANKS).sum().backward()
    # -w s(g) s(-g) beta / 2 for the desirable column, + for the other: s(0.1) s(-0.1) = 0.2493760402 and s(0.4) s(-0.4) = 0.2402607458
    assert policy.total.grad.tolist() == [pytest.approx([-0.01246880201, 0.01201303729, 0.0])]


def test_kto_at_its_reference_is_one_half_and_needs_one() -> None:
    policy = scores([[-8.0, -13.0]])
    assert float(KTO()(policy, policy, torch.tensor([[0, 1]]))) == 0.5
    with pytest.raises(TrainingError, match="KTO needs the reference"):
        KTO()(policy, None, torch.tensor([[0, 1]]))


def test_kto_weighs_both_sorts_alike_over_all_rows() -> None:
    # rows of 1/4, 0 and 1 desirable columns: 1.25 rows' worth are, 1.75 are not
    rows = [[0, 1, 1, 1, CONTRAST], [1, 1], [0, CONTRAST]]
    assert KTO().balanced(rows).desirable_weight == 1.4
    assert KTO(undesirable_weight=2).balanced(rows).desirable_weight == 2.8
    assert KTO(desirable_weight=3).balanced(rows).desirable_weight == 3
    assert KTO().balanced([[0, 0]]).desirable_weight is None
