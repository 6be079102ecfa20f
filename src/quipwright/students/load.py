"""Opening the student that settings name."""

from __future__ import annotations

from pathlib import Path

from quipwright.core.errors import RecipeError
from quipwright.students.base import Student, StudentSettings
from quipwright.students.causal import CausalStudent
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
