"""Opening the student that settings name."""

from __future__ import annotations

from pathlib import Path

from quipwright.core.errors import RecipeError
from quipwright.students.base import LoRA, Student, StudentSettings
from quipwright.students.causal import CausalStudent
from quipwright.students.merge import merge_adapter
from quipwright.students.seq2seq import Seq2SeqStudent


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
