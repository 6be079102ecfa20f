"""What every kind of model in a recipe has: what identifies its answers, and how it is built."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from quipwright.core.settings import Settings, identity_of
from quipwright.llm.calls import Calls
from quipwright.llm.types import ChatModel


class ModelSettings(Settings):
    """Base of all model settings. ``record``: name of a file in the run's recordings that collects the answers.

    ``in_process``: the answers come from this process, computed here or given before; they cost no money. ``whole``: the
    model answers nothing before it was asked everything (a provider's batch, an exchange of files).
    """

    in_process: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    kind: str

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What of these settings changes an answer."""

    def content(self, recipe_dir: Path | None) -> str:
        """The hash of the files that its answers come from, of which :meth:`identity` knows the names only; "" where
        there are none. Relative paths start at ``recipe_dir``."""
        return ""

    def read_by(self, recipe_dir: Path | None) -> Any:
        """What answers in the end, as JSON: the content of its files, or its identity where it has none."""
        return self.content(recipe_dir) or identity_of(self)

    @abstractmethod
    def build(self, calls: Calls) -> ChatModel:
        """The model, asking and storing through ``calls``."""

    @property
    def at_once(self) -> int:
        """How many requests to put to the model together, so that it never waits for the next one."""
        return 1
