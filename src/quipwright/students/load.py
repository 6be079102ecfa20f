"""Opening the student that settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quipwright.core.config_files import validate
from quipwright.core.errors import RecipeError, WeightsError
from quipwright.core.paths import resolve
from quipwright.core.storage.files import read_object
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
    load_adapter(student, settings, recipe_dir)
    return student


def load_adapter(student: Student, settings: StudentSettings, recipe_dir: Path | None = None) -> None:
    """Give ``student`` the adapter that it starts from, read through its seal, if ``settings`` name one."""
    if (adapter := adapter_of(settings, recipe_dir)) is not None:
        check_export(adapter)
        student.load(adapter)


def read_settings(folder: Path) -> StudentSettings:
    """The settings of the student in ``folder``, as an export writes them."""
    return validate(StudentSettings, read_object(folder / STUDENT_FILE), str(folder / STUDENT_FILE))


def started_in(folder: Path) -> StudentSettings:
    """The settings of a student that starts from the adapter in ``folder``.

    Raises :class:`WeightsError` where none is there.
    """
    if not (folder / STUDENT_FILE).exists():
        raise WeightsError(
            f"{folder / STUDENT_FILE} tells no student: it does not exist.",
            "Name a folder that quipwright export RUN FOLDER --to adapter has written.",
        )
    return read_settings(folder).model_copy(update={"adapter": str(folder.resolve())})


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
