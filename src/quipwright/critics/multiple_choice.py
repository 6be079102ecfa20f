"""The multiple-choice critic: a large model is shown both texts and asked which is better (Ravi et al. 2024 sec. 3.2).

Every pair is shown in both orders. Candidates are hostile text: they stand between marker lines with a code that is a
hash of all three texts, so no text can contain its own. What cannot be read is unparsed, never guessed.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from quipwright.core.errors import CriticError
from quipwright.core.records import Judgment, Sampling, Verdict, content_hash
from quipwright.core.settings import Settings
from quipwright.critics.base import Comparison
from quipwright.critics.combine import verdict_of, vote_share
from quipwright.data.task import Task, fill
from quipwright.llm.answer_parser import LABELS, parse_answer
from quipwright.llm.calls import Calls
from quipwright.llm.config import ModelConfig
from quipwright.llm.label_logprobs import read_said
from quipwright.llm.types import (
    Capabilities,
    ChatModel,
    Choice,
    Completion,
    Failure,
    Message,
    Request,
)

Reading = Literal["answer_only", "reason_then_answer", "sampled"]
Shown = Literal["ab", "ba"]
ANSWER_TOKENS = 8


class Reader(Settings):
    """How a multiple-choice critic is read.

    ``answer_only``: the log-probabilities of the two labels, one answer token a showing, calibrated; ``samples`` is not
    used. ``reason_then_answer``: a reason first, then the label (the paper's form); the probability is given that
    reason, ``samples`` reasons are averaged. ``sampled``: ``samples`` short answers are counted, for models without
    log-probabilities. ``missing``: what to do where the model lacks the log-probabilities that ``answer_only`` needs:
    fall back to ``sampled``, with a warning and under another judge's name, or refuse. ``coverage``: least mass both
    labels must have had. ``tie``: a showing within so much of one half is a tie. ``temperature`` unset: 0 for a single
    answer, 0.7 for several.
    """

    reading: Reading = "answer_only"
    question: str = "overall"
    samples: int = Field(8, ge=1, le=64)
    reasons: int = Field(1, ge=1, le=64)
    reason_tokens: int = Field(160, ge=32)
    temperature: float | None = Field(None, ge=0, le=2)
    missing: Literal["sampled", "refuse"] = "sampled"
    coverage: float = Field(0.5, ge=0, le=1)
    tie: float = Field(0.05, ge=0, lt=0.5)
    mean: Literal["probability", "logit"] = "probability"
    seed: int = 0


class MCP(Reader):
    """A multiple-choice critic on any model."""

    kind: Literal["mcp"] = "mcp"
    model: ModelConfig

    def open(self, calls: Calls, task: Task) -> MCPCritic:
        """The critic, asking through ``calls``. Raises as :class:`MCPCritic` does."""
        return MCPCritic(self.model.build(calls), task, self)


@dataclass(frozen=True)
class _Showing:
    pair_id: str
    shown: Shown
    literal: str
    first: str
    second: str


@dataclass(frozen=True)
class _Read:
    """P(first better), the label said, and the words behind it; neither means unparsed."""

    p: float | None
    label: str | None
    reason: str
    call_id: str | None
    answered: bool = True


class MCPCritic:
    """Asks ``model`` the task's question about every pair, in both orders (see the ``Critic`` protocol)."""

    positional = True

    def __init__(self, model: ChatModel, task: Task, reader: Reader | None = None) -> None:
        """Raises :class:`CriticError` when ``model`` lacks what the reading needs and the recipe says to refuse."""
        self.model, self.task, self.reader = model, task, reader or Reader()
        self._question = task.question(self.reader.question)
        self._able: Capabilities = model.capabilities
        self.reading: Reading = self._possible()
        self.name = f"mcp-{self.reading}:{model.name}"

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """Two judgments a pair, shown ``ab`` then ``ba``. A text without a letter or digit loses without a question."""
        showings = [s for c in comparisons for s in _showings(c)]
        ruled = {place: rule for place, s in enumerate(showings) if (rule := _ruled(s)) is not None}
        asked = [place for place in range(len(showings)) if place not in ruled]
        read = dict(zip(asked, self._read([showings[i] for i in asked], again=False), strict=True))
        unread = [place for place in asked if read[place].p is None and read[place].label is None]
        if unread and self._has_second_form():  # once more, with nothing but a digit to say
            read |= zip(unread, self._read([showings[i] for i in unread], again=True), strict=True)
        return [self._judgment(s, ruled.get(place) or read[place]) for place, s in enumerate(showings)]

    def messages(self, literal: str, first: str, second: str, *, again: bool = False) -> tuple[Message, ...]:
        """What is asked about ``first`` and ``second``; ``again`` asks for a digit alone, as is done
        from the start where labels are read from an answer that cannot be begun."""
        code = nonce(literal, first, second)
        form = self._question.answer_only
        if self.reading == "reason_then_answer" and not again:
            form = self._question.reason_then_answer
        blocks = {n: block(t, code) for n, t in (("literal", literal), ("first", first), ("second", second))}
        system, user = fill(self.task.critic.system, nonce=code), fill(form, **blocks)
        if self._digit_alone(again):
            user = f"{user}\n{self.task.critic.again}"
        turns = [Message("system", system), Message("user", user)]
        if not self._able.system:
            turns = [Message("user", f"{system}\n\n{user}")]
        if self._prefilled(again):
            turns.append(Message("assistant", self.task.critic.prefill))
        return tuple(turns)

    def _possible(self) -> Reading:
        wanted, able = self.reader.reading, self._able
        if wanted != "answer_only" or able.exact or able.logprobs:
            return wanted
        said = f"{self.model.name} gives no log-probabilities, which reading answer_only needs"
        if self.reader.missing == "refuse":
            raise CriticError(f"{said}.", "Use reading: sampled or reason_then_answer, or another model.")
        warnings.warn(
            f"{said}: falling back to reading 'sampled' ({self.reader.samples} answers a showing).", stacklevel=3
        )
        return "sampled"

    def _prefilled(self, again: bool) -> bool:
        reasoning = self.reading == "reason_then_answer" and not again
        return not reasoning and (self._able.prefill != "none" or self._able.exact)

    def _has_second_form(self) -> bool:
        return self.reading != "sampled" and not self._digit_alone(False)

    def _digit_alone(self, again: bool) -> bool:
        return again or (self.reading == "answer_only" and not self._prefilled(again))

    def _read(self, showings: Sequence[_Showing], *, again: bool) -> list[_Read]:
        if not showings:
            return []
        asked = [self.messages(s.literal, s.first, s.second, again=again) for s in showings]
        if self.reading == "answer_only":
            return self._read_labels(asked)
        count = self.reader.samples if self.reading == "sampled" else 1 if again else self.reader.reasons
        requests = [self._request(m, i, again) for m in asked for i in range(count)]
        answers = self.model.complete_many(requests)
        begun = self.task.critic.prefill if self._prefilled(again) else ""
        groups = [answers[i : i + count] for i in range(0, len(answers), count)]
        if self.reading == "sampled":
            return [_counted(group, begun) for group in groups]
        return [_reasoned(group, self.reader.coverage, begun) for group in groups]

    def _read_labels(self, asked: Sequence[tuple[Message, ...]]) -> list[_Read]:
        drawn = Sampling(temperature=self.reader.temperature or 0.0, max_tokens=ANSWER_TOKENS, seed=self.reader.seed)
        requests = [Request(messages, drawn, LABELS) for messages in asked]
        begun = self.task.critic.prefill if self._prefilled(False) else ""
        return [_labelled(choice, self.reader.coverage, begun) for choice in self.model.choose_many(requests)]

    def _request(self, messages: tuple[Message, ...], index: int, again: bool) -> Request:
        reader, reasoning = self.reader, self.reading == "reason_then_answer"
        several = (reader.reasons if reasoning else reader.samples) > 1
        temperature = reader.temperature if reader.temperature is not None else 0.7 if several else 0.0
        tokens = reader.reason_tokens if reasoning and not again else ANSWER_TOKENS
        drawn = Sampling(temperature=temperature, max_tokens=tokens, seed=reader.seed, index=index)
        return Request(messages, drawn, logprobs=self._able.logprobs if reasoning else 0)

    def _judgment(self, showing: _Showing, read: _Read) -> Judgment:
        first = read.p if read.p is not None else {"1": 1.0, "2": 0.0}.get(read.label or "")
        verdict: Verdict = "unparsed"
        if first is not None:
            p_a = first if showing.shown == "ab" else 1 - first
            verdict = verdict_of(p_a, self.reader.tie)
        p = None if read.p is None else read.p if showing.shown == "ab" else 1 - read.p
        return Judgment(
            pair_id=showing.pair_id,
            judge=self.name,
            shown=showing.shown,
            p_a=p,
            verdict=verdict,
            question=self.reader.question,
            reason=read.reason,
            answered=read.answered,
            call_id=read.call_id,
        )


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


def _showings(c: Comparison) -> tuple[_Showing, _Showing]:
    return (
        _Showing(c.pair.id, "ab", c.literal, c.a, c.b),
        _Showing(c.pair.id, "ba", c.literal, c.b, c.a),
    )


def _ruled(showing: _Showing) -> _Read | None:
    first, second = (any(c.isalnum() for c in text) for text in (showing.first, showing.second))
    if first and second:
        return None
    p = 0.5 if first == second else 1.0 if first else 0.0
    return _Read(p, None, "rule: a text without a letter or digit loses", None)


def _labelled(choice: Choice | Failure, least: float, begun: str) -> _Read:
    if isinstance(choice, Failure):
        return _Read(None, None, choice.reason, choice.call_id, False)
    if choice.coverage is None:
        answer = parse_answer(begun + choice.text)
        reason = f"no log-probabilities came; its words: {choice.text.strip()}"
        return _Read(None, answer.label if answer else None, reason, choice.call_id)
    if choice.probabilities is None:
        reason = f"no label among the log-probabilities: {choice.text.strip()[:80]}"
        return _Read(None, None, reason, choice.call_id)
    if (choice.coverage or 0.0) < least:
        reason = f"coverage {choice.coverage or 0:.2f} is below {least:g}: {choice.text.strip()[:80]}"
        return _Read(None, None, reason, choice.call_id)
    floored = "; one label was not among the alternatives" if choice.floored else ""
    return _Read(choice.probabilities[0], None, f"coverage {choice.coverage or 0:.2f}{floored}", choice.call_id)


def _reasoned(answers: Sequence[Completion | Failure], least: float, begun: str) -> _Read:
    """The mean over several reasons; a single one without log-probabilities has a label but no probability."""
    reads = [_one_reasoned(answer, least, begun) for answer in answers]
    if len(reads) == 1:
        return reads[0]
    said = {"1": 1.0, "2": 0.0, None: None}
    values = [v for r in reads if (v := r.p if r.p is not None else said[r.label]) is not None]
    reason = next((r.reason for r in reads if r.p is not None or r.label), reads[0].reason)
    answered = any(r.answered for r in reads)
    return _Read(sum(values) / len(values) if values else None, None, reason, reads[0].call_id, answered)


def _one_reasoned(answer: Completion | Failure, least: float, begun: str) -> _Read:
    if isinstance(answer, Failure):
        return _Read(None, None, answer.reason, answer.call_id, False)
    choice = read_said(answer)
    if choice.probabilities is not None and (choice.coverage or 0.0) >= least:
        return _Read(choice.probabilities[0], None, answer.text.strip(), answer.call_id)
    parsed = parse_answer(begun + answer.text)
    return _Read(None, parsed.label if parsed else None, answer.text.strip(), answer.call_id)


def _counted(answers: Sequence[Completion | Failure], begun: str) -> _Read:
    failures = [answer for answer in answers if isinstance(answer, Failure)]
    if len(failures) == len(answers):
        return _Read(None, None, failures[0].reason, failures[0].call_id, False)
    parsed = [None if isinstance(a, Failure) else parse_answer(begun + a.text) for a in answers]
    labels = [p.label if p else None for p in parsed]
    reason = f"{labels.count('1')} for the first, {labels.count('2')} for the second, {labels.count(None)} invalid"
    return _Read(vote_share(labels), None, reason, answers[0].call_id)
