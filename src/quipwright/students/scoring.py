"""Log-probabilities of whole data sets under a student as it stands: references and validation losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from quipwright.core.progress import Step
from quipwright.students.base import Prompted, Student


@dataclass(frozen=True)
class Reference:
    """Frozen summed log-probabilities in nats of the rows' responses, and how many tokens were scored; 0 where a row
    has no such response."""

    total: Float[Tensor, "rows k"]
    tokens: Float[Tensor, "rows k"]


@torch.no_grad()
def score_rows(
    student: Student, rows: Sequence[Prompted], micro_batch_size: int, step_done: Step | None = None
) -> Reference:
    """Log-probabilities of every response of ``rows`` under the student as it stands, in the order of ``rows``.

    Rows of like length are computed together, so that little padding is.
    """
    student.module.eval()
    width = max(len(row.responses) for row in rows)
    totals, tokens = torch.zeros(len(rows), width), torch.zeros(len(rows), width)
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].prompt) + sum(map(len, rows[i].responses)), i))
    for start in range(0, len(rows), micro_batch_size):
        part = order[start : start + micro_batch_size]
        scored = student.logprobs(student.collate([rows[i] for i in part]))
        k = scored.total.shape[1]
        totals[part, :k] = scored.total.float().cpu()
        tokens[part, :k] = scored.tokens.float().cpu()
        if step_done:
            step_done(len(part))
    return Reference(totals, tokens)


def mle_loss(student: Student, rows: Sequence[Prompted], micro_batch_size: int) -> float:
    """Negative log-likelihood in nats per token over all responses of ``rows``."""
    scored = score_rows(student, rows, micro_batch_size)
    return float(-scored.total.sum() / scored.tokens.sum())
