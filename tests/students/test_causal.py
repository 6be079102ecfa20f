"""The packed, shared-prompt pass says what one unpadded text at a time would; padding and dropout change nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quipwright.core.errors import DataError, RecipeError, WeightsError
from quipwright.core.records import Sampling
from quipwright.students.base import DecodingMode, Generated, LoRA, Prompted, StudentSettings
from quipwright.students.batches import LogProbs, RankedBatch
from quipwright.students.causal import CausalStudent
from quipwright.students.common import read_generated
from quipwright.students.engine.probe import Finding
from quipwright.students.load import open_student
from quipwright.students.packing import pack
from quipwright.testing.tiny_models import CAUSAL, ROWS, causal_network, causal_student, causal_tokenizer, chat_student
from quipwright.training.objectives import DPO


def one_by_one(student: CausalStudent, prompt: str, response: str) -> tuple[float, int]:
    """Summed log-probability and token count by transformers' own forward pass over one unpadded text."""
    before, answer = student.prompt_ids(prompt), student.response_ids(response)
    with torch.no_grad():
        logits = student.network(input_ids=torch.tensor([before + answer])).logits[0].float().log_softmax(-1)
    return sum(float(logits[len(before) - 1 + i, token]) for i, token in enumerate(answer)), len(answer)


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("start", [False, True])
def test_packed_equals_one_by_one(family: str, start: bool) -> None:
    student = causal_student(family, start=start)
    with torch.no_grad():
        scored = student.logprobs(student.collate(ROWS))
    for i, row in enumerate(ROWS):
        for j, response in enumerate(row.responses):
            total, tokens = one_by_one(student, row.prompt, response)
            assert scored.total[i, j].item() == pytest.approx(total, abs=1e-4)
            assert scored.tokens[i, j].item() == tokens


def test_the_end_token_is_scored_and_the_prompt_is_not() -> None:
    student = causal_student()
    batch = student.collate(ROWS[:1])
    assert batch.response[0, 0, batch.mask[0, 0]][-1] == student.tokenizer.eos_token_id
    assert batch.mask[0, 0].sum() == len(student.response_ids(ROWS[0].responses[0]))


def padded(batch: RankedBatch, prompt: int, response: int, fill: int) -> RankedBatch:
    pad = torch.nn.functional.pad
    return replace(
        batch,
        prompt=pad(batch.prompt, (0, prompt), value=fill),
        prompt_mask=pad(batch.prompt_mask, (0, prompt), value=False),
        response=pad(batch.response, (0, response), value=fill),
        mask=pad(batch.mask, (0, response), value=False),
    )


@pytest.mark.parametrize("family", CAUSAL)
def test_padding_never_changes_a_log_prob(family: str) -> None:
    student = causal_student(family)
    batch = student.collate(ROWS)
    with torch.no_grad():
        plain = student.logprobs(batch).total
        more = student.logprobs(padded(batch, 5, 7, fill=9)).total
        alone = torch.cat([student.logprobs(student.collate([row])).total for row in ROWS])
    torch.testing.assert_close(more, plain, atol=1e-4, rtol=0)
    torch.testing.assert_close(alone, plain, atol=1e-4, rtol=0)


def test_a_response_does_not_see_its_neighbours() -> None:
    student = causal_student()
    swapped = Prompted(ROWS[0].prompt, (ROWS[0].responses[0], "Something else entirely, and longer than before."))
    with torch.no_grad():
        here, there = (student.logprobs(student.collate([row])).total[0, 0] for row in (ROWS[0], swapped))
    assert here.item() == pytest.approx(there.item(), abs=1e-5)


def test_rows_of_unequal_k_leave_absent_columns_at_zero() -> None:
    student = causal_student()
    scored = student.logprobs(student.collate([ROWS[0], Prompted("a b", ("c",)), Prompted("a", ("b", "c", "d"))]))
    assert scored.total.shape == (3, 3)
    assert scored.tokens[0, 2] == scored.tokens[1, 1] == scored.tokens[1, 2] == 0
    assert scored.total[0, 2] == scored.total[1, 1] == scored.total[1, 2] == 0


