"""Merged weights as GGUF files for llama.cpp, Ollama and LM Studio, written with the package ``gguf``.

Llama and Qwen2 with a byte-level tokenizer are written here. llama.cpp's own converter takes a transformers folder of any
other family.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from quipwright.core.errors import RecipeError
from quipwright.data.task import Task
from quipwright.serving.prompt_template import chat_template, go_template
from quipwright.serving.writer import MAX_TOKENS
from quipwright.students.base import Student

Precision = Literal["f16", "Q8_0"]
PRECISIONS: tuple[Precision, ...] = ("f16", "Q8_0")
_CONVERTER = "Use --to hf, and llama.cpp's convert_hf_to_gguf.py on that folder."
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {_WORDS % "": "qwen2", _WORDS % "{1,3}": "llama-bpe"}
"""llama.cpp's names of the patterns by which a text is cut before its bytes are paired."""
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5


@dataclass(frozen=True)
class Labels:
    """What a GGUF file says of itself beside its weights."""

    name: str
    base: str | None = None
    license: str | None = None


def save_gguf(student: Student, task: Task, folder: Path, stem: str, labels: Labels) -> list[Path]:
    """Write ``student`` to ``folder`` as ``STEM-f16.gguf`` and ``STEM-Q8_0.gguf`` with a ``Modelfile`` for Ollama.

    Raises :class:`RecipeError` for a family or tokenizer that is not written here.
    """
    network: Any = student.merged()
    vocabulary = _vocabulary(student, network.config.vocab_size)
    template = chat_template(task, student.tokenizer)
    paths = []
    for precision in PRECISIONS:
        paths.append(folder / f"{stem}-{precision}.gguf")
        writer = _writer(network.config, paths[-1], precision, labels)
        _add_tokenizer(writer, student, vocabulary, template)
        for name, tensor, kind in _tensors(network, precision):
            writer.add_tensor(name, tensor, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    (folder / "Modelfile").write_text(modelfile(task, student.tokenizer, paths[-1].name), encoding="utf-8")
    return paths


def modelfile(task: Task, tokenizer: Any, file: str) -> str:
    """The Modelfile with which Ollama shows ``file`` the prompt of ``task`` and nothing else."""
    prompt = go_template(task, tokenizer)
    return (
        f'FROM ./{file}\nTEMPLATE """{prompt}"""\nPARAMETER temperature 0\nPARAMETER repeat_penalty 1\n'
        f"PARAMETER num_predict {MAX_TOKENS}\n"
    )


def _writer(config: Any, path: Path, precision: Precision, labels: Labels) -> Any:
    """A writer with the sizes of the network."""
    import gguf

    rope = getattr(config, "rope_parameters", None) or {}
    if config.model_type not in ("llama", "qwen2") or rope.get("rope_type", "default") != "default":
        raise RecipeError(f"Students of the family {config.model_type} are not written as GGUF here.", _CONVERTER)
    if getattr(config, "use_sliding_window", False):
        raise RecipeError("A student with a sliding window is not written as GGUF here.", _CONVERTER)
    writer = gguf.GGUFWriter(path, config.model_type)
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(labels.name)
    if labels.license is not None:
        writer.add_license(labels.license)
    if labels.base is not None:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, labels.base.rpartition("/")[2])
        writer.add_base_model_repo_url(0, f"https://huggingface.co/{labels.base}")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads or heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    writer.add_vocab_size(config.vocab_size)
    kinds = gguf.LlamaFileType
    writer.add_file_type(kinds.MOSTLY_F16 if precision == "f16" else kinds.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    return writer


def _vocabulary(student: Student, size: int) -> tuple[str, list[str], list[int], list[str]]:
    """The pattern's name, the tokens by id, their kinds, and the merges. The network may have room for more tokens."""
    tokenizer: Any = student.tokenizer
    tree = json.loads(tokenizer.backend_tokenizer.to_str())
    pattern = split_name(tree.get("pre_tokenizer"))
    if tree["model"]["type"] != "BPE" or pattern is None or tree["model"].get("byte_fallback"):
        raise RecipeError("This student's tokenizer is not written as GGUF here.", _CONVERTER)
    tokens = [f"[PAD{number}]" for number in range(size)]
    kinds = [_UNUSED] * size
    for token, number in tokenizer.get_vocab().items():
        tokens[number], kinds[number] = token, _NORMAL
    for number, added in tokenizer.added_tokens_decoder.items():
        tokens[number], kinds[number] = added.content, _CONTROL if added.special else _USER_DEFINED
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tree["model"]["merges"]]
    return pattern, tokens, kinds, merges


def split_name(tree: Any) -> str | None:
    """llama.cpp's name for the pre-tokenizer ``tree`` of a ``tokenizer.json``; ``None`` for one that is not known."""
    steps = tree["pretokenizers"] if tree and tree["type"] == "Sequence" else [tree] if tree else []
    shape = [step["type"] for step in steps]
    if not shape or shape[-1] != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return None
    if shape == ["ByteLevel"]:
        return "gpt-2" if steps[0].get("use_regex", True) else None
    if shape == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and steps[1].get("use_regex", True):
        return "smollm"
    if shape == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        return _SPLITS.get(steps[0]["pattern"].get("Regex", ""))
    return None


def _add_tokenizer(
    writer: Any, student: Student, vocabulary: tuple[str, list[str], list[int], list[str]], template: str
) -> None:
    tokenizer: Any = student.tokenizer
    pattern, tokens, kinds, merges = vocabulary
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pattern)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    format_of: Any = student
    writer.add_eos_token_id(format_of.prompt_format.end)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    first = next(iter(tokenizer("a").input_ids), None)
    writer.add_add_bos_token(first is not None and first == tokenizer.bos_token_id)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(template)


def _tensors(network: Any, precision: Precision) -> Iterator[tuple[str, np.ndarray[Any, Any], Any]]:
    """Each tensor under llama.cpp's name with its type. Vectors stay float32, as llama.cpp wants them."""
    import gguf

    config = network.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[config.model_type.upper()], config.num_hidden_layers)
    tied = config.tie_word_embeddings
    for name, value in network.state_dict().items():
        if tied and name == "lm_head.weight":  # llama.cpp takes the embeddings where there is no output matrix
            continue
        short = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if short is None:
            raise RecipeError(f"The student's tensor {name} has no place in a GGUF file.", _CONVERTER)
        array = _turned(name, value.float(), config).numpy()
        if array.ndim == 1:
            kind = gguf.GGMLQuantizationType.F32
        elif precision == "Q8_0" and array.shape[-1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
        else:
            kind = gguf.GGMLQuantizationType.F16
        yield short, gguf.quants.quantize(array, kind), kind


def _turned(name: str, value: torch.Tensor, config: Any) -> torch.Tensor:
    """Queries and keys of Llama with the halves of a rotation side by side, as llama.cpp rotates them."""
    part = name.rsplit(".", 2)[-2]
    if config.model_type != "llama" or part not in ("q_proj", "k_proj"):
        return value
    heads = config.num_attention_heads if part == "q_proj" else config.num_key_value_heads
    return value.view(heads, 2, -1, *value.shape[1:]).transpose(1, 2).reshape(value.shape)
