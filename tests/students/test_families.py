"""Every family is scored and sampled as its own forward pass says, or refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from quipwright.core.errors import WeightsError
from quipwright.core.records import Sampling
from quipwright.students.base import LoRA, Prompted, StudentSettings
from quipwright.students.causal import CausalStudent, say_cost
from quipwright.students.families import (
    Family,
    causal_family,
    causal_names,
    default_config,
    seq2seq_family,
    seq2seq_names,
    small_causal,
    small_seq2seq,
    table,
)
from quipwright.students.policy import CausalPolicy, ScoringPath
from quipwright.students.probe import (
    LONG,
    SHORT,
    find_path,
    find_seq2seq_path,
    own_logs,
    probe_batch,
    scoring_path,
    seq2seq_path,
)
from quipwright.students.seq2seq_policy import Seq2SeqPolicy, start_token
from quipwright.students.shrink import WINDOW, shrunken, vocabulary, windows
from quipwright.testing.tiny_models import ROWS, causal_network, causal_student, causal_tokenizer, seq2seq_network

DOCUMENT = Path(__file__).parents[2] / "docs" / "model-families.md"
PACKED = ("llama", "gpt2", "qwen2", "granite", "cohere", "phi3")
WINDOWED = ("gemma3_text", "mistral")
UNPACKED = ("lfm2", "jamba", "qwen3_next", "bart", "bloom")
REPRESENTATIVE = (*PACKED, *WINDOWED, *UNPACKED)
SEQ2SEQ = ("bart", "t5", "fsmt", "switch_transformers", "t5gemma")


def written(names: set[str]) -> set[str]:
    """The rows of the document about ``names``."""
    return {
        line
        for line in DOCUMENT.read_text().splitlines()
        if line.split("|")[1:2] and line.split("|")[1].strip() in names
    }


def totals(network: Any, batch: Any) -> torch.Tensor:
    """Summed log-probabilities of the responses of ``batch`` by the model's own forward pass, with a graph."""
    rows, k, _ = batch.response.shape
    sums = torch.zeros(rows, k)
    for row in range(rows):
        prompt = batch.prompt[row, batch.prompt_mask[row]]
        for column in range(k):
            response = batch.response[row, column, batch.mask[row, column]]
            if len(response):
                ids = torch.cat([prompt, response])[None]
                logs = network(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
                sums[row, column] = logs.gather(-1, response[:, None]).sum()
    return sums


def holds(name: str) -> str:
    """Fails unless the causal family ``name`` scores and trains as its forward pass does; how it is scored."""
    try:
        network = small_causal(name)
    except Exception as error:  # the table says "not built"
        return type(error).__name__
    try:
        path = find_path(network, windows(default_config(name)))
    except WeightsError as error:
        return "refused" if "cannot be students" in error.problem else error.problem
    policy = CausalPolicy(network, False, path)
    for batch in (probe_batch(SHORT, alike=True), probe_batch(SHORT), probe_batch(LONG)):
        small = ScoringPath(path.packed, path.head, WINDOW if path.longest else None)
        policy.path = small
        torch.testing.assert_close(policy(batch).total, totals(network, batch), atol=5e-3, rtol=1e-4)
    parameters = [p for p in network.parameters() if p.requires_grad]
    weights = torch.linspace(-1, 1, batch.mask.any(-1).sum().item())
    present = batch.mask.any(-1)
    mine = torch.autograd.grad((policy(batch).total[present] * weights).sum(), parameters, allow_unused=True)
    expected = torch.autograd.grad((totals(network, batch)[present] * weights).sum(), parameters, allow_unused=True)
    for a, b in zip(mine, expected, strict=True):
        if b is not None and a is not None:
            assert float((a - b).abs().max()) <= 1e-2 * max(1.0, float(b.abs().max())), name
    return "packed" if path.packed else "unpacked"


@pytest.mark.parametrize("name", PACKED)
def test_plain_attention_is_packed_and_right(name: str) -> None:
    assert holds(name) == "packed"


@pytest.mark.parametrize("name", WINDOWED)
def test_a_sliding_window_is_packed_only_within_it(name: str) -> None:
    config = default_config(name)
    assert find_path(small_causal(name), windows(config)).longest == min(windows(config)) == 4096
    assert holds(name) == "packed"


@pytest.mark.parametrize("name", UNPACKED)
def test_layers_that_mix_neighbours_are_unpacked_and_right(name: str) -> None:
    assert holds(name) == "unpacked"


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in causal_names() if n not in REPRESENTATIVE])
def test_every_causal_family_is_right_or_refused(name: str) -> None:
    scored = causal_family(name).scored
    kind = holds(name)
    assert scored.startswith(kind) or (scored == "not built" and kind not in ("packed", "unpacked", "refused"))


@pytest.mark.parametrize("name", [*SEQ2SEQ, "prophetnet"])
def test_encoder_decoders_are_right_or_refused(name: str) -> None:
    assert holds_seq2seq(name) == ("refused" if name == "prophetnet" else "right")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in seq2seq_names() if n not in (*SEQ2SEQ, "vibevoice_asr")])
def test_every_family_of_encoder_decoders_is_right_or_refused(name: str) -> None:
    scored, kind = seq2seq_family(name).scored, holds_seq2seq(name)
    right = {"right": ("packed", "unpacked"), "refused": ("refused",)}.get(kind, ("not built",))
    assert scored in right, kind


