"""The multiple-choice critic: a large model is shown both texts and asked which is better (Ravi et al. 2024 sec. 3.2).

Every pair is shown in both orders. Candidates are hostile text: they stand between marker lines with a code that is a
hash of all three texts, so no text can contain its own. What cannot be read is unparsed, never guessed.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, ClassVar, Literal

from quipwright.core.errors import CriticError
from quipwright.core.records import Comparison, Judgment, Order, Sampling, content_hash
from quipwright.core.settings import identity_of
from quipwright.critics.base import BaseCriticConfig, BuildContext, Questions
from quipwright.critics.combine import verdict_of
from quipwright.critics.reader import Answer, Reader, Reading, read_labels, read_reasons, read_votes
from quipwright.data.task import Task, fill
from quipwright.llm.answer_parser import LABELS
from quipwright.llm.config import ModelConfig
from quipwright.llm.types import ChatModel, Message, Request

ANSWER_TOKENS = 8


class MultipleChoice(Reader, BaseCriticConfig):
    """A multiple-choice critic on any model."""

    shorthand: ClassVar[str] = "weights"
    kind: Literal["multiple_choice"] = "multiple_choice"
    model: ModelConfig

    def build(self, context: BuildContext) -> MultipleChoiceCritic:
        """The critic. Raises as :class:`MultipleChoiceCritic` does."""
        return MultipleChoiceCritic(context.open_model(self.model), context.task, self)

    def identity(self, context: BuildContext) -> list[Any]:
        """Its settings and the wording of its question."""
        wording = context.task.critic.model_dump(mode="json", exclude={"questions"})
        question = context.task.question(self.question).model_dump(mode="json")
        return [identity_of(self), self.model.content(context.recipe_dir), wording, question]

    def models(self) -> tuple[ModelConfig, ...]:
        """Its model."""
        return (self.model,)

    def readers(self, context: BuildContext) -> list[Any]:
        """Its model."""
        return [self.model.read_by(context.recipe_dir)]

    def questions(self, pairs: int, lists: Sequence[tuple[int, int]] = ()) -> tuple[Questions, ...]:
        """All pairs."""
        return (Questions(self, self.model, self, pairs),)

    @classmethod
    def tree(cls, value: str) -> dict[str, Any]:
        """``multiple_choice:WEIGHTS``: local weights, the embedded ones where none are named."""
        return {"kind": "multiple_choice", "model": {"kind": "local", "weights": value or "embedded"}}


class Ask(Enum):
    """The ways of asking. Which one is used depends on the reading and on what the model can do."""

    LABEL = auto()
    """The task's short question; the answer is begun for the model where it can go on from there."""
    DIGIT = auto()
    """The same, asking for nothing but a digit: where an answer cannot be begun, and once more after an unread one."""
    REASON = auto()
    """A reason first, then the label."""


@dataclass(frozen=True)
class _Presentation:
    """A comparison as it is shown."""

    pair_id: str
    shown: Order
    literal: str
    first: str
    second: str


