"""The exact top-p draw (Holtzman et al. 2020) without sorting, from counter-based random numbers.

A token is drawn from the whole distribution and accepted if all strictly likelier tokens together weigh less than
``top_p``; otherwise another one is drawn. Accepted tokens are exactly the smallest set of likeliest tokens that holds
``top_p``, ties at its edge included, and drawing until a set is hit is drawing from the distribution restricted to it.

A random number depends on the seed, the prompt, the sample's number and the token's place, and on nothing else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

BLOCK = 192  # tokens whose masses are summed together: the first of two levels of the inverse distribution function
ATTEMPTS = 12  # draws before a row is sorted
_NUMBERS = 64  # random numbers that one token may use
_ROWS = 8  # rows that are drawn together: as many as stay in a core's cache
_FLOOR = -80.0  # log of the least mass; below it numbers become subnormal and ten times slower
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def stream(seed: int, sample: int, prompt: Sequence[int]) -> int:
    """The key of the random numbers of sample number ``sample`` of ``prompt`` (token ids): 64 bits, signed."""
    text = f"{seed} {sample} {','.join(map(str, prompt))}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def uniforms(keys: Tensor, counters: Tensor) -> Tensor:
    """Numbers in [0, 1), float64 of 53 random bits: SplitMix64 (Steele et al. 2014) at place ``counters`` of each key."""
    state = keys + (counters + 1) * _signed(_GOLDEN)
    state = (state ^ _shifted(state, 30)) * _signed(_FIRST)
    state = (state ^ _shifted(state, 27)) * _signed(_SECOND)
    return _shifted(state ^ _shifted(state, 31), 11).double() * 2.0**-53


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _shifted(state: Tensor, bits: int) -> Tensor:
    """A logical right shift of signed 64-bit numbers."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def draw(
    logits: Tensor,
    keys: Tensor,
    places: Tensor,
    temperature: float,
    top_p: float,
    rows: Sequence[int] | None = None,
) -> Tensor:
    """One token a text, int64, from ``logits`` (rows x vocabulary).

    ``keys``: each text's :func:`stream`; ``places``: the number of the token in its text, from 0; ``rows``: the row of
    each text, ascending (default: a text a row). ``temperature`` 0 takes the likeliest token.
    """
    row = range(len(logits)) if rows is None else rows
    index = torch.tensor(row, device=logits.device)
    if temperature == 0:
        return logits.argmax(-1)[index]
    size = _ROWS if logits.device.type == "cpu" else max(1, len(logits))
    tokens = []
    for begin in range(0, len(logits), size):
        texts = slice(bisect_left(row, begin), bisect_left(row, begin + size))
        masses = _Masses(logits[begin : begin + size], temperature, top_p)
        tokens.append(masses.draw(index[texts] - begin, keys[texts], places[texts] * _NUMBERS))
    return torch.cat(tokens)


class _Masses:
    """Unnormalised probabilities of a few rows, and their sums by block."""

    def __init__(self, logits: Tensor, temperature: float, top_p: float) -> None:
        rows, self.vocabulary = logits.shape
        blocks = -(-self.vocabulary // BLOCK)
        self.logits, self.top_p = logits, top_p
        self.best = logits.amax(-1, keepdim=True)
        self.padded = torch.zeros(rows, blocks, BLOCK, device=logits.device)
        self.mass = self.padded.view(rows, -1)[:, : self.vocabulary]
        torch.sub(logits.float(), self.best.float(), out=self.mass)
        self.mass.mul_(1 / temperature).clamp_(min=_FLOOR).exp_()
        self.sums = self.padded.sum(-1).double().cumsum(-1)
        self.total = self.sums[:, -1]

    def draw(self, rows: Tensor, keys: Tensor, counters: Tensor) -> Tensor:
        """A token of the nucleus of each of ``rows``."""
        tokens = torch.zeros_like(keys)
        waiting = torch.arange(len(keys), device=keys.device)
        for attempt in range(ATTEMPTS):
            token = self._pick(rows[waiting], uniforms(keys[waiting], counters[waiting] + attempt))
            accepted = self._inside(rows[waiting], token)
            tokens[waiting[accepted]] = token[accepted]
            waiting = waiting[~accepted]
            if len(waiting) == 0:
                return tokens
        tokens[waiting] = self._sorted(rows[waiting], uniforms(keys[waiting], counters[waiting] + ATTEMPTS))
        return tokens

    def _pick(self, rows: Tensor, uniform: Tensor) -> Tensor:
        """The token at ``uniform`` of each row's distribution function."""
        sums = self.sums[rows]
        target = _below(uniform * self.total[rows], self.total[rows])
        block = torch.searchsorted(sums, target[:, None], right=True)
        before = sums.gather(1, (block - 1).clamp(min=0)) * (block > 0)
        inner = self.padded[rows, block[:, 0]].double().cumsum(-1)
        within = _below(target - before[:, 0], inner[:, -1])
        return block[:, 0] * BLOCK + torch.searchsorted(inner, within[:, None], right=True)[:, 0]

    def _inside(self, rows: Tensor, token: Tensor) -> Tensor:
        """Whether each token belongs to its row's nucleus."""
        if self.top_p >= 1:
            return torch.ones_like(token, dtype=torch.bool)
        logit = self.logits[rows, token]
        inside = (self.mass[rows, token] > (1 - self.top_p) * self.total[rows]) | (logit == self.best[rows, 0])
        doubtful = (~inside).nonzero()[:, 0]
        if len(doubtful) > 0:
            row = rows[doubtful]
            likelier = torch.where(self.logits[row] > logit[doubtful, None], self.mass[row], 0.0).sum(-1)
            inside[doubtful] = likelier < self.top_p * self.total[row]
        return inside

    def _sorted(self, rows: Tensor, uniform: Tensor) -> Tensor:
        """The token at ``uniform`` of each row's nucleus, which is found by sorting."""
        logits, mass = self.logits[rows], self.mass[rows].double()
        ranked, order = logits.sort(dim=-1, descending=True)
        reached = mass.gather(1, order).cumsum(-1)
        edge = (reached < self.top_p * self.total[rows, None]).sum(-1).clamp(max=self.vocabulary - 1)
        kept = torch.where(logits >= ranked.gather(1, edge[:, None]), mass, 0.0).cumsum(-1)
        target = _below(uniform * kept[:, -1], kept[:, -1])
        return torch.searchsorted(kept, target[:, None], right=True)[:, 0]


def _below(value: Tensor, limit: Tensor) -> Tensor:
    """``value``, or the greatest number below ``limit`` where rounding has brought it there."""
    return torch.minimum(value, torch.nextafter(limit, torch.zeros_like(limit)))
