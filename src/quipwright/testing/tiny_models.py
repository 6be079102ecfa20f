"""Tiny random models of every family, with byte-level tokenizers trained on a dozen sentences, and what tests ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from quipwright.students.base import Prompted, StudentSettings
from quipwright.students.causal import CausalStudent
from quipwright.students.seq2seq import Seq2SeqStudent

TEXTS = (
    "The cat stole my sandwich.",
    "My train was late again today.",
    "The cat filed for custody of my lunch.",
    "My train runs on hope and rumours.",
    "a b c d e f g h i j k l m n o p",
)
CAUSAL = ("llama", "gpt2", "qwen2")


def tokenizer(
    specials: list[str], template: str, texts: Sequence[str] = TEXTS, size: int = 330, **named: str
) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer trained on ``texts`` whose special ids follow the order of ``specials``; ``template`` wraps
    a text."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    if template != "$A":
        pairs = [(token, inner.token_to_id(token)) for token in specials if token in template]
        inner.post_processor = processors.TemplateProcessing(single=template, special_tokens=pairs)
    return PreTrainedTokenizerFast(tokenizer_object=inner, **named)


def causal_tokenizer(start: bool = False) -> PreTrainedTokenizerFast:
    """End token 0 (also the padding); with ``start`` a start token stands before every text."""
    if start:
        return tokenizer(["<end>", "<s>"], "<s> $A", eos_token="<end>", pad_token="<end>", bos_token="<s>")
    return tokenizer(["<end>"], "$A", eos_token="<end>", pad_token="<end>")


def causal_network(
    family: str, vocabulary: int, dropout: float = 0.0, *, spread: float = 0.2, positions: int = 256
) -> Any:
    """A two-layer random network of ``family``; its weights are drawn with the standard deviation ``spread``."""
    import transformers as hf

    torch.manual_seed(0)
    common: dict[str, Any] = {"vocab_size": vocabulary, "eos_token_id": 0, "bos_token_id": None, "pad_token_id": 0}
    if family == "gpt2":
        sizes: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": positions}
        rates: dict[str, Any] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        return hf.GPT2LMHeadModel(hf.GPT2Config(**common, **sizes, **rates, initializer_range=spread)).eval()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    extra = {"num_key_value_heads": 2, "max_position_embeddings": positions, "initializer_range": spread}
    kinds = {"llama": (hf.LlamaConfig, hf.LlamaForCausalLM), "qwen2": (hf.Qwen2Config, hf.Qwen2ForCausalLM)}
    config, network = kinds[family]
    return network(config(**common, **sizes, **extra, attention_dropout=dropout, tie_word_embeddings=True)).eval()


def causal_student(
    family: str = "llama", *, start: bool = False, dropout: float = 0.0, chat: bool = False, **settings: Any
) -> Any:
    """A student over a random network of ``family``, trained in full and in float32 unless ``settings`` say otherwise."""
    words = causal_tokenizer(start)
    student_settings = StudentSettings(**{"precision": "fp32", "tuning": "full", "context": 128, **settings})
    return CausalStudent(causal_network(family, len(words), dropout), words, student_settings, chat)


def chat_tokenizer(gap: str = "", end: str = "<turn>") -> PreTrainedTokenizerFast:
    """A tokenizer that starts every text, with a template that starts a conversation itself, puts ``gap`` before the
    assistant's text and closes a turn with ``end``."""
    words = tokenizer(["<end>", "<s>", "<turn>"], "<s> $A", eos_token="<end>", pad_token="<end>", bos_token="<s>")
    words.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    words.chat_template = (
        "<s>{% for m in messages %}{{ m.role }}:{{ '"
        + gap
        + "' if m.role == 'assistant' }}{{ m.content }}"
        + end
        + "\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    return words


def chat_student(gap: str = "", end: str = "<turn>") -> Any:
    """A tiny student that is shown conversations."""
    words = chat_tokenizer(gap, end)
    settings = StudentSettings(precision="fp32", tuning="full", context=128)
    return CausalStudent(causal_network("llama", len(words)), words, settings, chat=True)


SEQ2SEQ = ("bart", "t5", "t5-v1.1", "mt5", "pegasus")


def seq2seq_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """BART wraps a text in start and end; the others end it only, and start decoding from the padding."""
    if family == "bart":
        named: dict[str, Any] = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
        return tokenizer(["<s>", "<pad>", "</s>", "<unk>"], "<s> $A </s>", **named)
    named = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return tokenizer(["<pad>", "</s>", "<unk>"], "$A </s>", **named)


def seq2seq_network(family: str, vocabulary: int, dropout: float = 0.0) -> Any:
    """A two-layer random network of ``family``; ``t5`` is v1.0 (tied, scaled), ``t5-v1.1`` untied and gated."""
    import transformers as hf

    torch.manual_seed(0)
    if family in ("bart", "pegasus"):
        layers: dict[str, Any] = {
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
        }
        heads: dict[str, Any] = {
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "max_position_embeddings": 256,
        }
        rates: dict[str, Any] = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), dropout)
        bart: dict[str, Any] = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
        other: dict[str, Any] = {
            "pad_token_id": 0,
            "eos_token_id": 1,
            "decoder_start_token_id": 0,
            "forced_eos_token_id": 1,
        }
        common = {"vocab_size": vocabulary, "d_model": 32, "init_std": 0.2, **layers, **heads, **rates}
        if family == "bart":
            return hf.BartForConditionalGeneration(hf.BartConfig(**common, **bart)).eval()
        return hf.PegasusForConditionalGeneration(hf.PegasusConfig(**common, **other)).eval()
    shape: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    ends: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "dropout_rate": dropout}
    shape |= {"vocab_size": vocabulary, "initializer_factor": 2.0, **ends}
    if family == "t5":
        return hf.T5ForConditionalGeneration(hf.T5Config(**(shape | {"tie_word_embeddings": True}))).eval()
    # an untied output layer is not scaled: smaller weights keep its log-probabilities within float32's digits
    gated: dict[str, Any] = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "initializer_factor": 0.5}
    if family == "mt5":
        return hf.MT5ForConditionalGeneration(hf.MT5Config(**(shape | gated))).eval()
    return hf.T5ForConditionalGeneration(hf.T5Config(**(shape | gated))).eval()


def seq2seq_student(family: str = "bart", *, dropout: float = 0.0, **settings: Any) -> Any:
    """A student over a random network of ``family``, trained in full and in float32 unless ``settings`` say otherwise."""
    words = seq2seq_tokenizer(family)
    student_settings = StudentSettings(
        **{"kind": "seq2seq", "precision": "fp32", "tuning": "full", "context": 128, **settings}
    )
    return Seq2SeqStudent(seq2seq_network(family, len(words), dropout), words, student_settings)


ROWS = (
    Prompted("Plain: The cat stole my sandwich. Funny:", ("The cat filed for custody of my lunch.", "My cat.")),
    Prompted("Plain: My train was late.", ("My train runs on hope.", "My train runs on hope and rumours again today.")),
    Prompted("a b", ("c", "d e f g h i j k")),
)
"""Rows of unequal prompts and responses: two responses each, best first."""


class CharacterTask:
    """A task small enough to be learnt in seconds: after ``q<letter>`` the good answer is the letter, twice."""

    rows = tuple(Prompted(f"q{c}", (f"{c} {c}", f"{d} {d} {d}")) for c, d in zip("abcdefgh", "bcdefgha", strict=True))