def test_uniform_is_the_vocabulary_mean_that_smoothing_needs() -> None:
    student = causal_student()
    row = ROWS[2]
    before, answer = student.prompt_ids(row.prompt), student.response_ids(row.responses[1])
    with torch.no_grad():
        logits = student.network(input_ids=torch.tensor([before + answer])).logits[0, len(before) - 1 : -1]
        scored = student.logprobs(student.collate([row]), uniform=True)
    assert scored.uniform[0, 1].item() == pytest.approx(logits.log_softmax(-1).mean(-1).sum().item(), abs=1e-4)


def test_packing_lays_a_row_out_without_gaps() -> None:
    batch = RankedBatch(
        torch.tensor([[5, 6, 0]]),
        torch.tensor([[True, True, False]]),
        torch.tensor([[[7, 8, 0], [9, 0, 0]]]),
        torch.tensor([[[True, True, False], [True, False, False]]]),
        torch.tensor([[0, 1]]),
    )
    packed = pack(batch)
    assert packed.ids.tolist() == [[5, 6, 7, 8, 9]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 2]]
    assert packed.predictor.tolist() == [1, 2]
    assert packed.source.tolist() == [0, 1, 0]
    assert packed.target.tolist() == [7, 8, 9]
    assert packed.slot.tolist() == [0, 0, 1]
    assert packed.mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("tuning", ["full", LoRA(rank=2, alpha=4)])
def test_a_policy_equal_to_its_reference_has_a_dpo_loss_of_ln_2_in_train_mode(family: str, tuning: LoRA | str) -> None:
    student = causal_student(family, tuning=tuning)
    student.module.train()
    batch = student.collate(ROWS)
    policy = student.logprobs(batch)
    student.module.eval()
    with torch.no_grad():
        reference = student.logprobs(batch)
    loss = DPO()(policy, LogProbs(reference.total, reference.tokens), batch.rank)
    assert loss.tolist() == pytest.approx([math.log(2)] * 3, abs=1e-5)


def test_encoder_decoders_are_refused() -> None:
    from transformers import BartConfig, BartForConditionalGeneration

    shape = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    network = BartForConditionalGeneration(BartConfig(vocab_size=300, d_model=8, **shape, **heads))
    with pytest.raises(RecipeError, match="kind: seq2seq"):
        CausalStudent(network, causal_tokenizer(), StudentSettings(tuning="full"))


def test_encoder_decoders_are_refused_before_their_weights_are_read(tmp_path: Path) -> None:
    from transformers import BartConfig

    BartConfig(vocab_size=300, d_model=8).save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="encoder-decoder"):
        CausalStudent.open(StudentSettings(weights=str(tmp_path)))


def test_a_tokenizer_without_an_end_is_refused() -> None:
    words = causal_tokenizer()
    words.eos_token = None
    with pytest.raises(WeightsError, match="no end token"):
        CausalStudent(causal_network("llama", len(words)), words, StudentSettings(tuning="full"))


def test_a_row_that_outgrows_the_context_is_refused_with_its_length() -> None:
    student = causal_student(context=16)
    with pytest.raises(DataError, match=r"take \d+ tokens; the context is 16"):
        student.collate(ROWS)
    with pytest.raises(DataError, match=r"16"):
        student.generate([ROWS[0].prompt], Sampling(max_tokens=8))


@pytest.mark.parametrize("tuning", ["full", LoRA(rank=2, alpha=4)])
def test_samples_follow_the_seed(tuning: LoRA | str) -> None:
    student = causal_student(tuning=tuning)
    prompts = [row.prompt for row in ROWS]

    def draw(seed: int) -> list[list[str]]:
        texts = student.generate(prompts, Sampling(temperature=1.0, max_tokens=8, seed=seed), k=3)
        return [[g.text for g in row] for row in texts]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert [len(row) for row in draw(3)] == [3, 3, 3]


def test_a_sample_depends_on_its_number_and_not_on_how_many_there_are() -> None:
    student, prompts = causal_student(), [row.prompt for row in ROWS]
    three = student.generate(prompts, Sampling(temperature=1.0, max_tokens=8, seed=1), k=3)
    later = student.generate(prompts[::-1], Sampling(temperature=1.0, max_tokens=8, seed=1, index=1), k=2)
    assert later[::-1] == [row[1:] for row in three]


def test_a_student_that_writes_by_generate_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("quipwright.students.engine.engine.probe", lambda *_: Finding("generate", "its layers are odd"))
    for _ in range(2):
        student = causal_student()
        assert student.decoding == DecodingMode("generate", "its layers are odd")
    assert capsys.readouterr().err.count("its layers are odd") == 1
    assert len(student.generate(["a b"], Sampling(max_tokens=3))[0]) == 1


