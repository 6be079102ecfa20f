"""A row's prompt and the tree of its responses say, in one pass, what one text at a time does, with the same gradient."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear

from quipwright.students.batches import RankedBatch
from quipwright.students.common import pad
from quipwright.students.output_layer import token_logprobs
from quipwright.students.packing import pack, unpack
from quipwright.students.policy import CausalPolicy, ScoringPath
from quipwright.testing.tiny_models import CAUSAL, causal_network

TOKENS = 7
Rows = list[tuple[list[int], list[list[int]]]]
token = st.integers(1, 3)  # three tokens only: responses often begin alike
trees: st.SearchStrategy[Rows] = st.lists(
    st.tuples(st.lists(token, min_size=1, max_size=4), st.lists(st.lists(token, max_size=5), min_size=1, max_size=5)),
    min_size=1,
    max_size=3,
).filter(lambda rows: any(response for _, responses in rows for response in responses))


def batch_of(rows: Rows) -> RankedBatch:
    """``rows`` of prompts and responses as ids; an empty response is an absent column."""
    k = max(len(responses) for _, responses in rows)
    prompt, prompt_mask = pad([prompt for prompt, _ in rows])
    flat, mask = pad([ids for _, responses in rows for ids in responses + [[]] * (k - len(responses))])
    shape = (len(rows), k, flat.shape[1])
    return RankedBatch(prompt, prompt_mask, flat.view(shape), mask.view(shape), torch.zeros(len(rows), k).long())


@settings(deadline=None, max_examples=50)
@given(trees)
def test_every_text_stands_whole_behind_what_it_sees(rows: Rows) -> None:
    batch = batch_of(rows)
    packed = pack(batch)
    k = batch.response.shape[1]
    for r, (prompt, responses) in enumerate(rows):
        begun = {tuple(response[:n]) for response in responses for n in range(1, len(response) + 1)}
        used = len(prompt) + len(begun)  # each beginning has one place
        assert (
            packed.mask[r, 0, :used].sum()
            == sum(len(prompt) + len(beginning) for beginning in begun) + len(prompt) * (len(prompt) + 1) // 2
        )
        for c, response in enumerate(responses):
            mine = packed.slot == r * k + c
            assert packed.target[mine].tolist() == response
            if response:
                seen = packed.mask[r, 0, packed.place[mine][-1]]
                assert packed.ids[r, seen].tolist() == prompt + response
                assert packed.positions[r, seen].tolist() == list(range(len(prompt + response)))
                predicted_by = packed.predictor[packed.source[mine]].tolist()
                assert predicted_by == [len(prompt) - 1, *packed.place[mine].tolist()[:-1]]


def test_what_is_alike_stands_once() -> None:
    packed = pack(batch_of([([5, 6], [[1, 2, 3], [1, 2, 4], [1, 2, 3]])]))
    assert packed.ids.tolist() == [[5, 6, 1, 2, 3, 4]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4, 4]]
    assert packed.predictor.tolist() == [1, 2, 3]
    assert packed.source.tolist() == [0, 1, 2] * 3
    assert packed.target.tolist() == [1, 2, 3, 1, 2, 4, 1, 2, 3]
    assert packed.mask[0, 0, 5].tolist() == [True, True, True, True, False, True]


NETWORKS = {name: causal_network(name, TOKENS).double() for name in CAUSAL}


@pytest.mark.parametrize("family", CAUSAL)
@settings(deadline=None, max_examples=12)
@given(rows=trees, seed=st.integers(0, 99))
def test_a_tree_says_what_its_texts_say_alone(family: str, rows: Rows, seed: int) -> None:
    network, batch = NETWORKS[family], batch_of(rows)
    shared = CausalPolicy(network, False, ScoringPath())
    alone = CausalPolicy(network, False, ScoringPath(packed=False, head=False))
    parameters = list(network.parameters())
    results, gradients = [], []
    for policy in (shared, alone):
        scored = policy(batch, uniform=True)
        weights = torch.randn(scored.total.shape, generator=torch.Generator().manual_seed(seed))
        value = (weights * scored.total).sum() + (weights * scored.uniform).sum() / 3
        gradients.append(torch.autograd.grad(value, parameters))
        results.append(scored)
    torch.testing.assert_close(results[0].total, results[1].total, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(results[0].uniform, results[1].uniform, atol=1e-5, rtol=1e-6)
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 50])
def test_token_logprobs_are_those_of_all_logits(trained: bool, bias: bool, rows: int) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 150_000, bias=bias).requires_grad_(trained)  # so many tokens that rows go by parts
    hidden = (3 * torch.randn(rows, 8)).requires_grad_()
    source, target = torch.randint(rows, (80,)), torch.randint(150_000, (80,))
    target[:20] = linear(hidden, head.weight, head.bias)[source[:20]].argmax(-1)  # the likeliest ones too
    weights = torch.randn(2, 80)
    made = token_logprobs(hidden, head, source, target, uniform=True)
    exact, witness = copy.deepcopy(head).double(), hidden.detach().double().requires_grad_()
    logs = exact(witness).log_softmax(-1)
    expected = (logs[source, target], logs.mean(-1)[source])
    for ours, theirs in zip(made, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=1e-5)
    gradients = [
        torch.autograd.grad((torch.stack(both) * weights).sum(), [given, *(layer.parameters() if trained else [])])
        for both, given, layer in ((made, hidden, head), (expected, witness, exact))
    ]
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine.double(), other, atol=1e-5, rtol=1e-4)


def test_a_sure_token_keeps_a_right_gradient_in_bfloat16() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 200, bias=False).requires_grad_(False).bfloat16()
    hidden = torch.randn(1, 16).bfloat16()
    target = head(hidden).argmax(-1)
    hidden = (
        hidden + 30 * head.weight[target]
    ).detach()  # its probability is near 1: the gradient is what is left of it
    exact = hidden.double().requires_grad_()
    (log,) = linear(exact, head.weight.double()).log_softmax(-1)[0, target]
    (expected,) = torch.autograd.grad(log, exact)
    given = hidden.requires_grad_()
    made, _ = token_logprobs(given, head, torch.tensor([0]), target)
    (gradient,) = torch.autograd.grad(made.sum(), given)
    assert float(log.detach().exp()) > 0.5
    assert float((gradient - expected).norm() / expected.norm()) < 0.03


def test_unpacked_rows_name_each_predictor_once() -> None:
    layout = unpack(batch_of([([5, 6], [[1, 2], [1]]), ([4], [[3], []])]))
    assert layout.ids.tolist() == [[5, 6, 1, 2], [5, 6, 1, 0], [4, 3, 0, 0]]
    assert list(zip(layout.row.tolist(), layout.predictor.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 1), (2, 0)]
    assert layout.source.tolist() == [0, 1, 2, 3]
    assert layout.slot.tolist() == [0, 0, 1, 2]
