"""Pure losses over log-probabilities. Each settings object *is* its loss: ``objective(policy, reference, rank)``.

Every loss returns one number per row, so that the mean over rows is the same whatever the micro-batch. ``policy`` and
``reference`` are :class:`~quipwright.students.batches.LogProbs`; ``rank`` says how the columns compare (see ``RankedBatch``).
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from quipwright.core.errors import TrainingError
from quipwright.core.settings import Settings
from quipwright.students.batches import ANCHOR, LogProbs

Rows = Float[Tensor, " batch"]


def _row_mean(values: Float[Tensor, "batch k"], keep: Bool[Tensor, "batch k"]) -> Rows:
    """Mean over the kept columns of each row; 0, with a graph, where none is kept."""
    return torch.where(keep, values, 0.0).sum(-1) / keep.sum(-1).clamp(min=1)


def nll(policy: LogProbs, keep: Bool[Tensor, "batch k"], smoothing: float = 0.0) -> Rows:
    """Token-mean negative log-likelihood of the kept columns, averaged over them.

    With ``smoothing`` e the target is 1 - e + e/V on the label and e/V elsewhere (Szegedy et al. 2016), as
    ``torch.nn.functional.cross_entropy(label_smoothing=e)``.
    """
    loss = -policy.mean()
    if smoothing:
        if policy.uniform is None:
            raise TrainingError(
                "Label smoothing needs the vocabulary's mean log-probability.", "Ask the student for it."
            )
        loss = (1 - smoothing) * loss - smoothing * policy.uniform / policy.tokens.clamp(min=1)
    return _row_mean(loss, keep & (policy.tokens > 0))


class MLE(Settings):
    """Token cross-entropy on every column (imitation, Ravi et al. 2024 sec. 3.1).

    Departure: the mean is taken over a response's tokens, then its row, then rows, so each literal weighs the same.
    """

    kind: Literal["mle"] = "mle"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    needs_reference: ClassVar[bool] = False
    min_columns: ClassVar[int] = 1

    def __call__(self, policy: LogProbs, reference: LogProbs | None, rank: Int[Tensor, "batch k"]) -> Rows:
        """Loss per row; ``reference`` and ``rank`` are not used."""
        return nll(policy, policy.tokens > 0, self.label_smoothing)


class DPO(Settings):
    """Direct preference optimisation on column 0 (chosen) against column 1 (rejected), Rafailov et al. 2023 eq. 7.

    With d = (policy - reference of chosen) - (policy - reference of rejected), sums over tokens:

    * ``sigmoid``: -log s(beta d); with ``label_smoothing`` e it is cDPO, -(1-e) log s(beta d) - e log s(-beta d).
    * ``robust``: the cDPO terms, unbiased: (-(1-e) log s(beta d) + e log s(-beta d)) / (1 - 2e) (Chowdhury 2024).
    * ``hinge``: max(0, 1 - beta d) (SLiC, Zhao et al. 2023).
    * ``ipo_sum``: (d - 1/(2 beta))^2 (Azar et al. 2024 eq. 17); ``ipo`` divides each side by its token count first.
    * ``sigmoid_norm``: -log s(beta d') with each side divided by its token count (Tulu 3).

    ``nll_weight`` adds that much MLE on the anchor column where there is one, else on the chosen.
    """

    kind: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0)
    loss: Literal["sigmoid", "robust", "hinge", "ipo_sum", "ipo", "sigmoid_norm"] = "sigmoid"
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    nll_weight: float = Field(0.0, ge=0)
    needs_reference: ClassVar[bool] = True
    min_columns: ClassVar[int] = 2

    @model_validator(mode="after")
    def _smoothing_is_read(self) -> DPO:
        if self.label_smoothing and self.loss not in ("sigmoid", "robust"):
            raise ValueError(f"label_smoothing has no meaning for loss {self.loss!r}; use sigmoid or robust")
        return self

    def __call__(self, policy: LogProbs, reference: LogProbs | None, rank: Int[Tensor, "batch k"]) -> Rows:
        """Loss per row. Raises :class:`TrainingError` without a reference or with fewer than two columns."""
        _need_columns(policy, self.min_columns, "DPO")
        if reference is None:
            raise TrainingError("DPO needs the reference's log-probabilities.", "Compute them before training.")
        loss = self._preference(self.margin(policy, reference))
        return loss + self.nll_weight * _anchor_nll(policy, rank) if self.nll_weight else loss

    def margin(self, policy: LogProbs, reference: LogProbs) -> Rows:
        """d, or its per-token form: how much more the policy prefers the chosen than the reference does, in nats."""
        ratio = policy.total - reference.total
        if self.loss in ("ipo", "sigmoid_norm"):
            ratio = ratio / policy.tokens.clamp(min=1)
        return ratio[:, 0] - ratio[:, 1]

    def _preference(self, d: Rows) -> Rows:
        beta, e = self.beta, self.label_smoothing
        if self.loss == "hinge":
            return relu(1 - beta * d)
        if self.loss in ("ipo", "ipo_sum"):
            return (d - 1 / (2 * beta)) ** 2
        if self.loss == "robust":
            return (-(1 - e) * logsigmoid(beta * d) + e * logsigmoid(-beta * d)) / (1 - 2 * e)
        return -(1 - e) * logsigmoid(beta * d) - e * logsigmoid(-beta * d)


class SimPO(Settings):
    """Reference-free preference loss, -log s(beta (mean_c - mean_r) - gamma), Meng et al. 2024 eq. 6.

    ``gamma_ratio`` is gamma / beta, as the paper tunes it.
    """

    kind: Literal["simpo"] = "simpo"
    beta: float = Field(2.0, gt=0)
    gamma_ratio: float = Field(0.5, ge=0)
    nll_weight: float = Field(0.0, ge=0)
    needs_reference: ClassVar[bool] = False
    min_columns: ClassVar[int] = 2

    def __call__(self, policy: LogProbs, reference: LogProbs | None, rank: Int[Tensor, "batch k"]) -> Rows:
        """Loss per row; ``reference`` is not used."""
        _need_columns(policy, self.min_columns, "SimPO")
        mean = policy.mean()
        loss = -logsigmoid(self.beta * (mean[:, 0] - mean[:, 1] - self.gamma_ratio))
        return loss + self.nll_weight * _anchor_nll(policy, rank) if self.nll_weight else loss


class BRIO(Settings):
    """Margin ranking on length-normalised log-probabilities plus MLE (Liu et al. 2022; Ravi et al. 2024 sec. 3.2).

    Score S = total / tokens^alpha. For every two compared columns of different rank, max(0, S_worse - S_better + m(gap)).
    Margins for rank distance g: ``log2gap`` log(2 g) / lambda (Liu et al. 2023), ``linear`` g log 2 / lambda (the paper
    as printed; the two agree for g = 1 and 2), ``constant`` g * margin (the original BRIO, 0.001). lambda is
    ``mean_length``: mean target length in the student's tokens, end token included, measured once on the training data.
    ``reduction``: ``mean`` over a row's unequal pairs, or ``brio``: the sum over gaps of the mean over that gap's pairs.
    The MLE term is on the anchor column (the teacher's text) where there is one, else on the best column.
    """

    kind: Literal["brio"] = "brio"
    alpha: float = Field(1.0, ge=0)
    margin: Literal["log2gap", "linear", "constant"] = "log2gap"
    constant: float = Field(0.001, ge=0)
    mean_length: float | None = Field(None, gt=0)
    reduction: Literal["mean", "brio"] = "mean"
    rank_weight: float = Field(100.0, ge=0)
    mle_weight: float = Field(1.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    needs_reference: ClassVar[bool] = False
    min_columns: ClassVar[int] = 2

    def __call__(self, policy: LogProbs, reference: LogProbs | None, rank: Int[Tensor, "batch k"]) -> Rows:
        """Loss per row; ``reference`` is not used. A row whose columns all tie gives 0 for the ranking, with a graph."""
        _need_columns(policy, self.min_columns, "BRIO")
        loss = self.rank_weight * self.ranking(policy, rank)
        if self.mle_weight:
            loss = loss + self.mle_weight * _anchor_nll(policy, rank, self.label_smoothing)
        return loss

    def ranking(self, policy: LogProbs, rank: Int[Tensor, "batch k"]) -> Rows:
        """The ranking term alone, unweighted."""
        score = policy.mean(self.alpha)
        compared = (rank != ANCHOR) & (policy.tokens > 0)
        gap = (rank[:, None, :] - rank[:, :, None]).where(
            compared[:, None, :] & compared[:, :, None], torch.zeros((), dtype=rank.dtype, device=rank.device)
        )
        pair = gap > 0  # [batch better worse]
        hinge = relu(score[:, None, :] - score[:, :, None] + self._margin(gap.clamp(min=1)).to(score.dtype))
        hinge = torch.where(pair, hinge, 0.0)
        if self.reduction == "mean":
            return hinge.sum((-1, -2)) / pair.sum((-1, -2)).clamp(min=1)
        total = torch.zeros_like(hinge[:, 0, 0])
        for distance in range(1, rank.shape[1]):
            here = gap == distance
            total = total + torch.where(here, hinge, 0.0).sum((-1, -2)) / here.sum((-1, -2)).clamp(min=1)
        return total

    def _margin(self, gap: Int[Tensor, "batch k k"]) -> Float[Tensor, "batch k k"]:
        if self.margin == "constant":
            return gap * self.constant
        if self.mean_length is None:
            raise TrainingError(
                "BRIO's margin needs mean_length (lambda).", "Set it, or let training measure it on its data."
            )
        if self.margin == "linear":
            return gap * (math.log(2) / self.mean_length)
        return torch.log(2.0 * gap) / self.mean_length


def _anchor_nll(policy: LogProbs, rank: Int[Tensor, "batch k"], smoothing: float = 0.0) -> Rows:
    """MLE on the anchor columns of each row, or on its best-ranked column where the row has no anchor."""
    anchor = (rank == ANCHOR) & (policy.tokens > 0)
    best = torch.zeros_like(anchor)
    best[:, 0] = True
    return nll(policy, torch.where(anchor.any(-1, keepdim=True), anchor, best), smoothing)


def _need_columns(policy: LogProbs, least: int, name: str) -> None:
    if policy.total.shape[1] < least:
        raise TrainingError(
            f"{name} compares {least} responses, but got rows of {policy.total.shape[1]}.", "Sample k >= 2."
        )


AnyObjective = MLE | DPO | SimPO | BRIO
Objective = Annotated[AnyObjective, Field(discriminator="kind")]
