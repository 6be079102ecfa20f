"""Nucleus sampling (Holtzman et al. 2020) without sorting the vocabulary at every token."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

_HEAD = 512  # almost every nucleus is smaller; the others are found by a full sort


class Nucleus(LogitsProcessor):
    """Temperature, then the smallest set of tokens whose probability reaches ``top_p``; the rest gets -inf.

    The same set as sorting the whole vocabulary gives (transformers' own warper), ties at its edge included: tokens as
    likely as the last one stay. Sorting 192 rows of 49,152 took longer than the model's own step on a CPU.
    """

    def __init__(self, temperature: float, top_p: float) -> None:
        """``temperature`` > 0; ``top_p`` in (0, 1], 1 keeps everything."""
        self.temperature = temperature
        self.top_p = top_p

    def __call__(
        self, input_ids: Int[Tensor, "rows length"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        """Scores with everything outside the nucleus at -inf."""
        scores = scores.float() / self.temperature
        if self.top_p >= 1:
            return scores
        edge, found = _edge(scores, min(_HEAD, scores.shape[1]), self.top_p)
        if not bool(found.all()):
            rest = ~found
            edge[rest], _ = _edge(scores[rest], scores.shape[1], self.top_p)
        return scores.masked_fill(scores < edge[:, None], -torch.inf)


def _edge(scores: Tensor, width: int, top_p: float) -> tuple[Tensor, Tensor]:
    """The lowest score inside each row's nucleus, and whether the ``width`` best tokens reach ``top_p`` at all."""
    best = scores.topk(width, dim=-1).values
    mass = (best - scores.logsumexp(-1, keepdim=True)).exp().cumsum(-1)
    last = (mass < top_p).sum(-1)  # tokens needed is one more than those that fall short
    found = last < width
    return best.gather(1, last.clamp(max=width - 1)[:, None])[:, 0], found