def holds_seq2seq(name: str) -> str:
    """Fails unless the family ``name`` scores as its forward pass does, or is refused."""
    try:
        network = small_seq2seq(name)
    except Exception as error:  # the table says "not built"
        return type(error).__name__
    try:
        path = find_seq2seq_path(network)
    except WeightsError as error:
        return "refused" if "cannot be students" in error.problem else error.problem
    batch, start = probe_batch(LONG), start_token(network)
    assert start is not None
    with torch.no_grad():
        scored = Seq2SeqPolicy(network, [start], False, path)(batch).total
        for row in range(len(batch.prompt)):
            for column in range(batch.response.shape[1]):
                response = batch.response[row, column, batch.mask[row, column]]
                if not len(response):
                    continue
                prompt = batch.prompt[row, batch.prompt_mask[row]][None]
                ids = torch.cat([torch.tensor([start]), response[:-1]])[None]
                logs = network(input_ids=prompt, decoder_input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
                expected = logs.gather(-1, response[:, None]).sum()
                torch.testing.assert_close(scored[row, column], expected, atol=5e-3, rtol=1e-4)
    return "right"


def test_the_document_says_what_is_found() -> None:
    families = [causal_family(name) for name in ("llama", "lfm2", "mistral", "cohere", "xlm-roberta")]
    rows = list(table(families))[2:]
    assert set(rows) <= written({family.name for family in families})
    families = [seq2seq_family(name) for name in ("fsmt", "t5", "prophetnet")]
    assert set(list(table(families))[2:]) <= written({family.name for family in families})
    assert Family("x", "packed") != Family("x", "refused")


# --- what a student does with it -------------------------------------------------------------------------------------


def student(name: str, **settings: Any) -> CausalStudent:
    """A student over a small network of type ``name``."""
    words = causal_tokenizer()
    config = default_config(name)
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    small = shrunken(config)
    small.vocab_size, small.eos_token_id, small.pad_token_id, small.bos_token_id = len(words), 0, 0, None
    network = AutoModelForCausalLM.from_config(small, attn_implementation="sdpa").eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.25)
    changed = {"precision": "fp32", "tuning": "full", "context": 200, **settings}
    return CausalStudent(network, words, StudentSettings(**changed))


@pytest.mark.parametrize("name", ["granite", "lfm2", "mistral", "bart"])
@pytest.mark.parametrize("tuning", ["full", LoRA(rank=2, alpha=4)])
def test_a_student_says_what_one_text_at_a_time_would_say(name: str, tuning: LoRA | str) -> None:
    opened = student(name, tuning=tuning)
    batch = opened.collate(ROWS)
    with torch.no_grad():
        torch.testing.assert_close(opened.logprobs(batch).total, totals(opened.network, batch), atol=5e-3, rtol=1e-4)


@pytest.mark.parametrize("name", ["lfm2", "bart"])
def test_padding_does_not_change_what_is_decoded(name: str) -> None:
    opened = student(name)
    prompts = [row.prompt for row in ROWS]
    settings = Sampling(max_tokens=6)
    assert opened.generate(prompts, settings) == [opened.generate([prompt], settings)[0] for prompt in prompts]


def test_the_cost_of_scoring_unpacked_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    say_cost.cache_clear()
    student("lfm2")
    student("lfm2")
    assert capsys.readouterr().err.count("which takes longer: packed, log-probabilities differ by") == 1
    causal_student()
    assert "takes longer" not in capsys.readouterr().err


def test_a_family_that_cannot_be_scored_is_refused_in_one_line() -> None:
    words = causal_tokenizer()
    with pytest.raises(WeightsError, match=r"type xlm-roberta cannot be students: its generation .* forward pass\."):
        student("xlm-roberta")
    assert len(words) > 0


def test_a_leak_between_responses_would_show() -> None:
    network = small_causal("lfm2")
    batch = probe_batch(SHORT)
    logs = own_logs(network, batch)
    policy = CausalPolicy(network, False, ScoringPath())
    with torch.no_grad():
        wrong = (policy(batch).total - totals(network, batch)).abs().max()
    assert float(wrong) > 0.1
    assert logs.isfinite().all()


@pytest.mark.parametrize("tokens", [95, 40, 5, 2])
def test_a_vocabulary_smaller_than_the_small_copy_s_is_scored(tokens: int) -> None:
    assert scoring_path(causal_network("llama", tokens)).packed
    config = causal_network("gpt2", tokens).config
    assert (vocabulary(config), shrunken(config).vocab_size) == (tokens, tokens)
    ids = probe_batch(LONG, tokens)
    assert int(max(ids.prompt.max(), ids.response.max())) < tokens


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_an_encoder_decoder_of_few_tokens_is_scored(family: str) -> None:
    assert seq2seq_path(seq2seq_network(family, 40)).shared
    config = default_config("fsmt")
    config.src_vocab_size, config.tgt_vocab_size = 60, 50
    assert (vocabulary(config), vocabulary(default_config("fsmt"))) == (50, 96)


def test_shrinking_keeps_one_layer_of_each_kind_and_the_scales() -> None:
    config = default_config("gemma3_text")
    small = shrunken(config)
    assert set(small.layer_types) == set(config.layer_types)
    assert small.hidden_size < config.hidden_size
    assert small.sliding_window == WINDOW
    assert shrunken(default_config("granite")).logits_scaling == 8.0


def test_opening_a_student_leaves_torchs_random_stream_alone() -> None:
    words, network = causal_tokenizer(), causal_network("llama", 330)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    CausalStudent(network, words, StudentSettings(tuning="full", precision="fp32", context=77))
    assert torch.equal(torch.rand(3), expected)


def test_a_long_text_in_a_windowed_family_is_scored_alone() -> None:
    path = ScoringPath(longest=12)
    assert path.layout(probe_batch(SHORT)).mask.ndim == 4
    assert path.layout(probe_batch(LONG)).mask.ndim == 2
    assert Prompted("a", ("b",)).ranks == ()
