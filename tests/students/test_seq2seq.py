"""Encoder-decoders: one encoder pass a row that never sees the answer, labels shifted once, starts that do not count."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from quipwright.core.errors import DataError, RecipeError, WeightsError
from quipwright.core.records import Sampling
from quipwright.students.base import LoRA, Prompted, Student, StudentSettings
from quipwright.students.causal import CausalStudent
from quipwright.students.load import open_student
from quipwright.students.scoring import score_rows
from quipwright.students.seq2seq import Seq2SeqStudent
from quipwright.testing.objectives import OBJECTIVES, learns
from quipwright.testing.tiny_models import (
    ROWS,
    SEQ2SEQ,
    causal_network,
    causal_student,
    causal_tokenizer,
    seq2seq_network,
    seq2seq_student,
    seq2seq_tokenizer,
)
from quipwright.training.loop import train
from quipwright.training.objectives import DPO
from quipwright.training.settings import TrainSettings


def one_by_one(student: Seq2SeqStudent, prompt: str, response: str) -> tuple[float, int]:
    """Summed log-probability and token count by transformers' own ``labels=`` pass over one unpadded pair."""
    source = torch.tensor([student.tokenizer(prompt).input_ids])
    labels = torch.tensor([student.tokenizer(text_target=response).input_ids])
    with torch.no_grad():
        logs = student.network(input_ids=source, labels=labels).logits.float().log_softmax(-1)
    token = logs.gather(-1, labels[..., None])[0, :, 0]
    scored = token[len(student.prefix) :]
    return float(scored.sum()), len(scored)


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_batched_equals_one_by_one(family: str) -> None:
    student = seq2seq_student(family)
    with torch.no_grad():
        scored = student.logprobs(student.collate(ROWS))
    for i, row in enumerate(ROWS):
        for j, response in enumerate(row.responses):
            total, tokens = one_by_one(student, row.prompt, response)
            assert scored.total[i, j].item() == pytest.approx(total, abs=1e-4)
            assert scored.tokens[i, j].item() == tokens


def test_the_constant_start_of_bart_counts_neither_in_score_nor_in_length() -> None:
    student = seq2seq_student("bart")
    assert student.prefix == [0]
    assert student.opening == [2, 0]
    ids = student.response_ids("My cat.")
    assert ids[0] != 0
    assert ids[-1] == 2
    assert student.collate(ROWS[:1]).mask[0, 1].sum() == len(ids)
    assert seq2seq_student("t5").prefix == seq2seq_student("pegasus").prefix == []


