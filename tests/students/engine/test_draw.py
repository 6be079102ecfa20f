"""The draw without sorting has the distribution of the nucleus, and its numbers depend on their key and place alone."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from scipy.stats import chisquare, combine_pvalues
from torch import Tensor
from transformers import TopPLogitsWarper

from quipwright.students.engine import draw as drawing
from quipwright.students.engine.draw import draw, stream, uniforms

DRAWS = 4_000


def nucleus(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """Probabilities of one row by sorting: the smallest set of likeliest tokens that holds ``top_p``, ties included."""
    mass = (logits.double() / temperature).softmax(-1)
    ranked, order = mass.sort(descending=True, stable=True)
    edge = logits[order[min(int((ranked.cumsum(-1) < top_p).sum()), len(ranked) - 1)]]
    kept = torch.where(logits >= edge, mass, 0.0)
    return kept / kept.sum()


def drawn(logits: Tensor, temperature: float, top_p: float, draws: int = DRAWS) -> Tensor:
    keys = torch.tensor([stream(0, number, [1, 2, 3]) for number in range(draws)])
    return draw(logits.expand(draws, -1), keys, torch.zeros_like(keys), temperature, top_p)


def fit(tokens: Tensor, probabilities: Tensor) -> float:
    """The p-value of a chi-square test; the rarest tokens are counted together. No token may be outside."""
    counts = torch.bincount(tokens, minlength=len(probabilities)).double()
    assert counts[probabilities == 0].sum() == 0
    expected = probabilities * len(tokens)
    common = expected >= 10
    observed, awaited = counts[common].tolist(), expected[common].tolist()
    if float(expected[~common].sum()) >= 5:
        observed, awaited = [*observed, float(counts[~common].sum())], [*awaited, float(expected[~common].sum())]
    observed[-1] += len(tokens) - sum(observed)
    awaited[-1] += len(tokens) - sum(awaited)
    return 1.0 if len(observed) == 1 else float(chisquare(observed, awaited).pvalue)


CASES = [
    *product((12,), (0.3, 0.8, 0.95, 1.0), (torch.float32, torch.bfloat16)),
    *product((500,), (0.6, 0.95), (torch.float32, torch.bfloat16)),
    (49_152, 0.95, torch.float32),
]


def test_draws_fit_the_enumerated_nucleus() -> None:
    results = []
    for vocabulary, top_p, kind in CASES:
        generator = torch.Generator().manual_seed(vocabulary)
        logits = (3 * torch.randn(vocabulary, generator=generator)).to(kind)
        logits[40:] -= 9
        results.append(
            fit(drawn(logits, 0.8, top_p, 500 if vocabulary > 10_000 else DRAWS), nucleus(logits, 0.8, top_p))
        )
    assert min(results) > 1e-4
    assert combine_pvalues(results).pvalue > 1e-3


def test_draws_that_are_never_accepted_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.linspace(3, 0, 30)
    monkeypatch.setattr(drawing, "ATTEMPTS", 0)
    assert fit(drawn(logits, 1.0, 0.6), nucleus(logits, 1.0, 0.6)) > 1e-3


def test_ties_at_the_edge_are_inside() -> None:
    logits = torch.tensor([2.0, 1.0, 1.0, 1.0, 0.0])  # masses 7.39, 2.72 x 3, 1: the edge of 0.5 is among the ties
    expected = nucleus(logits, 1.0, 0.5)
    assert (expected > 0).tolist() == [True, True, True, True, False]
    assert fit(drawn(logits, 1.0, 0.5), expected) > 1e-3


def test_the_nucleus_is_transformers() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(3))
    theirs = TopPLogitsWarper(0.7)(torch.zeros(1, 1), logits[None] / 0.9)[0].isfinite()
    assert torch.equal(nucleus(logits, 0.9, 0.7) > 0, theirs)
    assert set(drawn(logits, 0.9, 0.7).tolist()) == set(theirs.nonzero()[:, 0].tolist())


def test_hopeless_tokens_and_a_vocabulary_of_no_whole_blocks() -> None:
    logits = torch.full((385,), -1000.0)
    logits[384] = 5.0
    assert drawn(logits, 1.0, 1.0)[:100].tolist() == [384] * 100
    assert draw(logits[None], torch.tensor([1]), torch.tensor([0]), 0.0, 1.0).tolist() == [384]


def test_whole_texts_have_their_probabilities() -> None:
    """Texts of up to three tokens over a chain with two tokens and an end (0)."""
    table = torch.tensor([[0.2, 0.5, 0.3], [0.5, 0.3, 0.2], [0.25, 0.25, 0.5]])
    counts: dict[tuple[int, ...], int] = {}
    keys = torch.tensor([stream(7, number, [4]) for number in range(DRAWS)])
    state = torch.zeros(DRAWS, dtype=torch.long)
    texts: list[list[int]] = [[] for _ in range(DRAWS)]
    for place in range(3):
        state = draw(table[state].log(), keys, torch.full_like(keys, place), 1.0, 1.0)
        for text, token in zip(texts, state.tolist(), strict=True):
            if 0 not in text:
                text.append(token)
    for text in texts:
        counts[tuple(text)] = counts.get(tuple(text), 0) + 1
    chances = {}
    for length in (1, 2, 3):
        for text in product(range(3), repeat=length):
            if 0 not in text[:-1] and (text[-1] == 0 or length == 3):
                chances[text] = math.prod(float(table[a, b]) for a, b in zip((0, *text), text, strict=False))
    assert sum(chances.values()) == pytest.approx(1)
    expected = [chances[text] * DRAWS for text in chances]
    assert (
        chisquare([counts.get(text, 0) for text in chances], [e * DRAWS / sum(expected) for e in expected]).pvalue
        > 1e-3
    )


def splitmix(state: int) -> int:
    """SplitMix64's output for ``state``, in whole numbers (Steele et al. 2014)."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
    return state ^ (state >> 31)


