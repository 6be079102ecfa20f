"""Merged weights and tokenizer as a folder that transformers 4.50 to 5 loads without code of ours.

Version 5 writes some facts under new names only. Here they stand under both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quipwright.data.task import Task
from quipwright.serving.prompt_template import chat_template
from quipwright.serving.writer import BEAMS, MAX_TOKENS
from quipwright.students.base import Student
from quipwright.students.weights import quiet

_LOCAL = ("backend", "is_local", "local_files_only", "name_or_path", "chat_template")
"""Entries of a tokenizer's config that say how it was loaded here, or that are written anew."""


def save_merged(student: Student, task: Task, folder: Path, base: str | None) -> None:
    """Write ``student`` to ``folder``: weights (safetensors), config, generation config, tokenizer and, for a decoder-only
    student, the chat template of ``task``. ``base``: the hub id that the config names, if there is one."""
    network = student.merged()
    network.generation_config = generation_config(student)
    with quiet():
        network.save_pretrained(folder)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # made for the user alone; an export is for others, too
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _write_json(folder / "config.json", both_names(config) | ({"_name_or_path": base} if base else {}))
    save_tokenizer(student, task, folder)


def save_tokenizer(student: Student, task: Task, folder: Path) -> None:
    """Write the tokenizer: as a plain fast tokenizer, which every version knows, where its whole self is in one file."""
    student.tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = {k: v for k, v in json.loads(path.read_text(encoding="utf-8")).items() if k not in _LOCAL}
    if (folder / "tokenizer.json").exists():
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        config["model_input_names"] = ["input_ids", "attention_mask"]  # in 4 this class would add token types
    if isinstance(extra := config.get("extra_special_tokens"), list):  # a list under this name is new in 5
        config["additional_special_tokens"] = extra
        del config["extra_special_tokens"]
    if student.settings.kind == "causal":
        config["chat_template"] = chat_template(task, student.tokenizer)
        (folder / "chat_template.jinja").write_text(config["chat_template"], encoding="utf-8")
    _write_json(path, config)


def generation_config(student: Student) -> Any:
    """How ``write`` writes one text, for transformers' ``generate``: beams, a limit, the token that ends a text."""
    from transformers import GenerationConfig

    network: Any = student.module.network
    end = student.prompt_format.end if hasattr(student, "prompt_format") else student.tokenizer.eos_token_id
    padding = student.tokenizer.pad_token_id
    return GenerationConfig(
        do_sample=False, num_beams=BEAMS, max_new_tokens=MAX_TOKENS, eos_token_id=end,
        bos_token_id=student.tokenizer.bos_token_id, pad_token_id=end if padding is None else padding,
        decoder_start_token_id=getattr(network.config, "decoder_start_token_id", None),
    )  # fmt: skip


def both_names(config: dict[str, Any]) -> dict[str, Any]:
    """``config`` with rotary settings and precision under their names in transformers 4 as well as 5, and without a path."""
    config = {k: v for k, v in config.items() if k != "_name_or_path"}
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        config["rope_theta"] = rope["rope_theta"]
        scaling = {k: v for k, v in rope.items() if k != "rope_theta"}
        if scaling.get("rope_type", "default") != "default":
            config["rope_scaling"] = scaling
    if "dtype" in config:
        config["torch_dtype"] = config["dtype"]
    return config


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
