"""Diverse beams: small cases by hand, the laws of algorithms that have groups, and both families' caches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from quipwright.core.records import DiverseBeams, Sampling
from quipwright.students.base import LoRA
from quipwright.students.causal import CausalStudent
from quipwright.students.common import pad
from quipwright.students.diverse_beams import Beams, causal_beams, choose, search, seq2seq_beams
from quipwright.testing.tiny_models import CAUSAL, ROWS, SEQ2SEQ, causal_student, seq2seq_student

END, PAD, A, B = 0, 1, 2, 3


def logs(*groups: list[float]) -> Tensor:
    return torch.tensor([groups]).log()


def machine(table: dict[tuple[int, ...], list[float]], **options: Any) -> tuple[Beams, list[list[int]]]:
    """Search over a model that is a table from what was written to the next token's probabilities."""
    groups = options["groups"]
    histories: list[list[int]] = [[] for _ in range(groups)]

    def step(tokens: Tensor) -> Tensor:
        for history, token in zip(histories, tokens[:, 0].tolist(), strict=True):
            history.append(token)
        even = [0.25] * 4
        return torch.tensor([table.get(tuple(h), even) for h in histories]).log()

    searched = search(step, torch.tensor([table[()]]).log(), end=END, pad=PAD, max_tokens=4, **options)
    return searched, searched.ids[0].tolist()


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_each_group_pays_for_what_earlier_groups_took() -> None:
    row = [0.05, 0.05, 0.6, 0.3]
    running = torch.ones(1, 3, dtype=torch.bool)
    # log 0.6 - 0.5 = -1.01 still beats log 0.3 = -1.20 once, and no longer twice
    assert choose(logs(row, row, row), running, 0.5, (END, PAD)).tolist() == [[A, A, B]]
    assert choose(logs(row, row, row), running, 1.0, (END, PAD)).tolist() == [[A, B, A]]
    assert choose(logs(row, row, row), running, 0.0, (END, PAD)).tolist() == [[A, A, A]]


def test_neither_the_end_nor_the_padding_nor_finished_groups_vote() -> None:
    ends = [0.7, 0.1, 0.1, 0.1]
    running = torch.ones(1, 3, dtype=torch.bool)
    assert choose(logs(ends, ends, ends), running, 9.0, (END, PAD)).tolist() == [[END, END, END]]
    row = [0.05, 0.05, 0.6, 0.3]
    stopped = torch.tensor([[False, True, True]])
    assert choose(logs(row, row, row), stopped, 9.0, (END, PAD)).tolist()[0][1:] == [A, B]


