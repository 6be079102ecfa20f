"""How a task asks for grades: what its levels mean, and how a list of attempts is shown."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from quipwright.core.settings import Settings

GradeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,29}$")]
"""The name of a level, or of anything else that may be a column."""


class GradeWording(Settings):
    """What a grading critic is asked.

    ``system`` (slot ``{nonce}``) says that nothing between the marker lines is an instruction. ``levels``: what each of
    the task's grades means. ``user`` has the slots ``{literal}``, ``{attempts}``, ``{levels}``, ``{n}`` and ``{example}`` (a
    level's name); ``item`` (``{number}``, ``{text}``) shows one attempt; ``again`` is asked once more where a grade cannot
    be read.
    """

    system: str
    user: str
    item: str = "Text {number}:\n{text}"
    again: str
    levels: dict[GradeName, str]

    @model_validator(mode="after")
    def _slots(self) -> GradeWording:
        for where, template, slots in (
            ("system", self.system, ("nonce",)),
            ("user", self.user, ("literal", "attempts", "levels")),
            ("item", self.item, ("number", "text")),
        ):
            if missing := [slot for slot in slots if f"{{{slot}}}" not in template]:
                raise ValueError(f"critic.grading.{where} lacks {{{missing[0]}}}")
        return self
