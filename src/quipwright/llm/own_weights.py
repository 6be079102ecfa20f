"""What the engines that load weights into this process share: which weights, how they are stored, how they are asked."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from quipwright.llm.calls import Calls
from quipwright.llm.in_process import Backend, InProcessModel
from quipwright.llm.model_settings import ModelSettings
from quipwright.llm.recorder import recorded
from quipwright.llm.types import ChatModel
from quipwright.students.weights import folder_content


class OwnWeights(ModelSettings):
    """Base of weights that run in this process.

    ``weights``: a folder or a hub name. ``batch`` bounds the rows that are handed over at once; ``context`` the tokens
    of a prompt and its answer.
    """

    in_process: ClassVar[bool] = True
    weights: str
    revision: str | None = None
    precision: Literal["bf16", "fp32"] = "bf16"
    batch: int = Field(16, ge=1)
    context: int = Field(2048, ge=64)
    record: str | None = None

    @abstractmethod
    def backend(self, recipe_dir: Path | None) -> Backend:
        """The loaded model, a relative folder seen from ``recipe_dir``.

        Raises :class:`~quipwright.core.errors.WeightsError` when it cannot be had.
        """

    def identity(self) -> dict[str, Any]:
        """What of these settings changes an answer."""
        return {"kind": self.kind, "weights": self.weights, "revision": self.revision, "precision": self.precision}

    def content(self, recipe_dir: Path | None) -> str:
        """The content of the weights' folder."""
        return folder_content(self.weights, recipe_dir)

    @property
    def at_once(self) -> int:
        """A full batch."""
        return self.batch

    def build(self, calls: Calls) -> ChatModel:
        """The model, storing through ``calls``; the weights are loaded when something is asked that is not stored."""
        identity = self.identity() | {"content": self.content(calls.base)}
        model = InProcessModel(self.weights, identity, lambda: self.backend(calls.base), calls)
        return recorded(model, self.record, calls)