@pytest.mark.parametrize("language", ["en_XX", "de_DE"])
def test_the_language_code_of_mbart50_is_given_to_the_decoder_and_not_scored(language: str) -> None:
    from transformers import MBart50Tokenizer, MBartConfig, MBartForConditionalGeneration

    letters = [*"▁catmyok.", *map(chr, range(0x4E00, 0x4E00 + 300))]
    pieces = [(piece, 0.0) for piece in ("<unk>", "<s>", "</s>", *letters)]
    words = MBart50Tokenizer(vocab=pieces, src_lang="en_XX", tgt_lang=language)
    torch.manual_seed(0)
    network = MBartForConditionalGeneration(
        MBartConfig(
            vocab_size=len(words), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, decoder_start_token_id=2,
            forced_eos_token_id=None,
        )
    ).eval()  # fmt: skip
    how = StudentSettings(kind="seq2seq", precision="fp32", tuning="full", context=64)
    student = Seq2SeqStudent(network, words, how)
    code = words.convert_tokens_to_ids(language)
    assert student.opening == [2, code]
    assert code not in student.response_ids("my cat.")
    row = Prompted("a cat.", ("my cat.",))
    labels = torch.tensor([[code, *student.response_ids("my cat.")]])
    with torch.no_grad():
        logs = network(
            input_ids=torch.tensor([words("a cat.").input_ids]),
            decoder_input_ids=torch.tensor([student.opening + labels[0, 1:-1].tolist()]),
        ).logits.log_softmax(-1)
        expected = logs[0, 1:].gather(-1, labels[0, 1:, None]).sum()
        assert student.logprobs(student.collate([row])).total.item() == pytest.approx(expected.item(), abs=1e-4)
    ((made,),) = student.generate(["a cat."], Sampling(beams=1, temperature=0.0, max_tokens=6))
    assert language not in made.text


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_a_double_shift_would_show(family: str) -> None:
    student = seq2seq_student(family)
    batch = student.collate(ROWS[:1])
    logits = student.module.logits(batch.prompt, batch.prompt_mask, batch.response[0], torch.tensor([0, 0]))
    logs = logits.log_softmax(-1)[0, :-1].gather(-1, batch.response[0, 0, 1:, None])[..., 0]
    twice = logs[batch.mask[0, 0, 1:]].sum().item()
    assert abs(twice - student.logprobs(batch).total[0, 0].item()) > 0.1


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_the_encoder_runs_once_a_row_and_never_sees_the_answer(family: str) -> None:
    student = seq2seq_student(family)
    seen: list[torch.Tensor] = []

    def record(module: Any, args: Any, named: dict[str, Any]) -> None:
        seen.append(named["input_ids"])

    student.network.get_encoder().register_forward_pre_hook(record, with_kwargs=True)
    batch = student.collate(ROWS)
    student.logprobs(batch)
    assert len(seen) == 1
    assert torch.equal(seen[0], batch.prompt)


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_padding_never_changes_a_log_prob(family: str) -> None:
    student = seq2seq_student(family)
    batch, pad = student.collate(ROWS), torch.nn.functional.pad
    more = replace(
        batch,
        prompt=pad(batch.prompt, (0, 5), value=9),
        prompt_mask=pad(batch.prompt_mask, (0, 5), value=False),
        response=pad(batch.response, (0, 7), value=9),
        mask=pad(batch.mask, (0, 7), value=False),
    )
    with torch.no_grad():
        plain, wider = student.logprobs(batch), student.logprobs(more, uniform=True)
        even = student.logprobs(batch, uniform=True).uniform
    torch.testing.assert_close(wider.total, plain.total, atol=1e-4, rtol=0)
    torch.testing.assert_close(wider.uniform, even, atol=1e-3, rtol=0)
    assert torch.equal(wider.tokens, plain.tokens)


def test_rows_of_unequal_k_leave_absent_columns_at_zero() -> None:
    student = seq2seq_student("t5")
    rows = [ROWS[0], replace(ROWS[2], responses=("c",))]
    scored = student.logprobs(student.collate(rows))
    assert scored.total[1, 1] == scored.tokens[1, 1] == 0
    assert scored.total[1, 0].item() == pytest.approx(one_by_one(student, "a b", "c")[0], abs=1e-4)


@pytest.mark.parametrize("tuning", ["full", LoRA(rank=2, alpha=4, dropout=0.3)])
@pytest.mark.parametrize("family", SEQ2SEQ)
def test_dropout_is_really_off_the_first_dpo_loss_is_ln_2(family: str, tuning: LoRA | str, tmp_path: Path) -> None:
    student = seq2seq_student(family, dropout=0.3, tuning=tuning)
    reference = score_rows(student, ROWS, 2)
    settings = TrainSettings(epochs=1, batch_size=3, micro_batch_size=2, lr=1e-3, warmup_ratio=0)
    log = train(student, ROWS, DPO(), settings, tmp_path, seed=1, reference=reference)
    assert log.steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.parametrize(
    ("family", "name"),
    [*product(["bart"], OBJECTIVES), *product(["t5-v1.1"], ["mle", "mle-smoothed", "dpo", "simpo", "brio"])],
)
def test_loss_falls_and_the_order_becomes_right(family: str, name: str, tmp_path: Path) -> None:
    learns(seq2seq_student(family), OBJECTIVES[name], 50, tmp_path)


def greedy(student: Seq2SeqStudent, prompt: str, limit: int) -> str:
    """The most likely token after another, by the same logits that are trained."""
    source = torch.tensor([student.prompt_ids(prompt)])
    found: list[int] = []
    while len(found) < limit and (not found or found[-1] != student.tokenizer.eos_token_id):
        ids = torch.tensor([[*found, 0]])
        with torch.no_grad():
            logits = student.module.logits(source, torch.ones_like(source, dtype=torch.bool), ids, torch.tensor([0]))
        found.append(int(logits[0, -1].argmax()))
    return str(student.tokenizer.decode(found, skip_special_tokens=True)).strip().split("\n")[0].strip()


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_what_is_generated_is_what_is_scored(family: str) -> None:
    student = seq2seq_student(family)
    for row in ROWS:
        assert student.generate([row.prompt], Sampling(max_tokens=9))[0][0].text == greedy(student, row.prompt, 9)


