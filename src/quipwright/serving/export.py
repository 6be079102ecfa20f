"""A trained student out of its run: the adapter alone (megabytes), or a Hugging Face folder any tool loads."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file

from quipwright.core.errors import RunError
from quipwright.core.storage.files import disk_errors
from quipwright.data.run_summary import read_run
from quipwright.serving.model_card import base_model, model_card
from quipwright.serving.writer import STUDENT_FILE, TASK_FILE, Writer
from quipwright.students.base import Student
from quipwright.students.common import WEIGHTS_FILE

Form = Literal["adapter", "hf"]


def export(run: Path, target: Path, name: str | None, form: Form) -> Path:
    """Write student ``name`` of ``run`` (default: the last trained) to the new folder ``target``, with a model card.

    ``adapter``: the trained tensors in bf16 and ``student.json``, which ``student.adapter`` of a recipe reads.
    ``hf``: merged weights and tokenizer, for transformers' ``from_pretrained``. Both hold the task. The folder appears
    when it is complete: an export that fails leaves nothing behind. Raises :class:`RunError` where ``target`` holds
    something, and :class:`~quipwright.core.errors.DiskError` where it cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RunError(f"{target} is not an empty folder.", "Name a new folder.")
    summary = read_run(run)
    writer = Writer.of_run(run, name)
    chosen = name or list(summary.checkpoints)[-1]
    partial = target.with_name(f".{target.name}.partial")
    with disk_errors(target):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            if form == "adapter":
                _adapter(writer.student, partial)
            else:
                _merged(writer.student, partial)
            task = writer.task.model_dump(mode="json")
            (partial / TASK_FILE).write_text(json.dumps(task, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            (partial / "README.md").write_text(model_card(summary, chosen, writer.task, form), encoding="utf-8")
            os.replace(partial, target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return target


def _adapter(student: Student, target: Path) -> None:
    student.save(target)
    tensors = {key: value.to(torch.bfloat16) for key, value in load_file(target / WEIGHTS_FILE).items()}
    save_file(tensors, target / WEIGHTS_FILE)
    (target / WEIGHTS_FILE).chmod(0o644)
    settings = student.settings.model_dump(mode="json")
    (target / STUDENT_FILE).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _merged(student: Student, target: Path) -> None:
    student.merged().save_pretrained(target)
    student.tokenizer.save_pretrained(target)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    if config.pop("_name_or_path", None) is not None and (base := base_model(student.settings.weights)):
        config["_name_or_path"] = base
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
