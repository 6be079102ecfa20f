"""In float32 the engine writes the very tokens of transformers' ``generate``, for every family."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from quipwright.students.diverse_beams import causal_beams, seq2seq_beams
from quipwright.students.engine import Engine
from quipwright.students.engine.beams import Beams, best_tokens
from quipwright.students.engine.fallback import Fallback
from quipwright.students.engine.pool import Prompt
from quipwright.students.engine.probe import probe
from quipwright.students.engine.shelves import Shelf
from tests.students.engine.families import END, OPENINGS, REFUSED, SERVED, fresh, generate, network, prompts

LIMIT = 18


@cache
def engine(family: str) -> Engine:
    return Engine.of(fresh(family), OPENINGS.get(family))


@pytest.mark.parametrize("family", SERVED)
def test_greedy_is_generates_whatever_the_age_of_the_neighbours(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quipwright.students.engine.engine.PLACES", {"cpu": 6})  # prompts join others under way
    asked = prompts(8)
    expected = {i: generate(family, prompt, LIMIT) for i, prompt in enumerate(asked)}
    options = {"temperature": 0.0, "top_p": 1.0, "max_tokens": LIMIT, "end": END, "seed": 0}
    assert dict(engine(family).sample(asked, k=1, **options)) == expected
    assert dict(engine(family).sample(asked, k=3, **options)) == {i: texts * 3 for i, texts in expected.items()}


@pytest.mark.parametrize("family", SERVED)
def test_beams_are_generates(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quipwright.students.engine.engine.PLACES", {"cpu": 15})
    asked = prompts(6, seed=2)
    expected = {i: generate(family, prompt, LIMIT, beams=5, n=2) for i, prompt in enumerate(asked)}
    assert dict(engine(family).beam(asked, beams=5, n=2, max_tokens=LIMIT, end=END)) == expected


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_the_best_beam_is_generates_though_its_search_ends_sooner(family: str) -> None:
    asked = prompts(8, seed=7)
    expected = {i: generate(family, prompt, LIMIT, beams=3) for i, prompt in enumerate(asked)}
    assert dict(engine(family).beam(asked, beams=3, max_tokens=LIMIT, end=END)) == expected


def test_a_search_ends_when_no_other_text_can_win() -> None:
    # the end has probability 0.9, so a text of the end alone scores -0.105; another one has at most log 0.06 / limit:
    # -0.703 within 4 tokens, but -0.070 within 40
    logits = torch.tensor([[0.06, 0.9, 0.03, 0.01]]).log()
    for limit, count, over in ((4, 1, True), (40, 1, False), (4, 2, False)):
        prompt = Prompt(0, [2])
        Beams(2, count, limit, END).begin([prompt], logits)
        assert [row.done for row in prompt.rows] == [over] * 2
        assert prompt.texts == ([[END]] if over else [])


def test_families_whose_positions_are_given_or_relative_mix_ages() -> None:
    modes = {family: engine(family).mode for family in SERVED}
    waves = {"bart", "pegasus", "marian"}
    assert modes == {family: "waves" if family in waves else "mixed" for family in SERVED}


@pytest.mark.parametrize("family", REFUSED)
def test_an_attention_of_its_own_is_refused_and_generate_answers(family: str) -> None:
    refused = engine(family)
    assert refused.mode == "generate"
    assert refused.reason
    assert refused.network.config._attn_implementation == network(family).config._attn_implementation
    asked = prompts(5)
    options = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8, "end": END, "seed": 0}
    expected = {i: generate(family, prompt, 8) for i, prompt in enumerate(asked)}
    assert dict(refused.sample(asked, k=2, **options)) == {i: texts * 2 for i, texts in expected.items()}
    expected = {i: generate(family, prompt, 8, beams=3, n=2) for i, prompt in enumerate(asked)}
    assert dict(refused.beam(asked, beams=3, n=2, max_tokens=8, end=END)) == expected


@pytest.mark.parametrize("family", ["llama", "gemma2", "t5", "bart"])
def test_diverse_beams_are_those_of_the_plain_search(family: str) -> None:
    asked, opening = prompts(6, seed=5), OPENINGS.get(family)
    options = {"penalty": 0.8, "end": END, "max_tokens": 12}
    texts = dict(engine(family).diverse(asked, groups=3, padding=0, **options))
    for number, prompt in enumerate(asked):
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids, dtype=torch.bool)
        if opening:
            beams = seq2seq_beams(network(family), ids, mask, torch.tensor(opening), 3, pad=0, **options)
        else:
            beams = causal_beams(network(family), ids, mask, 3, pad=0, **options)
        expected = [row[: row.index(END) + 1] if END in row else row for row in beams.ids[0].tolist()]
        assert texts[number] == expected


@pytest.mark.parametrize("family", ["llama", "bart"])
def test_the_fallback_draws_with_the_same_seeds(family: str) -> None:
    asked = prompts(5, seed=6)
    texts = engine(family).sample(
        asked, k=3, temperature=0.9, top_p=0.9, max_tokens=12, end=END, seed=4, first_sample=2
    )
    heard: list[tuple[int, int, list[int]]] = []
    plain = Fallback(fresh(family), OPENINGS.get(family), 6)
    fallen = plain.sample(asked, 3, 0.9, 0.9, 12, END, 4, 2, lambda i, n, ids: heard.append((i, n, list(ids))))
    expected = dict(texts)
    assert dict(fallen) == expected
    assert [ids for i, n, ids in heard if (i, n) == (3, 1)] == [
        expected[3][1][:t] for t in range(1, len(expected[3][1]) + 1)
    ]


def test_layers_that_are_no_attention_are_refused_by_their_kind() -> None:
    recurrent = fresh("gemma3")
    recurrent.config.layer_types = ["linear_attention", "full_attention"]
    finding = probe(recurrent, None)
    assert (finding.mode, finding.reason) == ("generate", "it has layers of the kinds ['linear_attention']")


def test_a_model_that_rearranges_its_keys_is_refused(tmp_path: Path) -> None:
    class Copying(Shelf):
        def _signed(self, keys: torch.Tensor) -> torch.Tensor:
            return keys.clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quipwright.students.engine.pool.Shelf", Copying)
        patch.setenv("QUIPWRIGHT_CACHE", str(tmp_path))
        finding = probe(fresh("llama"), None)
    assert finding.mode == "generate"
    assert "rearranges keys" in finding.reason


def test_the_best_tokens_of_a_great_vocabulary() -> None:
    logits = torch.randn(11, 5000, generator=torch.Generator().manual_seed(2))
    values, tokens = best_tokens(logits, 6)
    expected = logits.log_softmax(-1).topk(6)
    assert torch.equal(tokens, expected.indices)
    assert torch.equal(values, expected.values)
