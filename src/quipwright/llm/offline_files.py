"""Questions out, answers in, as files: for provider batches, for any outside tool, and for people.

A question is a line of the OpenAI batch format. An answer is a line of its output format, or simply
``{"custom_id": …, "text": …}``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from quipwright.core.errors import ModelError
from quipwright.core.paths import resolve
from quipwright.core.storage.files import write_atomic
from quipwright.core.text_files import lines, read_text
from quipwright.llm.call_rows import Failed, Stored
from quipwright.llm.calls import Asked, Calls
from quipwright.llm.chat_model import RemoteModel
from quipwright.llm.http_outcome import Answered, Outcome, judge_payload, parse
from quipwright.llm.model_settings import ModelSettings
from quipwright.llm.openai_api import ChatWire, clean
from quipwright.llm.recorder import recorded
from quipwright.llm.types import Capabilities, ChatModel, Completion, Request, reply_of

FOLDER = "batches"
ENDPOINT = "/v1/chat/completions"


class Files(ModelSettings):
    """A model somewhere else, reached by files: the run writes its questions and stops until ``answers`` holds them.

    ``answers``: JSONL file, relative to the recipe; it may grow from run to run. ``capabilities``: what the answers
    carry (state log-probabilities only if the outside tool gives them).
    """

    whole: ClassVar[bool] = True
    kind: Literal["files"] = "files"
    model: str = Field(min_length=1)
    answers: str
    revision: str | None = None
    extra: dict[str, Any] = Field(default_factory=dict)
    capabilities: Capabilities = Capabilities()
    record: str | None = None

    def identity(self) -> dict[str, Any]:
        """What of these settings changes an answer."""
        return {"kind": self.kind, "model": self.model, "revision": self.revision, "extra": self.extra}

    @property
    def at_once(self) -> int:
        """All there are."""
        return sys.maxsize

    def build(self, calls: Calls) -> ChatModel:
        """The model; it raises :class:`ModelError` naming the questions' file as long as answers are missing."""
        wire = ChatWire(self.model, None, "max_tokens", self.extra)
        path = resolve(self.answers, "answers", calls.base)

        def send(missing: list[Asked], prefill: str) -> Mapping[str, Stored | Failed]:
            return _exchange(self.model, wire, calls, path, missing, prefill)

        return recorded(
            RemoteModel(self.model, self.identity(), calls, send, lambda: self.capabilities), self.record, calls
        )


def _exchange(
    model: str, wire: ChatWire, calls: Calls, path: Path, missing: Sequence[Asked], prefill: str
) -> Mapping[str, Stored | Failed]:
    answers = read_answers(read_text(path, "answers"), wire) if path.exists() else Answers({}, ())
    outcomes = answers.outcomes
    rows = [settle(model, calls, key, r, outcomes[key]) for key, r in missing if key in outcomes]
    done = calls.keep(row for row in rows if row is not None)
    waiting = [(key, request) for key, request in missing if key not in done]
    if waiting:
        questions = calls.folder / FOLDER / "questions.jsonl"
        questions.parent.mkdir(exist_ok=True)
        write_atomic(questions, "".join(question_line(key, wire.body(r, prefill)) + "\n" for key, r in waiting))
        complaint = answers.complaint("that file")
        raise ModelError(
            f"{len(waiting)} questions for {model} wait in {questions}; {len(done)} answers were read from {path}"
            f"{'; ' + complaint if complaint else ''}.",
            "Have them answered, add the answers to that file and run the same command again.",
        )
    return done


def question_line(key: str, body: Mapping[str, Any]) -> str:
    """One line of a batch input file."""
    return json.dumps({"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body})


@dataclass(frozen=True)
class Answers:
    """What became of each custom id, and the numbers of the lines that could not be read."""

    outcomes: dict[str, Outcome]
    unreadable: tuple[int, ...]

    def complaint(self, where: str) -> str:
        """For people: how many lines of ``where`` were no answers; empty where all were."""
        if not self.unreadable:
            return ""
        return f"{len(self.unreadable)} lines of {where} are no answers, the first is line {self.unreadable[0]}"


def read_answers(text: str, wire: ChatWire) -> Answers:
    """The answers in an output or error file."""
    outcomes: dict[str, Outcome] = {}
    unreadable = []
    for number, line in lines(text):
        try:
            entry = parse(line)
            key = str(entry["custom_id"])
            outcome = _outcome(entry, wire)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            unreadable.append(number)
            continue
        if key not in outcomes or outcomes[key].answer is None:  # an answer counts more than an error beside it
            outcomes[key] = outcome
    return Answers(outcomes, tuple(unreadable))


def settle(model: str, calls: Calls, key: str, request: Request | None, outcome: Outcome) -> Stored | Failed | None:
    """The row to store for ``outcome``, or ``None`` where it should be asked for again. ``request`` is ``None`` where
    an earlier recipe asked."""
    if outcome.answer is not None:
        asked = request.content() if request else {"custom_id": key}
        tokens = outcome.answer.tokens_in, outcome.answer.tokens_out
        cost = calls.cost(model, *tokens)
        charged = calls.bound(model, request) if request and cost is None else None
        return Stored(key, model, asked, outcome.answer.reply, *tokens, cost, charged or 0.0)
    return Failed(key, model, outcome.reason, outcome.status, 1) if outcome.permanent else None


def _outcome(entry: Mapping[str, Any], wire: ChatWire) -> Outcome:
    if isinstance(entry.get("text"), str):
        return Outcome(Answered(reply_of(Completion(clean(entry["text"]))), None, None))
    response, error = entry.get("response") or {}, entry.get("error") or {}
    status = response.get("status_code")
    if status == 200:
        return judge_payload(response["body"], wire)
    reason = error.get("message") or error.get("code") or f"status {status}"
    permanent = status is not None and 400 <= status < 500 and status not in (408, 409, 429)
    return Outcome(reason=f"batch: {str(reason)[:160]}", status=status, permanent=permanent)
