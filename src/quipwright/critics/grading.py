"""The grading critic: a large model is shown a list of attempts at one literal and names the grade of each.

The levels are the task's. Attempts are shuffled, and a share of the lists is read in a second order, which shows how far
the order matters. Attempts are hostile text, as in :mod:`quipwright.critics.multiple_choice`: they stand between marker
lines that carry a hash of all of them. A grade that cannot be read is missing, never guessed.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import Field

from quipwright.core.errors import CriticError
from quipwright.core.records import Comparison, Grade, Judgment, Response, Sampling, content_hash
from quipwright.core.settings import Settings, identity_of
from quipwright.critics.base import BaseCriticConfig, BuildContext, Questions
from quipwright.critics.by_grades import judged, shares_of
from quipwright.critics.multiple_choice import block, nonce
from quipwright.data.grade_wording import GradeWording
from quipwright.data.task import Task, fill
from quipwright.llm.config import ModelConfig
from quipwright.llm.types import ChatModel, Completion, Failure, Message, Request

LINE_TOKENS = 12  # "12: broken" in any tokeniser, with room
_NOTHING = "rule: a text without a letter or digit has the worst grade"


class GradeReader(Settings):
    """How a grading critic reads.

    ``size``: the most attempts in one list; longer ones are cut into lists of like length. ``twice``: the share of lists
    that is read again with its attempts in the opposite order; a text that was read twice has the mean of both grades.
    """

    size: int = Field(8, ge=1, le=20)
    twice: float = Field(0.2, ge=0, le=1)
    temperature: float = Field(0.0, ge=0, le=2)
    seed: int = 0

    def lists(self, count: int) -> int:
        """Into how many lists ``count`` attempts are cut."""
        return math.ceil(count / self.size)


class GradeCritic(GradeReader, BaseCriticConfig):
    """A grading critic on any model."""

    shorthand: ClassVar[str] = "weights"
    can_grade: ClassVar[bool] = True
    kind: Literal["grade"] = "grade"
    model: ModelConfig

    def build(self, context: BuildContext) -> GradingCritic:
        """The critic. Raises :class:`CriticError` where the task has no wording for it."""
        return GradingCritic(context.open_model(self.model), context.task, self)

    def identity(self, context: BuildContext) -> list[Any]:
        """Its settings and what is asked."""
        return [identity_of(self), grading_of(context.task).model_dump(mode="json")]

    def models(self) -> tuple[ModelConfig, ...]:
        """Its model."""
        return (self.model,)

    def readers(self, context: BuildContext) -> list[Any]:
        """Its model."""
        return [identity_of(self.model)]

    def questions(self, pairs: int, lists: Sequence[tuple[int, int]] = ()) -> tuple[Questions, ...]:
        """Each pair as a list of two, and all ``lists``."""
        return (Questions(self, self.model, self, 0, (*([(pairs, 2)] if pairs else []), *lists)),)

    @classmethod
    def tree(cls, value: str) -> dict[str, Any]:
        """``grade:WEIGHTS``: local weights, the embedded ones where none are named."""
        return {"kind": "grade", "model": {"kind": "local", "weights": value or "embedded"}}


def grading_of(task: Task) -> GradeWording:
    """How ``task`` words the question. Raises :class:`CriticError` where it does not."""
    if task.critic.grading is None:
        raise CriticError(
            f"Task {task.name} does not say how to ask for grades.",
            "Give it critic.grading, as in the tasks that ship.",
        )
    return task.critic.grading


@dataclass(frozen=True)
class Shown:
    """Attempts at one literal in the order in which they are shown."""

    literal: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """What was said of one text: the number of its level, or ``None`` and why."""

    level: int | None
    reason: str = ""
    answered: bool = True
    call_id: str | None = None


class GradingCritic:
    """Asks ``model`` for the grades of lists of attempts (see the ``Grader`` and ``Critic`` protocols)."""

    positional = False

    def __init__(self, model: ChatModel, task: Task, reader: GradeReader | None = None) -> None:
        """Raises :class:`CriticError` where the task has no wording for it."""
        self.model, self.task, self.reader = model, task, reader or GradeReader()
        self.wording, self.name = grading_of(task), f"grade:{model.name}"

    def grade(self, literals: Sequence[str], responses: Sequence[Response]) -> list[Grade]:
        """One grade a response, in order. Texts of one literal are read together, the same text once."""
        pairs = [(literal, r.text) for literal, r in zip(literals, responses, strict=True)]
        readings = self._read(pairs)
        return [self._grade(r.id, readings[pair]) for pair, r in zip(pairs, responses, strict=True)]

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """One judgment a pair, by the grades of its texts."""
        sides = [((c.literal, c.a), (c.literal, c.b)) for c in comparisons]
        readings = self._read([side for both in sides for side in both])
        grades = [[self._grade("", readings[side]) for side in both] for both in sides]
        return [judged(c, a, b, self.name) for c, (a, b) in zip(comparisons, grades, strict=True)]

    def messages(self, shown: Shown, again: bool = False) -> tuple[Message, ...]:
        """What is asked about ``shown``; ``again``: once more, after an answer that could not be read whole."""
        wording, code = self.wording, nonce(shown.literal, *shown.texts)
        items = [fill(wording.item, number=i, text=block(text, code)) for i, text in enumerate(shown.texts, 1)]
        levels = [f"- {name}: {wording.levels[name]}" for name in self.task.grades]
        user = fill(
            wording.user, literal=block(shown.literal, code), attempts="\n".join(items), n=len(items),
            levels="\n".join(levels), example=self.task.grades[0],
        )  # fmt: skip
        if again:
            user = f"{user}\n{fill(wording.again, n=len(items), example=self.task.grades[0])}"
        return tuple(self.model.capabilities.turns(fill(wording.system, nonce=code), user))

    def _read(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[Reading]]:
        """All readings of each (literal, text)."""
        texts: dict[str, list[str]] = {}
        for literal, text in dict.fromkeys(pairs):
            texts.setdefault(literal, []).append(text)
        readings: dict[tuple[str, str], list[Reading]] = {}
        lists = list[Shown]()
        for literal, own in texts.items():
            empty = [text for text in own if not any(c.isalnum() for c in text)]
            readings |= {(literal, text): [Reading(0, _NOTHING)] for text in empty}
            lists += self._lists(literal, [text for text in own if text not in empty])
        for shown, named in zip(lists, self._asked(lists), strict=True):
            for text, reading in zip(shown.texts, named, strict=True):
                readings.setdefault((shown.literal, text), []).append(reading)
        return readings

    def _lists(self, literal: str, texts: Sequence[str]) -> list[Shown]:
        """``texts`` in shuffled lists of like length, a share of them a second time in the opposite order."""
        if not texts:
            return []
        rng = random.Random(content_hash("grading", self.reader.seed, literal, sorted(texts)))
        order = rng.sample(sorted(texts), len(texts))
        count = self.reader.lists(len(order))
        cut = [tuple(order[i::count]) for i in range(count)]
        twice = [part[::-1] for part in cut if rng.random() < self.reader.twice and len(part) > 1]
        return [Shown(literal, part) for part in (*cut, *twice)]

    def _asked(self, lists: Sequence[Shown]) -> list[list[Reading]]:
        """The readings of each list; what is unread is asked for once more."""
        first = self._answers(lists, again=False)
        open_places = [i for i, readings in enumerate(first) if any(r.level is None and r.answered for r in readings)]
        second = self._answers([lists[i] for i in open_places], again=True)
        for i, readings in zip(open_places, second, strict=True):
            first[i] = [b if a.level is None else a for a, b in zip(first[i], readings, strict=True)]
        return first

    def _answers(self, lists: Sequence[Shown], *, again: bool) -> list[list[Reading]]:
        if not lists:
            return []
        requests = [
            Request(
                self.messages(shown, again),
                Sampling(
                    temperature=self.reader.temperature,
                    max_tokens=LINE_TOKENS * (len(shown.texts) + 2),
                    seed=self.reader.seed,
                ),
            )
            for shown in lists
        ]
        answers = self.model.complete_many(requests)
        return [self._readings(shown, answer) for shown, answer in zip(lists, answers, strict=True)]

    def _readings(self, shown: Shown, answer: Completion | Failure) -> list[Reading]:
        if isinstance(answer, Failure):
            return [Reading(None, answer.reason, answered=False, call_id=answer.call_id)] * len(shown.texts)
        levels = parse_grades(answer.text, len(shown.texts), self.task.grades)
        why = f"no grade in: {' '.join(answer.text.split())[:80]}"
        return [Reading(level, "" if level is not None else why, call_id=answer.call_id) for level in levels]

    def _grade(self, response_id: str, readings: Sequence[Reading]) -> Grade:
        named = tuple(r.level for r in readings if r.level is not None)
        return Grade(
            response_id=response_id,
            judge=self.name,
            score=fmean(named) if named else None,
            levels=shares_of(named, len(self.task.grades)) if named else None,
            readings=named,
            reason="; ".join(dict.fromkeys(r.reason for r in readings if r.reason)),
            answered=bool(named) or any(r.answered for r in readings),
            call_id=readings[0].call_id,
        )


def parse_grades(answer: str, count: int, levels: Sequence[str]) -> list[int | None]:
    """The level that ``answer`` names for each of ``count`` texts, ``None`` where it names none.

    Read are lines that hold a number and the name of a level and nothing else, in any dress ("1: plain", "**2.** Plain",
    "Rewrite 3 - plain"). A number that is given two levels has none. An answer with a number beyond ``count`` is not
    read at all: it is about another list.
    """
    names = "|".join(map(re.escape, sorted(levels, key=len, reverse=True)))
    line = re.compile(rf"\W*(?:[a-z]+\W+)?(?P<number>\d{{1,3}})\W+(?P<level>{names})\W*", re.IGNORECASE)
    number_of = {name.lower(): number for number, name in enumerate(levels)}
    named: dict[int, set[int]] = {}
    for match in filter(None, map(line.fullmatch, answer.splitlines())):
        named.setdefault(int(match["number"]), set()).add(number_of[match["level"].lower()])
    if any(not 1 <= number <= count for number in named):
        return [None] * count
    return [next(iter(said)) if len(said := named.get(i, set())) == 1 else None for i in range(1, count + 1)]
