"""What a server serves: a student with its task, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quipwright.critics.base import Grader
from quipwright.data.care.judgment import sensitive_kinds
from quipwright.data.task import Task
from quipwright.students.base import Student


@dataclass
class Served:
    """What is served. ``model`` is its name to clients, who ask for a style as ``model:style``; ``teacher`` knows what was
    recorded for a literal in a style, if anything.

    ``grades_teacher``: whether the critic knows such texts; if not, the page shows them without its view.
    ``patience``: seconds after which a request that has no answer is given up. ``allow_sensitive``: sensitive sentences
    are written on too; else they are given back as they came.
    """

    student: Student
    task: Task
    model: str
    critic: Grader | None = None
    grades_teacher: bool = True
    teacher: Callable[[str, str], Sequence[str]] = lambda literal, style: ()
    waiting: int = 64
    patience: float = 120.0
    allow_sensitive: bool = False

    async def sensitive(self, literal: str) -> str:
        """What makes ``literal`` one that must not be joked about; "" where nothing does, or all are allowed."""
        if self.allow_sensitive or self.task.allow_sensitive:
            return ""
        return (await asyncio.to_thread(sensitive_kinds, [literal]))[0]

    @property
    def styles(self) -> dict[str, str]:
        """The style that each name of the model stands for: the default one for the bare name."""
        named = {f"{self.model}:{style}": style for style in self.task.styles}
        return {self.model: self.task.style_named(), **named}
