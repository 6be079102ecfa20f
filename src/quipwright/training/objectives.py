"""Pure losses over log-probabilities. Each settings object *is* its loss: ``objective(policy, reference, rank)``.

Every loss returns one number per row, so that the mean over rows is the same whatever the micro-batch. ``policy`` and
``reference`` are :class:`~quipwright.students.batches.LogProbs`; ``rank`` says how the columns compare (see ``RankedBatch``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from quipwright.core.errors import TrainingError
from quipwright.core.settings import Settings
from quipwright.students.batches import ANCHOR, CONTRAST, LogProbs

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
    """Direct preference optimisation, Rafailov et al. 2023 eq. 7, averaged over all pairs of a row whose ranks differ.

    Of two ranked responses that is the published loss; a list trains on every pair of it. With d = (policy - reference
    of chosen) - (policy - reference of rejected), sums over tokens:

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
        loss = _pair_mean(self._preference(self.margins(policy, reference)), _pairs(policy, rank))
        return loss + self.nll_weight * _anchor_nll(policy, rank) if self.nll_weight else loss

    def margins(self, policy: LogProbs, reference: LogProbs) -> Float[Tensor, "batch k k"]:
        """d of every two columns (or its per-token form): how much more the policy prefers the first to the second
        than the reference does, in nats."""
        ratio = policy.total - reference.total
        if self.loss in ("ipo", "sigmoid_norm"):
            ratio = ratio / policy.tokens.clamp(min=1)
        return ratio[:, :, None] - ratio[:, None, :]

    def _preference(self, d: Float[Tensor, "batch k k"]) -> Float[Tensor, "batch k k"]:
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

    ``gamma_ratio`` is gamma / beta, as the paper tunes it. Of a list it is averaged over all pairs, as DPO is.
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
        margin = mean[:, :, None] - mean[:, None, :] - self.gamma_ratio
        loss = _pair_mean(-logsigmoid(self.beta * margin), _pairs(policy, rank))
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
        score, gap = policy.mean(self.alpha), _gaps(policy, rank)
        hinge = relu(score[:, None, :] - score[:, :, None] + self._margin(gap.clamp(min=1)).to(score.dtype))
        hinge = torch.where(gap > 0, hinge, 0.0)
        if self.reduction == "mean":
            return _pair_mean(hinge, gap > 0)
        total = hinge.sum((-1, -2)) * 0
        for distance in range(1, int(gap.max()) + 1):
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


def _gaps(policy: LogProbs, rank: Int[Tensor, "batch k"]) -> Int[Tensor, "batch better worse"]:
    """How many ranks each column is ahead of each other one; 0 where either is absent or not compared."""
    compared = (rank >= 0) & (policy.tokens > 0)
    return torch.where(compared[:, None, :] & compared[:, :, None], rank[:, None, :] - rank[:, :, None], 0)


def _pairs(policy: LogProbs, rank: Int[Tensor, "batch k"]) -> Bool[Tensor, "batch better worse"]:
    """Which two columns of each row are compared, the better one first."""
    return _gaps(policy, rank) > 0


def _pair_mean(values: Float[Tensor, "batch k k"], pairs: Bool[Tensor, "batch k k"]) -> Rows:
    """Mean over the pairs of each row; 0, with a graph, where there is none."""
    return torch.where(pairs, values, 0.0).sum((-1, -2)) / pairs.sum((-1, -2)).clamp(min=1)


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


class KTO(Settings):
    """Kahneman-Tversky optimisation of single responses that are good or not (Ethayarajh et al. 2024 eq. 8).

    A column of rank 0 is desirable, one of a higher rank is not. With r = policy - reference, sums over tokens, the loss
    of a column is w (1 - s(beta (r - z))) where it is desirable, else w (1 - s(beta (z - r))); the row's is their mean.
    The reference point z is max(0, r of the row's contrast columns), without a gradient: ``contrasts`` responses to other
    prompts under this one. Departure: z is measured on the row, not on the batch, so that no row's loss depends on its
    neighbours. ``desirable_weight`` unset: as much as makes both sorts weigh the same over all rows. ``nll_weight`` adds
    that much MLE on the desirable columns.
    """

    kind: Literal["kto"] = "kto"
    beta: float = Field(0.1, gt=0)
    desirable_weight: float | None = Field(None, gt=0)
    undesirable_weight: float = Field(1.0, gt=0)
    contrasts: int = Field(1, ge=0)
    nll_weight: float = Field(0.0, ge=0)
    needs_reference: ClassVar[bool] = True
    min_columns: ClassVar[int] = 1

    def __call__(self, policy: LogProbs, reference: LogProbs | None, rank: Int[Tensor, "batch k"]) -> Rows:
        """Loss per row. Raises :class:`TrainingError` without a reference."""
        if reference is None:
            raise TrainingError("KTO needs the reference's log-probabilities.", "Compute them before training.")
        present = policy.tokens > 0
        ratio = policy.total - reference.total
        point = _row_mean(ratio, (rank == CONTRAST) & present).detach().clamp(min=0)
        gain = self.beta * (ratio - point[:, None])
        desirable = (1 if self.desirable_weight is None else self.desirable_weight) * torch.sigmoid(-gain)
        loss = _row_mean(
            torch.where(rank == 0, desirable, self.undesirable_weight * torch.sigmoid(gain)), (rank >= 0) & present
        )
        return loss + self.nll_weight * nll(policy, rank == 0) if self.nll_weight else loss

    def balanced(self, rank: Sequence[Sequence[int]]) -> KTO:
        """With ``desirable_weight`` filled in from the ranks of all rows; as it is where one sort is missing."""
        compared = [[r for r in row if r >= 0] for row in rank]
        good = sum(row.count(0) / len(row) for row in compared if row)
        bad = sum(1 - row.count(0) / len(row) for row in compared if row)
        if self.desirable_weight is not None or not good or not bad:
            return self
        return self.model_copy(update={"desirable_weight": round(self.undesirable_weight * bad / good, 6)})


AnyObjective = MLE | DPO | SimPO | BRIO | KTO
Objective = Annotated[AnyObjective, Field(discriminator="kind")]