# --- chat ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", ["", " "])
def test_a_chat_student_speaks_its_template(gap: str) -> None:
    student = chat_student(gap)
    words, prompt, text = student.tokenizer, ROWS[1].prompt, ROWS[1].responses[0]
    asked = [{"role": "user", "content": prompt}]
    opening = words.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    whole = words.apply_chat_template([*asked, {"role": "assistant", "content": text}], return_dict=False)
    assert student.prompt_ids(prompt) == opening
    answer = student.response_ids(text)
    assert whole[: len(opening) + len(answer)] == opening + answer
    assert answer[-1] == words.convert_tokens_to_ids("<turn>") != words.eos_token_id
    with torch.no_grad():
        scored = student.logprobs(student.collate(ROWS[1:2]))
    assert scored.total[0, 0].item() == pytest.approx(one_by_one(student, prompt, text)[0], abs=1e-4)


def test_a_chat_student_stops_at_its_templates_end() -> None:
    student = chat_student()
    ids = [*student.response_ids("My cat."), *student.response_ids("and more")]
    assert read_generated(student.tokenizer, ids, student.prompt_format.end) == Generated("My cat.", False)
    with torch.no_grad():
        student.network.get_output_embeddings().weight[student.prompt_format.end] *= 50
    assert any(not g.truncated for row in student.generate(list("abcdef"), Sampling(max_tokens=30)) for g in row)


def test_chat_needs_a_template_that_ends_its_turns() -> None:
    with pytest.raises(WeightsError, match="has no chat template"):
        causal_student(chat=True)
    with pytest.raises(WeightsError, match="closes a turn with '!!'"):
        chat_student(end="!!")
    with pytest.raises(RecipeError, match="student_chat: false"):
        open_student(StudentSettings(kind="seq2seq"), chat=True)


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("beams", [1, 3])
def test_left_padding_does_not_change_what_is_decoded(family: str, beams: int) -> None:
    student = causal_student(family)
    settings = Sampling(beams=beams, max_tokens=10)
    together = student.generate([row.prompt for row in ROWS], settings)
    alone = [student.generate([row.prompt], settings)[0] for row in ROWS]
    assert together == alone


def test_generation_uses_the_weights_as_they_are_now() -> None:
    student = causal_student()
    before = student.generate(["a b"], Sampling(max_tokens=6))
    with torch.no_grad():
        for parameter in student.trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.5)
    assert student.generate(["a b"], Sampling(max_tokens=6)) != before


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tuning", [LoRA(rank=2, alpha=4), "full"])
def test_a_student_that_gave_up_training_writes_the_same_with_one_copy(tuning: LoRA | str, precision: str) -> None:
    student = causal_student(tuning=tuning, precision=precision)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in student.trainable().values():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    sampling = Sampling(beams=3, max_tokens=12)
    before = student.generate(["one", "two words"], sampling)
    merged = {name: value.clone() for name, value in student.merged().state_dict().items()}
    student.settle()
    assert student.generate(["one", "two words"], sampling) == before
    assert not [name for name, _ in student.network.named_modules() if "lora" in name]
    kept = student.network.state_dict()
    assert kept.keys() == merged.keys()
    assert all(torch.equal(kept[name].to(value.dtype), value) for name, value in merged.items())


@pytest.mark.parametrize("tuning", ["full", LoRA(rank=2, alpha=4)])
def test_saved_weights_come_back(tuning: LoRA | str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    student = causal_student(tuning=tuning)
    with torch.no_grad():
        for parameter in student.trainable().values():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
        expected = student.logprobs(student.collate(ROWS)).total
    student.save(tmp_path / "s")
    other = causal_student(tuning=tuning)
    with torch.no_grad():
        assert not torch.allclose(other.logprobs(other.collate(ROWS)).total, expected)
        other.load(tmp_path / "s")
        torch.testing.assert_close(other.logprobs(other.collate(ROWS)).total, expected)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    causal_student(tuning=LoRA(rank=2, alpha=4)).save(tmp_path / "s")
    with pytest.raises(WeightsError, match="does not fit its settings"):
        causal_student(tuning=LoRA(rank=4, alpha=4)).load(tmp_path / "s")
    with pytest.raises(WeightsError, match="does not exist"):
        causal_student().load(tmp_path)
