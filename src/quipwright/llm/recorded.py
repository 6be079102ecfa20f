"""A model that is a file of answers: any run again without the model that gave them, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from quipwright.core.paths import resolve
from quipwright.core.storage.files import file_sha256
from quipwright.llm.calls import Calls
from quipwright.llm.model_settings import ModelSettings
from quipwright.llm.recorder import line_key, read_lines
from quipwright.llm.thinking import without_thinking
from quipwright.llm.types import (
    Capabilities,
    Choice,
    Completion,
    Failure,
    Request,
    Score,
    choice_of,
    completion_of,
)


class Recorded(ModelSettings):
    """Answers from ``path``, a recording (see :mod:`quipwright.llm.recorder`); relative to the recipe."""

    in_process: ClassVar[bool] = True
    kind: Literal["recorded"] = "recorded"
    path: str

    def identity(self) -> dict[str, Any]:
        """What of these settings changes an answer."""
        return {"kind": self.kind, "path": self.path}

    def content(self, recipe_dir: Path | None) -> str:
        """The content of the recording; "" where there is none, which :meth:`build` tells."""
        path = resolve(self.path, "recording", recipe_dir)
        return file_sha256(path)[:16] if path.is_file() else ""

    def build(self, calls: Calls) -> RecordedModel:
        """The model. Raises :class:`DataError` when the file is missing or no recording."""
        path = resolve(self.path, "recording", calls.base)
        lines = dict(read_lines(path))
        return RecordedModel(f"recorded:{path.name}:{file_sha256(path)[:8]}", lines)


class RecordedModel:
    """Recorded answers (see the ``ChatModel`` and ``Scorer`` protocols)."""

    def __init__(self, name: str, lines: dict[str, dict[str, Any]]) -> None:
        """``lines`` by their key; the recorded model's own name counts where the lines hold one."""
        self.name = next((line["model"] for line in lines.values() if line.get("model")), name)
        self._lines = lines

    @property
    def capabilities(self) -> Capabilities:
        """What the recorded model could do; without such a line, nothing special."""
        line = self._lines.get(line_key("capabilities", None))
        return Capabilities.model_validate(line["reply"]) if line else Capabilities()

    def complete_many(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        """Recorded replies; a question that was not recorded is a failure."""
        return [self._find("completion", request, _completion) for request in requests]

    def choose_many(self, requests: Sequence[Request]) -> list[Choice | Failure]:
        """Recorded choices; a question that was not recorded is a failure."""
        return [self._find("choice", request, choice_of) for request in requests]

    def score_many(self, texts: Sequence[tuple[str, str]]) -> list[Score | Failure]:
        """Recorded scores; a text that was not recorded is a failure."""
        lines = [self._lines.get(line_key("score", list(pair))) for pair in texts]
        return [
            Failure(f"not in the recording: {pair[1][:60]!r}") if line is None else Score(*line["reply"])
            for pair, line in zip(texts, lines, strict=True)
        ]

    def _find(self, kind: str, request: Request, read: Any) -> Any:
        key = line_key(kind, request.content())
        line = self._lines.get(key)
        if line is None:
            return Failure(f"not in the recording: {request.messages[-1].content[:60]!r}", call_id=key)
        return read(line["reply"], key)


def _completion(reply: dict[str, Any], call_id: str) -> Completion:
    return without_thinking(completion_of(reply, call_id))
