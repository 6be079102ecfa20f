"""The teacher: plain sentences in, paraphrases out, and a count of everything that did not become one.

A large model is asked for a numbered list (Ravi et al. 2024 sec. 3.1), each place of it in the style that the task gives
it. Inputs it refuses are discarded, as in the
paper; copies, over-long texts and the like are dropped with their reason; an answer without a list is asked for once
more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field

from quipwright.core.records import Example, Record, Response, Sampling, Status
from quipwright.core.settings import Settings
from quipwright.core.text import degenerate, is_copy, normalise
from quipwright.data.list_parser import Listed, parse_list
from quipwright.data.task import Task, fill
from quipwright.llm.calls import Calls
from quipwright.llm.config import ModelConfig
from quipwright.llm.types import ChatModel, Completion, Failure, Message, Request

_OUTCOMES = {Status.UNANSWERED: "failed", Status.REFUSED: "refused", Status.UNPARSED: "unparsed"}


class ModelTeacher(Settings):
    """A large model as the teacher. ``n``: paraphrases a literal, the task's number where unset."""

    kind: Literal["model"] = "model"
    model: ModelConfig
    n: int | None = Field(None, ge=1, le=50)
    seed: int = 0

    def build(self, calls: Calls, task: Task) -> Teacher:
        """The teacher, asking through ``calls``."""
        return Teacher(self.model.build(calls), task, self.n, self.seed)


class Yield(Record):
    """What became of the examples put to a teacher: ``asked`` = ``answered`` + ``refused`` + ``unparsed`` + ``failed``.

    ``reasons``: why questions were not answered, and why answers hold nothing, where that is known.
    ``items`` were read from the answered ones' lists; ``kept`` of them are usable, the others ``dropped`` by status.
    """

    asked: int = 0
    answered: int = 0
    refused: int = 0
    unparsed: int = 0
    failed: int = 0
    items: int = 0
    kept: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    reasons: dict[str, int] = Field(default_factory=dict)

    @classmethod
    def of(cls, asked: int, rows: Iterable[Response]) -> Self:
        """The yield of ``asked`` examples by all that :func:`teach` made of them, whenever that was."""
        outcomes: dict[str, str] = {}
        reasons: Counter[str] = Counter()
        items: Counter[str] = Counter()
        for row in rows:
            outcomes[row.example_id] = outcome = _OUTCOMES.get(row.status, "answered")
            if outcome == "answered":
                items[row.status.value] += 1
            elif row.detail and row.status is not Status.REFUSED:
                reasons[row.detail] += 1
        counts = Counter(outcomes.values())
        total, kept = items.total(), items.pop(Status.OK.value, 0)
        return cls(asked=asked, items=total, kept=kept, dropped=dict(items), reasons=dict(reasons), **counts)

    def line(self) -> str:
        """One line for people."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items())) or "none"
        why = f"; {self.why}" if self.reasons else ""
        return (
            f"asked {self.asked}, answered {self.answered}, refused {self.refused}, unreadable {self.unparsed}, "
            f"failed {self.failed}; {self.items} paraphrases read, {self.kept} kept, dropped: {reasons}{why}"
        )

    @property
    def why(self) -> str:
        """The commonest reason why there is nothing to read; empty where none is known."""
        if not self.reasons:
            return ""
        reason, count = max(self.reasons.items(), key=lambda item: item[1])
        return f"why, most often: {reason} ({count})"


@dataclass(frozen=True)
class Taught:
    """What a teacher gave for ``asked`` examples, in their order. ``drops`` are not usable: each has its status, and for
    its text the item, or the whole answer where all of it went."""

    asked: int
    responses: tuple[Response, ...]
    drops: tuple[Response, ...]

    @property
    def counts(self) -> Yield:
        """What became of them."""
        return Yield.of(self.asked, [*self.responses, *self.drops])


class Teacher:
    """A teacher on any language model."""

    def __init__(self, model: ChatModel, task: Task, n: int | None = None, seed: int = 0) -> None:
        """``n``: paraphrases a literal, the task's number where ``None``."""
        self.model, self.task, self.n, self.seed = model, task, n, seed

    def teach(self, examples: Sequence[Example]) -> Taught:
        """Paraphrases of ``examples``; see :func:`teach`."""
        return teach(self.model, self.task, examples, n=self.n, seed=self.seed)