def test_numbers_are_splitmix64s() -> None:
    keys = [0, -1, 2**63 - 1, -(2**63), 12345]
    for counter in (0, 1, 64 * 1000):
        expected = [(splitmix((key + (counter + 1) * 0x9E3779B97F4A7C15) % 2**64) >> 11) / 2**53 for key in keys]
        assert uniforms(torch.tensor(keys), torch.full((5,), counter)).tolist() == expected


def test_streams_differ_by_seed_sample_and_prompt() -> None:
    assert len({stream(s, n, p) for s, n, p in product((0, 1, 11), (0, 1, 11), ([1], [1, 1], [11], []))}) == 36


def test_texts_that_share_a_row_draw_as_from_rows_of_their_own() -> None:
    logits = torch.randn(20, 1000, generator=torch.Generator().manual_seed(6))
    rows = [0, 0, 0, 3, 7, 7, 8, 15, 16, 16, 19]  # a part of eight rows may have no text at all
    keys = torch.tensor([stream(1, i, [2]) for i in range(len(rows))])
    places = torch.arange(len(rows))
    for temperature in (0.0, 0.9):
        shared = draw(logits, keys, places, temperature, 0.8, rows)
        assert shared.tolist() == draw(logits[rows], keys, places, temperature, 0.8).tolist()


def test_a_draw_does_not_depend_on_its_neighbours() -> None:
    logits = torch.randn(40, 1000, generator=torch.Generator().manual_seed(5)) * 3
    keys = torch.tensor([stream(1, 0, [i]) for i in range(40)])
    places = torch.arange(40)
    together = draw(logits, keys, places, 0.9, 0.9)
    alone = [draw(logits[i : i + 1], keys[i : i + 1], places[i : i + 1], 0.9, 0.9).item() for i in range(40)]
    assert together.tolist() == alone
