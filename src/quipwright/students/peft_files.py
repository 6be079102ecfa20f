"""A LoRA student as PEFT writes it: ``adapter_config.json`` and ``adapter_model.safetensors``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

from quipwright.core.config_files import validate
from quipwright.core.errors import RecipeError, WeightsError
from quipwright.core.storage.files import read_object
from quipwright.students.base import LoRA, Student, StudentSettings
from quipwright.students.trained_file import restore, write_trained

ADAPTER_CONFIG, ADAPTER_FILE = "adapter_config.json", "adapter_model.safetensors"
_FACTOR = re.compile(r"\.(lora_[AB])\.default\.weight$")


def save_peft(student: Student, folder: Path, base: str) -> None:
    """Write the adapter of ``student`` to ``folder`` in bf16; ``base`` is what PEFT loads it onto: a hub id or a folder.

    Raises :class:`RecipeError` for a student that was trained in full.
    """
    if not isinstance(student.settings.tuning, LoRA):
        raise RecipeError("This student was trained in full, so it has no adapter.", "Use --to hf.")
    network: Any = student.module.network
    tensors = {_FACTOR.sub(r".\1.weight", name): value for name, value in student.trainable().items()}
    write_trained(folder / ADAPTER_FILE, {n: v.detach().to(torch.bfloat16) for n, v in tensors.items()}, student.base)
    (folder / ADAPTER_FILE).chmod(0o644)
    settings = network.peft_config["default"].to_dict()
    settings |= {"base_model_name_or_path": base, "inference_mode": True, "revision": student.settings.revision}
    settings["target_modules"] = sorted(settings["target_modules"])
    kept = {k: v for k, v in settings.items() if v is not None}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(kept, indent=2, default=str) + "\n", encoding="utf-8")


def peft_settings(folder: Path, kind: str = "causal") -> StudentSettings:
    """The settings of a student whose adapter lies in ``folder``. Raises :class:`WeightsError` for another sort of adapter."""
    config = read_object(folder / ADAPTER_CONFIG)
    if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("rank_pattern"):
        raise WeightsError(f"{folder} holds an adapter that is no plain LoRA.", "Merge it into its base model first.")
    tree = {
        "kind": kind, "weights": config.get("base_model_name_or_path"), "revision": config.get("revision"),
        "tuning": {"rank": config.get("r"), "alpha": config.get("lora_alpha")},
    }  # fmt: skip
    return validate(StudentSettings, tree, str(folder / ADAPTER_CONFIG))


def load_peft(student: Student, folder: Path) -> None:
    """Read the adapter in ``folder`` into ``student``. Raises :class:`WeightsError` where it is of another student, or was
    trained on other weights."""
    parameters = {_FACTOR.sub(r".\1.weight", name): p for name, p in student.trainable().items()}
    restore(folder / ADAPTER_FILE, parameters, student.base, student.settings.weights)
