"""Opening the student that settings name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quipwright.core.errors import RecipeError, WeightsError
from quipwright.core.paths import resolve
from quipwright.core.storage.seals import check_export
from quipwright.students.base import LoRA, Student, StudentSettings
from quipwright.students.causal import CausalStudent
from quipwright.students.common import STUDENT_FILE, WEIGHTS_FILE
from quipwright.students.merge import merge_adapter
from quipwright.students.seq2seq import Seq2SeqStudent
from quipwright.students.weights import known_sha256, weights_identity


def open_student(settings: StudentSettings, chat: bool = False, recipe_dir: Path | None = None) -> Student:
    """The student that ``settings`` name, its weights loaded; a relative folder is seen from ``recipe_dir``.

    With ``chat``, prompts and responses are turns of its chat template. Raises
    :class:`~quipwright.core.errors.RecipeError` when the weights are of the other family.
    """
    if settings.kind == "seq2seq":
        if chat:
            raise RecipeError(
                "The task wants chat, which an encoder-decoder student has no template for.",
                "Set student_chat: false in the task, or use student: {kind: causal}.",
            )
        return Seq2SeqStudent.open(settings, recipe_dir)
    return CausalStudent.open(settings, chat, recipe_dir)


def open_started(settings: StudentSettings, chat: bool = False, recipe_dir: Path | None = None) -> Student:
    """As :func:`open_student`, with the adapter that it starts from read through its seal. Raises :class:`WeightsError`
    where that is not there or does not fit."""
    student = open_student(settings, chat, recipe_dir)
    if (adapter := adapter_of(settings, recipe_dir)) is not None:
        check_export(adapter)
        student.load(adapter)
    return student


def settings_of(adapter: str, recipe_dir: Path | None = None) -> StudentSettings:
    """The settings of the student in the folder ``adapter``, which starts from what is there.

    Raises :class:`WeightsError` where the folder tells none.
    """
    folder = resolve(adapter, "Adapter", recipe_dir)
    try:
        tree = json.loads((folder / STUDENT_FILE).read_text(encoding="utf-8"))
        return StudentSettings.model_validate({**tree, "adapter": str(folder)})
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{folder / STUDENT_FILE} tells no student: {' '.join(str(error).split())[:100]}.",
            "Name a folder that quipwright export RUN FOLDER --to adapter has written.",
        ) from None


def adapter_of(settings: StudentSettings, recipe_dir: Path | None = None) -> Path | None:
    """The folder of the adapter that the student starts from."""
    return resolve(settings.adapter, "Adapter", recipe_dir) if settings.adapter else None


def student_identity(settings: StudentSettings, recipe_dir: Path | None = None) -> list[Any]:
    """What of a student that starts by ``settings`` changes a result: they, and the content of its weights and of its
    adapter. Raises :class:`WeightsError` where one of them is not there."""
    content = None
    if (adapter := adapter_of(settings, recipe_dir)) is not None:
        if not (path := adapter / WEIGHTS_FILE).is_file():
            raise WeightsError(f"Adapter {path} does not exist.", "Name the folder of an exported adapter.")
        content = known_sha256(path)
    return [settings, weights_identity(settings.weights, settings.revision, recipe_dir), content]


def open_merged(
    settings: StudentSettings, trained: Path, chat: bool = False, recipe_dir: Path | None = None
) -> Student | None:
    """A student that only writes, with the adapter in the file ``trained`` added to its weights; else as :func:`open_student`.

    ``None`` where it must be opened in full and read what was trained: another family or tuning, or an adapter that does
    not fit.
    """
    if settings.kind != "causal" or not isinstance(settings.tuning, LoRA):
        return None
    student = CausalStudent.open(settings, chat, recipe_dir, adapted=False)
    return student if merge_adapter(student.network, trained, settings.tuning, student.base) else None