@pytest.mark.parametrize("family", SEQ2SEQ)
@pytest.mark.parametrize("beams", [1, 5])
def test_padding_does_not_change_what_is_decoded(family: str, beams: int) -> None:
    student = seq2seq_student(family)
    settings = Sampling(beams=beams, max_tokens=8)
    together = student.generate([row.prompt for row in ROWS], settings)
    assert together == [student.generate([row.prompt], settings)[0] for row in ROWS]


def test_samples_follow_the_seed() -> None:
    student = seq2seq_student("bart")

    def draw(seed: int) -> list[list[str]]:
        texts = student.generate([r.prompt for r in ROWS], Sampling(temperature=1.0, max_tokens=8, seed=seed), k=3)
        return [[g.text for g in row] for row in texts]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@pytest.mark.parametrize("family", ["bart", "pegasus"])
def test_an_end_forced_at_the_limit_by_the_config_does_not_hide_a_truncation(family: str) -> None:
    words = seq2seq_tokenizer(family)
    network = seq2seq_network(family, len(words))
    network.generation_config.forced_eos_token_id = words.eos_token_id
    network.generation_config.num_beams = 4
    with torch.no_grad():
        network.final_logits_bias[0, words.eos_token_id] = -100  # it would never end by itself
    student = Seq2SeqStudent(network, words, StudentSettings(kind="seq2seq", tuning="full", precision="fp32"))
    assert all(g.truncated for row in student.generate(["a b", "c"], Sampling(max_tokens=3)) for g in row)


@pytest.mark.parametrize("tuning", ["full", LoRA(rank=2, alpha=4)])
@pytest.mark.parametrize("family", ["bart", "t5", "t5-v1.1"])
def test_saved_weights_come_back(family: str, tuning: LoRA | str, tmp_path: Path) -> None:
    student = seq2seq_student(family, tuning=tuning)
    with torch.no_grad():
        for parameter in student.trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.1)
        expected = student.logprobs(student.collate(ROWS)).total
    student.save(tmp_path / "s")
    other = seq2seq_student(family, tuning=tuning)
    with torch.no_grad():
        assert not torch.allclose(other.logprobs(other.collate(ROWS)).total, expected)
        other.load(tmp_path / "s")
        torch.testing.assert_close(other.logprobs(other.collate(ROWS)).total, expected)
    assert other.generate(["a"], Sampling(max_tokens=4)) == student.generate(["a"], Sampling(max_tokens=4))


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_opened_from_a_folder_it_is_the_same_student(family: str, tmp_path: Path) -> None:
    student = seq2seq_student(family)
    student.network.save_pretrained(tmp_path)
    student.tokenizer.save_pretrained(tmp_path)
    settings = StudentSettings(kind="seq2seq", weights=str(tmp_path), precision="fp32", tuning="full")
    opened = open_student(settings)
    assert isinstance(opened, Student)
    with torch.no_grad():
        expected = student.logprobs(student.collate(ROWS)).total
        torch.testing.assert_close(opened.logprobs(opened.collate(ROWS)).total, expected, atol=1e-4, rtol=0)
    with pytest.raises(RecipeError, match="encoder-decoder"):
        open_student(settings.model_copy(update={"kind": "causal"}))


def test_a_decoder_only_model_is_refused(tmp_path: Path) -> None:
    words = causal_tokenizer()
    network = causal_network("llama", len(words))
    with pytest.raises(RecipeError, match="kind: causal"):
        Seq2SeqStudent(network, words, StudentSettings(kind="seq2seq", tuning="full"))
    network.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="decoder-only"):
        open_student(StudentSettings(kind="seq2seq", weights=str(tmp_path)))
    assert isinstance(open_student(StudentSettings(weights=str(tmp_path))), CausalStudent)


def test_what_cannot_be_scored_is_refused() -> None:
    words = causal_tokenizer()  # adds no end token to a target
    words.eos_token = "<end>"
    with pytest.raises(WeightsError, match="close a target"):
        Seq2SeqStudent(seq2seq_network("t5", 300), words, StudentSettings(kind="seq2seq", tuning="full"))
    with pytest.raises(DataError, match="the context is 16"):
        seq2seq_student("t5", context=16).collate(ROWS)
    with pytest.raises(DataError, match="context of 16"):
        seq2seq_student("t5", context=16).generate(["a"], Sampling(max_tokens=16))
    assert causal_student().settings.kind == "causal"
