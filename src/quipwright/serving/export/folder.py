"""A trained student out of its run or export into a new folder, in the form that another tool takes, with a model card."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from quipwright.core.errors import RecipeError, RunError
from quipwright.core.paths import resolve, seen_from
from quipwright.core.storage.files import disk_errors
from quipwright.core.storage.seals import seal_export
from quipwright.serving.export.card import Form, licence, model_card
from quipwright.serving.export.gguf_files import Labels, save_gguf
from quipwright.serving.export.origin import Origin, origin_of
from quipwright.serving.export.transformers_files import save_merged, save_tokenizer
from quipwright.serving.writer import TASK_FILE, Writer
from quipwright.students.base import LoRA, Student
from quipwright.students.common import STUDENT_FILE, WEIGHTS_FILE
from quipwright.students.peft_files import save_peft
from quipwright.students.trained_file import read_trained, write_trained
from quipwright.students.weights import EMBEDDED


def export(reference: str | Path, target: Path, name: str | None, form: Form, where: str = ".") -> Path:
    """Write student ``name`` (default: the last trained) of ``reference`` to the new folder ``target``.

    ``reference``: ``shipped``, a run, an export or a hub id. ``adapter``: the trained tensors in bf16 and
    ``student.json``, which ``student.adapter`` of a recipe reads. ``hf``: merged weights and tokenizer for transformers.
    ``peft``: an adapter for peft and vLLM. ``gguf``: files for llama.cpp, Ollama and LM Studio. All hold the task and a
    card, which calls the weights ``where``. The folder appears when it is complete: an export that fails leaves
    nothing behind. Raises :class:`RunError` where ``target`` holds something, :class:`RecipeError` where the student
    does not come in that form, and :class:`~quipwright.core.errors.DiskError` where it cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RunError(f"{target} is not an empty folder.", "Name a new folder.")
    writer = Writer.load(reference, name)
    origin = origin_of(str(reference), name, writer)
    _check(writer.student, form)
    partial = target.with_name(f".{target.name}.partial")
    with disk_errors(target):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _SAVERS[form](writer, origin, partial)
            task = writer.task.model_dump(mode="json")
            (partial / TASK_FILE).write_text(json.dumps(task, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            card = model_card(origin, writer.task, form, writer.student.settings.kind, where)
            (partial / "README.md").write_text(card, encoding="utf-8")
            seal_export(partial)
            os.replace(partial, target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return target


def _check(student: Student, form: Form) -> None:
    if form == "peft" and not isinstance(student.settings.tuning, LoRA):
        raise RecipeError("This student has merged weights or was trained in full; it has no adapter.", "Use --to hf.")
    if form == "gguf" and student.settings.kind != "causal":
        raise RecipeError("An encoder-decoder student has no GGUF form here.", "Use --to hf.")


def _adapter(writer: Writer, origin: Origin, target: Path) -> None:
    writer.student.save(target)
    tensors, base = read_trained(target / WEIGHTS_FILE)
    write_trained(target / WEIGHTS_FILE, {name: value.to(torch.bfloat16) for name, value in tensors.items()}, base)
    (target / WEIGHTS_FILE).chmod(0o644)
    _student_file(writer, target)


def _merged(writer: Writer, origin: Origin, target: Path) -> None:
    save_merged(writer.student, writer.task, target, origin.base)


def _peft(writer: Writer, origin: Origin, target: Path) -> None:
    weights = writer.student.settings.weights
    save_peft(writer.student, target, origin.base or str(resolve(weights, "Weights", writer.recipe_dir).resolve()))
    save_tokenizer(writer.student, writer.task, target)
    _student_file(writer, target)


def _gguf(writer: Writer, origin: Origin, target: Path) -> None:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", writer.name).strip("-.") or "student"
    save_gguf(writer.student, writer.task, target, stem, Labels(origin.title, origin.base, licence(origin)))


def _student_file(writer: Writer, target: Path) -> None:
    """The settings; a relative folder of weights starts at ``target`` there."""
    settings = writer.student.settings.model_dump(mode="json")
    if settings["weights"] != EMBEDDED:
        settings["weights"] = seen_from(target, settings["weights"], writer.recipe_dir)
    (target / STUDENT_FILE).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


_SAVERS: dict[Form, Callable[[Writer, Origin, Path], None]] = {
    "adapter": _adapter, "hf": _merged, "peft": _peft, "gguf": _gguf,
}  # fmt: skip