def teach(model: ChatModel, task: Task, examples: Sequence[Example], *, n: int | None = None, seed: int = 0) -> Taught:
    """Ask ``model`` for ``n`` (the task's number if ``None``) paraphrases of every one of ``examples``."""
    wanted = n or task.teacher.n
    first = model.complete_many([teacher_request(task, e.text, wanted, seed, 0) for e in examples])
    answers = [_read(task, example, answer, wanted) for example, answer in zip(examples, first, strict=True)]
    again = [place for place, answer in enumerate(answers) if answer.again]
    if again:
        second = model.complete_many([teacher_request(task, examples[i].text, wanted, seed, 1) for i in again])
        for place, answer in zip(again, second, strict=True):
            answers[place] = _read(task, examples[place], answer, wanted, 1)
    read, author = list(zip(examples, answers, strict=True)), f"teacher:{model.name}"
    responses = [
        Response(
            example_id=e.id, text=item.text, author=author, style=item.style, sampling=_sampling(task, seed, a.index),
            call_id=a.call_id,
        )
        for e, a in read
        for item in a.items
    ]  # fmt: skip
    drops = [
        Response(
            example_id=e.id, text=drop.text, author=author, style=drop.style, call_id=a.call_id, status=drop.status,
            detail=drop.detail,
        )
        for e, a in read
        for drop in a.drops
    ]  # fmt: skip
    return Taught(len(examples), tuple(responses), tuple(drops))


def teacher_request(task: Task, literal: str, n: int, seed: int = 0, index: int = 0) -> Request:
    """What the teacher is asked about ``literal``; ``index`` 1 is the second try."""
    wording = task.teacher
    styles = "\n".join(f"{i}. {task.styles[name].teacher}" for i, name in enumerate(task.item_styles(n), 1) if name)
    messages = [Message("user", fill(wording.user, literal=literal, n=n, styles=styles))]
    if wording.system:
        messages.insert(0, Message("system", wording.system))
    return Request(tuple(messages), _sampling(task, seed, index))


@dataclass(frozen=True)
class _Item:
    text: str
    style: str


@dataclass(frozen=True)
class _Drop:
    text: str
    status: Status
    detail: str = ""
    style: str = ""


@dataclass(frozen=True)
class _Answer:
    items: tuple[_Item, ...] = ()
    drops: tuple[_Drop, ...] = ()
    call_id: str | None = None
    index: int = 0

    @property
    def again(self) -> bool:
        """Whether to ask once more: there is no list, and nothing that would keep another answer from having one."""
        return [(drop.status, drop.detail) for drop in self.drops] == [(Status.UNPARSED, "")]


def _read(task: Task, example: Example, answer: Completion | Failure, wanted: int, index: int = 0) -> _Answer:
    if isinstance(answer, Failure):
        return _Answer(drops=(_Drop("", Status.UNANSWERED, answer.reason),), call_id=answer.call_id)
    listed = parse_list(answer.text, wanted)
    refusal = _refusal(task, answer, listed)
    if refusal is not None:
        return _Answer(drops=(_Drop(answer.text, Status.REFUSED, refusal),), call_id=answer.call_id)
    if not listed.items:
        eaten = answer.finish == "length" or answer.thought
        why = answer.why_empty(task.teacher.max_tokens) if eaten else ""
        return _Answer(drops=(_Drop(answer.text, Status.UNPARSED, why),), call_id=answer.call_id)
    items: list[_Item] = []
    drops: list[_Drop] = []
    for place, (text, style) in enumerate(zip(listed.items, task.item_styles(wanted), strict=False)):
        cut = answer.finish == "length" and place == len(listed.items) - 1
        status = Status.TRUNCATED if cut else _status(task, example.text, text, [item.text for item in items])
        if status is Status.OK:
            items.append(_Item(text, style))
        else:
            drops.append(_Drop(text, status, style=style))
    return _Answer(tuple(items), tuple(drops), answer.call_id, index)


def _refusal(task: Task, answer: Completion, listed: Listed) -> str | None:
    """Why the whole input is discarded, or ``None``: a refusal, or a warning around the list. A joke item may sound
    like one; it is then dropped alone."""
    if answer.finish == "refused":
        return "by the server"
    return task.refused(listed.around if listed.items else answer.text)


def _status(task: Task, literal: str, text: str, before: Sequence[str]) -> Status:
    if task.refused(text) is not None:
        return Status.REFUSAL
    if is_copy(text, literal):
        return Status.COPY
    if normalise(text).lower() in {normalise(other).lower() for other in before}:
        return Status.DUPLICATE
    fault = degenerate(text, literal, max_ratio=task.max_ratio)
    return Status(fault) if fault else Status.OK


def _sampling(task: Task, seed: int, index: int) -> Sampling:
    w = task.teacher
    return Sampling(temperature=w.temperature, top_p=w.top_p, max_tokens=w.max_tokens, seed=seed, index=index)
