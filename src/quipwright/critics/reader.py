"""How the answers of a multiple-choice critic are read: its settings, and what an answer says about a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from quipwright.core.settings import Settings
from quipwright.critics.combine import vote_share
from quipwright.llm.answer_parser import parse_answer
from quipwright.llm.label_logprobs import read_said
from quipwright.llm.types import Choice, Completion, Failure

Reading = Literal["answer_only", "reason_then_answer", "sampled"]


class Reader(Settings):
    """How a multiple-choice critic is read.

    ``answer_only``: the log-probabilities of the two labels, one answer token in each order, calibrated; ``samples`` is
    not used. ``reason_then_answer``: a reason first, then the label (the paper's form); the probability is given that
    reason, ``reasons`` of them are averaged. ``sampled``: ``samples`` short answers are counted, for models without
    log-probabilities. ``missing``: what to do where the model lacks the log-probabilities that ``answer_only`` needs:
    fall back to ``sampled``, with a warning and under another judge's name, or refuse. ``coverage``: least probability
    that both labels together must have had. ``tie``: a probability within so much of one half is a tie. ``temperature``
    unset: 0 for a single answer, 0.7 for several.
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
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """P(first better), the label said, and the words behind it; neither of the two first means that it is unread.
    ``answered`` is false where no model answered; ``reason`` then says why."""

    p: float | None
    label: str | None
    reason: str
    call_id: str | None
    answered: bool = True

    @property
    def credit(self) -> float | None:
        """P(first better), 1 or 0 where only a label was said."""
        return {"1": 1.0, "2": 0.0}.get(self.label or "") if self.p is None else self.p

    @property
    def unread(self) -> bool:
        """Whether nothing could be read."""
        return self.credit is None


def read_labels(choice: Choice | Failure, least: float, beginning: str) -> Answer:
    """A choice between the labels by its log-probabilities, of which both labels must have ``least`` together.

    Without log-probabilities its words must do, behind the ``beginning`` they were given.
    """
    if isinstance(choice, Failure):
        return Answer(None, None, choice.reason, choice.call_id, answered=False)
    if choice.coverage is None:
        answer = parse_answer(beginning + choice.text)
        reason = f"no log-probabilities came; its words: {choice.text.strip()}"
        return Answer(None, answer.label if answer else None, reason, choice.call_id)
    p = _probability(choice, least)
    if choice.probabilities is None:
        reason = f"no label among the log-probabilities: {choice.text.strip()[:80]}"
    elif p is None and not choice.coverage < least:
        reason = f"the log-probabilities are no numbers: {choice.text.strip()[:80]}"
    elif p is None:
        reason = f"coverage {choice.coverage:.2f} is below {least:g}: {choice.text.strip()[:80]}"
    else:
        floored = "; one label was not among the alternatives" if choice.floored else ""
        reason = f"coverage {choice.coverage:.2f}{floored}"
    return Answer(p, None, reason, choice.call_id)


def read_reasons(answers: Sequence[Completion | Failure], least: float, beginning: str) -> Answer:
    """The mean over several reasons; a single one without log-probabilities has a label but no probability."""
    reads = [_read_reason(answer, least, beginning) for answer in answers]
    if len(reads) == 1:
        return reads[0]
    credits = [credit for read in reads if (credit := read.credit) is not None]
    reason = next((read.reason for read in reads if not read.unread), reads[0].reason)
    p = sum(credits) / len(credits) if credits else None
    return Answer(p, None, reason, reads[0].call_id, answered=any(read.answered for read in reads))


def _read_reason(answer: Completion | Failure, least: float, beginning: str) -> Answer:
    if isinstance(answer, Failure):
        return Answer(None, None, answer.reason, answer.call_id, answered=False)
    reason = answer.text.strip()
    if (p := _probability(read_said(answer), least)) is not None:
        return Answer(p, None, reason, answer.call_id)
    parsed = parse_answer(beginning + answer.text)
    return Answer(None, parsed.label if parsed else None, reason, answer.call_id)


def read_votes(answers: Sequence[Completion | Failure], beginning: str) -> Answer:
    """The share of ``answers`` that name the first text (see :func:`~quipwright.critics.combine.vote_share`)."""
    failures = [answer for answer in answers if isinstance(answer, Failure)]
    if len(failures) == len(answers):
        return Answer(None, None, failures[0].reason, failures[0].call_id, answered=False)
    parsed = [None if isinstance(a, Failure) else parse_answer(beginning + a.text) for a in answers]
    labels = [p.label if p else None for p in parsed]
    reason = f"{labels.count('1')} for the first, {labels.count('2')} for the second, {labels.count(None)} invalid"
    if None in labels:
        example = answers[labels.index(None)]
        words = example.reason if isinstance(example, Failure) else example.text.strip()
        reason += f": {words[:80]}"
    return Answer(vote_share(labels), None, reason, answers[0].call_id)


def _probability(choice: Choice, least: float) -> float | None:
    """P(first better) of ``choice``; ``None`` without numbers, or where the labels had less than ``least`` together."""
    if choice.probabilities is None or not (choice.coverage or 0.0) >= least:
        return None
    first = choice.probabilities[0]
    return first if 0 <= first <= 1 else None