class MultipleChoiceCritic:
    """Asks ``model`` the task's question about every pair, in both orders (see the ``Critic`` protocol)."""

    positional = True

    def __init__(self, model: ChatModel, task: Task, reader: Reader | None = None) -> None:
        """Raises :class:`CriticError` when ``model`` lacks what the reading needs and the recipe says to refuse."""
        self.model, self.task, self.reader = model, task, reader or Reader()
        self._question = task.question(self.reader.question)
        self._capabilities = model.capabilities
        self._can_begin = self._capabilities.prefill != "none" or self._capabilities.exact
        self.reading: Reading = self._possible_reading()
        self.name = f"multiple_choice-{self.reading}:{model.name}"

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """Two judgments a pair, shown ``ab`` then ``ba``. A text without a letter or digit loses without a question."""
        presented = [shown for c in comparisons for shown in _presentations(c)]
        answers = {place: answer for place, p in enumerate(presented) if (answer := _ruled(p)) is not None}
        open_places = [place for place in range(len(presented)) if place not in answers]
        for way in self._ways():
            answers |= zip(open_places, self._asked(way, [presented[i] for i in open_places]), strict=True)
            open_places = [place for place in open_places if answers[place].unread]
        return [self._judgment(p, answers[place]) for place, p in enumerate(presented)]

    def messages(self, literal: str, first: str, second: str, way: Ask | None = None) -> tuple[Message, ...]:
        """What is asked about ``first`` and ``second``, in the first ``way`` of the reading unless another is named."""
        way = way or self._ways()[0]
        code = nonce(literal, first, second)
        form = self._question.reason_then_answer if way is Ask.REASON else self._question.answer_only
        blocks = {n: block(t, code) for n, t in (("literal", literal), ("first", first), ("second", second))}
        system, user = fill(self.task.critic.system, nonce=code), fill(form, **blocks)
        if way is Ask.DIGIT:
            user = f"{user}\n{self.task.critic.again}"
        turns = self._capabilities.turns(system, user)
        if beginning := self._beginning(way):
            turns.append(Message("assistant", beginning))
        return tuple(turns)

    def _possible_reading(self) -> Reading:
        wanted = self.reader.reading
        if wanted != "answer_only" or self._capabilities.exact or self._capabilities.logprobs:
            return wanted
        problem = f"{self.model.name} gives no log-probabilities, which reading answer_only needs"
        if self.reader.missing == "refuse":
            raise CriticError(f"{problem}.", "Use reading: sampled or reason_then_answer, or another model.")
        warnings.warn(
            f"{problem}: falling back to reading 'sampled' ({self.reader.samples} answers an order).", stacklevel=3
        )
        return "sampled"

    def _ways(self) -> tuple[Ask, ...]:
        """How a pair is asked about, and how once more where the answer cannot be read."""
        if self.reading == "sampled":
            return (Ask.LABEL,)
        if self.reading == "reason_then_answer":
            return (Ask.REASON, Ask.DIGIT)
        return (Ask.LABEL, Ask.DIGIT) if self._can_begin else (Ask.DIGIT,)

    def _beginning(self, way: Ask) -> str:
        return self.task.critic.prefill if self._can_begin and way is not Ask.REASON else ""

    def _asked(self, way: Ask, presented: Sequence[_Presentation]) -> list[Answer]:
        if not presented:
            return []
        asked = [self.messages(p.literal, p.first, p.second, way) for p in presented]
        if self.reading == "answer_only":
            return self._ask_label(asked, way)
        return self._ask_votes(asked, way) if self.reading == "sampled" else self._ask_reason(asked, way)

    def _ask_label(self, asked: Sequence[tuple[Message, ...]], way: Ask) -> list[Answer]:
        """One choice between the labels each, read from its log-probabilities."""
        reader, beginning = self.reader, self._beginning(way)
        sampling = Sampling(temperature=reader.temperature or 0.0, max_tokens=ANSWER_TOKENS, seed=reader.seed)
        choices = self.model.choose_many([Request(messages, sampling, LABELS) for messages in asked])
        return [read_labels(choice, reader.coverage, beginning) for choice in choices]

    def _ask_votes(self, asked: Sequence[tuple[Message, ...]], way: Ask) -> list[Answer]:
        """``samples`` short answers each, counted."""
        sampling, count = self._sampling(self.reader.samples, ANSWER_TOKENS), self.reader.samples
        requests = [Request(m, sampling.model_copy(update={"index": i})) for m in asked for i in range(count)]
        answers, beginning = self.model.complete_many(requests), self._beginning(way)
        return [read_votes(answers[i : i + count], beginning) for i in range(0, len(answers), count)]

    def _ask_reason(self, asked: Sequence[tuple[Message, ...]], way: Ask) -> list[Answer]:
        """``reasons`` answers each that close with a label, averaged; one short answer where only a digit is asked."""
        reader, count = self.reader, self.reader.reasons if way is Ask.REASON else 1
        sampling = self._sampling(reader.reasons, reader.reason_tokens if way is Ask.REASON else ANSWER_TOKENS)
        alternatives = self._capabilities.logprobs
        requests = [
            Request(m, sampling.model_copy(update={"index": i}), logprobs=alternatives)
            for m in asked
            for i in range(count)
        ]
        answers, beginning = self.model.complete_many(requests), self._beginning(way)
        return [read_reasons(answers[i : i + count], reader.coverage, beginning) for i in range(0, len(answers), count)]

    def _sampling(self, count: int, max_tokens: int) -> Sampling:
        usual = 0.7 if count > 1 else 0.0
        temperature = usual if self.reader.temperature is None else self.reader.temperature
        return Sampling(temperature=temperature, max_tokens=max_tokens, seed=self.reader.seed)

    def _judgment(self, presented: _Presentation, answer: Answer) -> Judgment:
        first = Judgment(
            pair_id=presented.pair_id,
            judge=self.name,
            p_a=answer.p,
            verdict=verdict_of(answer.credit, self.reader.tie),
            question=self.reader.question,
            reason=answer.reason,
            call_id=answer.call_id,
            answered=answer.answered,
        )
        return first if presented.shown == "ab" else first.swapped()


def nonce(*texts: str) -> str:
    """The code of the marker lines: a hash of the texts between them (in any order), so that no text can hold it."""
    code = content_hash("block", sorted(texts))
    while any(code in text for text in texts):
        code = content_hash("block", code)
    return code


def block(text: str, code: str) -> str:
    """``text`` between its marker lines; control characters become blanks."""
    shown = "".join(" " if unicodedata.category(c) == "Cc" and c != "\n" else c for c in text)
    return f"--- begin {code} ---\n{shown}\n--- end {code} ---"


def _presentations(c: Comparison) -> tuple[_Presentation, _Presentation]:
    forward = _Presentation(c.pair.id, "ab", c.literal, c.a, c.b)
    return forward, replace(forward, shown="ba", first=c.b, second=c.a)


def _ruled(presented: _Presentation) -> Answer | None:
    first, second = (any(c.isalnum() for c in text) for text in (presented.first, presented.second))
    if first and second:
        return None
    p = 0.5 if first == second else 1.0 if first else 0.0
    return Answer(p, None, "rule: a text without a letter or digit loses", None)
