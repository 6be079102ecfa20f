"""The recording format: one JSON line an answer, so that a colleague can run again without the model.

``{"kind": "completion" | "choice", "model": …, "request": …, "reply": …}``; lines of kind ``score`` hold a text,
what stood before it and its log-probability, those of kind ``capabilities`` what the model could do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any

from quipwright.core.errors import DataError
from quipwright.core.paths import inside
from quipwright.core.records import content_hash
from quipwright.core.storage.files import AppendOnly, disk_errors
from quipwright.core.text_files import read_text
from quipwright.llm.calls import Calls
from quipwright.llm.types import (
    Capabilities,
    ChatModel,
    Choice,
    Completion,
    Failure,
    Request,
    Score,
    Scorer,
    reply_of,
)

FOLDER = "recordings"


def recorded(model: ChatModel, name: str | None, calls: Calls) -> ChatModel:
    """``model`` as it is, or with every answer also written to the run's recording ``name``."""
    if name is None:
        return model
    return Recorder(model, inside(inside(calls.folder, FOLDER, "the folder"), name, "the recording"))


def line_key(kind: str, asked: Any) -> str:
    """What a recorded line is found by: its kind and what was asked, whoever answered."""
    return content_hash(kind, asked)


class Recorder:
    """Writes down what the model behind it answers; a question already in the file is not written again."""

    def __init__(self, model: ChatModel, path: Path) -> None:
        """``path`` is made with its folder, or added to. Raises :class:`DataError` when it is no recording."""
        self.name = model.name
        self._model = model
        self._path = path
        self._lock = Lock()
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        AppendOnly(path).close()  # cuts off what a kill left behind the last whole line
        self._written = {key for key, _ in read_lines(path)} if path.stat().st_size else set()

    @property
    def capabilities(self) -> Capabilities:
        """As the model behind it; written down, because it shapes what is asked."""
        capabilities = self._model.capabilities
        self._write([("capabilities", None, capabilities.model_dump(mode="json"))])
        return capabilities

    def complete_many(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        """As the model behind it."""
        answers = self._model.complete_many(requests)
        self._write_answers("completion", requests, answers)
        return answers

    def choose_many(self, requests: Sequence[Request]) -> list[Choice | Failure]:
        """As the model behind it."""
        answers = self._model.choose_many(requests)
        self._write_answers("choice", requests, answers)
        return answers

    def score_many(self, texts: Sequence[tuple[str, str]]) -> list[Score | Failure]:
        """As the model behind it; failures where that is no :class:`Scorer`."""
        if not isinstance(self._model, Scorer):
            return [Failure(f"{self.name} cannot score a text")] * len(texts)
        scores = self._model.score_many(texts)
        pairs = zip(texts, scores, strict=True)
        self._write([("score", list(t), [s.nats, s.tokens]) for t, s in pairs if isinstance(s, Score)])
        return scores

    def _write_answers(self, kind: str, requests: Sequence[Request], answers: Sequence[Any]) -> None:
        pairs = zip(requests, answers, strict=True)
        self._write([(kind, r.content(), reply_of(a)) for r, a in pairs if not isinstance(a, Failure)])

    def _write(self, items: Sequence[tuple[str, Any, Any]]) -> None:
        with self._lock:
            lines = {}
            for kind, asked, reply in items:
                if (key := line_key(kind, asked)) not in self._written:
                    entry = {"kind": kind, "model": self.name, "request": asked, "reply": reply}
                    lines[key] = json.dumps(entry)
            if lines:
                with closing(AppendOnly(self._path)) as file:
                    file.append(list(lines.values()))
                self._written |= lines.keys()


def read_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Key and content of every line; a last line torn by a kill is left out (its answer is in the store of calls).

    Raises :class:`DataError` when the file is missing, not UTF-8 or no recording.
    """
    lines = read_text(path, "recording").split("\n")
    entries = []
    for number, line in enumerate(lines):
        try:
            entry = json.loads(line) if line.strip() else None
            if entry is not None:
                entries.append((line_key(entry["kind"], entry["request"]), entry))
        except (ValueError, KeyError, TypeError):
            if number < len(lines) - 1:
                raise DataError(
                    f"recording {path}: line {number + 1} is not a recorded answer.",
                    "Name a file made with the record option, or a new one to record to.",
                ) from None
    return entries