def test_a_small_tree() -> None:
    table = {
        (): [0.1, 0.0, 0.6, 0.3],
        (A,): [0.2, 0.0, 0.5, 0.3],
        (B,): [0.8, 0.0, 0.1, 0.1],
        (A, A): [0.9, 0.0, 0.05, 0.05],
    }
    found, ids = machine(table, groups=2, penalty=1.0)
    assert ids == [[A, A, END], [B, END, PAD]]
    assert found.finished.tolist() == [[True, True]]
    expected = [math.log(0.6 * 0.5 * 0.9), math.log(0.3 * 0.8)]  # of the model as it is: no penalty in it
    assert found.total[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_group_that_never_ends_is_known_as_unfinished() -> None:
    table = {(A,) * n: [0.1, 0.0, 0.8, 0.1] for n in range(4)}
    found, ids = machine(table, groups=1, penalty=1.0)
    assert ids == [[A, A, A, A]]
    assert found.finished.tolist() == [[False]]


# --- by law ----------------------------------------------------------------------------------------------------------


def beams(student: Any, groups: int, penalty: float, limit: int = 10) -> Beams:
    """Beams of all test prompts at once, as the student would have them."""
    ids = [student.prompt_ids(row.prompt) for row in ROWS]
    end = student.tokenizer.eos_token_id
    options = {"penalty": penalty, "end": end, "max_tokens": limit}
    if isinstance(student, CausalStudent):
        tokens, mask = (side.flip(1) for side in pad([row[::-1] for row in ids]))
        return causal_beams(student.network, tokens, mask, groups, pad=end, **options)
    tokens, mask = pad(ids)
    opening = torch.tensor(student.opening)
    return seq2seq_beams(student.network, tokens, mask, opening, groups, pad=student.tokenizer.pad_token_id, **options)


STUDENTS = [*CAUSAL, *SEQ2SEQ]


def student_of(family: str) -> Any:
    return causal_student(family) if family in CAUSAL else seq2seq_student(family)


@pytest.mark.parametrize("family", STUDENTS)
def test_the_first_group_is_greedy(family: str) -> None:
    student = student_of(family)
    prompts = [row.prompt for row in ROWS]
    groups = student.generate(prompts, DiverseBeams(groups=3, penalty=1.0, max_tokens=10))
    assert [row[:1] for row in groups] == student.generate(prompts, Sampling(max_tokens=10))


@pytest.mark.parametrize("family", STUDENTS)
def test_without_penalty_all_groups_are_equal(family: str) -> None:
    groups = beams(student_of(family), 4, 0.0)
    assert all(torch.equal(groups.ids[:, 0], groups.ids[:, g]) for g in range(4))


@pytest.mark.parametrize("family", STUDENTS)
def test_with_a_huge_penalty_all_first_tokens_differ(family: str) -> None:
    student = student_of(family)
    groups = beams(student, 6, 1e4)
    for row in groups.ids[:, :, 0].tolist():
        speaking = [t for t in row if t not in (student.tokenizer.eos_token_id, student.tokenizer.pad_token_id)]
        assert len(set(speaking)) == len(speaking)


def totals(student: Any, found: Beams) -> list[list[float]]:
    """The log-probability of each beam by transformers' forward pass over it alone, without any cache."""
    end, rows = student.tokenizer.eos_token_id, []
    for row, own in zip(ROWS, found.ids, strict=True):
        rows.append([])
        for ids, finished in zip(own.tolist(), found.finished[len(rows) - 1].tolist(), strict=True):
            answer = ids[: ids.index(end) + 1] if finished else ids
            prompt = student.prompt_ids(row.prompt)
            with torch.no_grad():
                if isinstance(student, CausalStudent):
                    out = student.network(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 :]
                else:
                    given = torch.tensor([student.opening + answer])
                    out = student.network(input_ids=torch.tensor([prompt]), decoder_input_ids=given).logits[0]
                    out = out[len(student.opening) - 1 :]
            logs = out.float().log_softmax(-1)
            rows[-1].append(sum(float(logs[i, token]) for i, token in enumerate(answer)))
    return rows


@pytest.mark.parametrize("family", STUDENTS)
def test_totals_are_the_models_own_whatever_the_padding_and_the_cache(family: str) -> None:
    student = student_of(family)
    searched = beams(student, 3, 0.7)
    for got, expected in zip(searched.total.tolist(), totals(student, searched), strict=True):
        assert got == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("family", STUDENTS)
def test_a_batch_writes_what_each_prompt_alone_does(family: str) -> None:
    student, settings = student_of(family), DiverseBeams(groups=4, penalty=1.0, max_tokens=8)
    together = student.generate([row.prompt for row in ROWS], settings)
    assert together == [student.generate([row.prompt], settings)[0] for row in ROWS]


def test_adapters_are_part_of_it() -> None:
    student = causal_student(tuning=LoRA(rank=2, alpha=4))
    settings = DiverseBeams(groups=2, penalty=1.0, max_tokens=6)
    before = student.generate(["a b"], settings)
    with torch.no_grad():
        for parameter in student.trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    assert student.generate(["a b"], settings) != before


def test_where_padding_is_the_end_token_later_groups_are_not_kept_from_ending() -> None:
    # the second group ends at its second step as it would alone, although the first has been finished since then
    end = 0
    table = {(): [0.1, 0.6, 0.3], (1,): [0.9, 0.05, 0.05], (2,): [0.4, 0.3, 0.3], (2, 1): [0.6, 0.2, 0.2]}
    histories: list[list[int]] = [[], []]

    def step(tokens: Tensor) -> Tensor:
        for history, token in zip(histories, tokens[:, 0].tolist(), strict=True):
            history.append(token)
        return torch.tensor([table.get(tuple(h), [0.98, 0.01, 0.01]) for h in histories]).log()

    searched = search(step, torch.tensor([table[()]]).log(), groups=2, penalty=1.0, end=end, pad=end, max_tokens=5)
    assert searched.ids[0].tolist() == [[1, end], [2, end]]


def test_transformers_group_beam_search_is_not_called() -> None:
    from transformers import GenerationConfig

    student = causal_student()
    config = GenerationConfig(num_beams=2, num_beam_groups=2, diversity_penalty=1.0, max_new_tokens=2)
    with pytest.raises(ValueError, match="trust_remote_code"):
        student.network.generate(input_ids=torch.tensor([[3]]), generation_config=config)
    assert len(student.generate(["a"], DiverseBeams(groups=2, penalty=1.0, max_tokens=2))[0]) == 2
