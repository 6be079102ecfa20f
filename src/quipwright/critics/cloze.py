"""The cloze critic: how likely a model finds a sentence that calls the candidate the funny paraphrase of the literal.

The weaker baseline of Ravi et al. 2024 (sec. 3.2). Each candidate is read alone, so there is no position bias. The
normalisation decides who wins: over the whole template a long candidate dilutes the costly shared part, over the
paraphrase alone the plainer one wins; and a verbatim copy beats both, which is why copies lose before anything is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from quipwright.core.errors import CriticError
from quipwright.core.records import Judgment, Verdict
from quipwright.core.settings import Settings
from quipwright.core.text import is_copy
from quipwright.critics.base import Comparison
from quipwright.data.task import Task, fill
from quipwright.llm.calls import Calls
from quipwright.llm.config import ModelConfig
from quipwright.llm.types import ChatModel, Failure, Score, Scorer


class ClozeReader(Settings):
    """``scope``: perplexity of the ``full`` template (the paper's words) or of the ``paraphrase`` in its place.
    ``question``: whose template of the task (the paper's Cloze-H and Cloze-C are ``humour`` and ``consistency``).

    P(A better) = sigmoid((log PPL(B) - log PPL(A)) / ``temperature``); the paper needs only its sign.
    """

    scope: Literal["full", "paraphrase"] = "full"
    temperature: float = Field(1.0, gt=0)
    question: str = Field("overall", exclude_if=lambda question: question == "overall")


class Cloze(ClozeReader):
    """A cloze critic on a model that can score text (``local`` weights, a GGUF file, or a recording of one)."""

    kind: Literal["cloze"] = "cloze"
    model: ModelConfig

    def open(self, calls: Calls, task: Task) -> ClozeCritic:
        """The critic. Raises as :class:`ClozeCritic` does."""
        return ClozeCritic(self.model.build(calls), task, self)


class ClozeCritic:
    """Compares perplexities (see the ``Critic`` protocol)."""

    positional = False

    def __init__(self, model: ChatModel, task: Task, reader: ClozeReader | None = None) -> None:
        """Raises :class:`CriticError` when ``model`` cannot score text, ``DataError`` for a question without a template."""
        if not isinstance(model, Scorer) or not model.capabilities.score:
            raise CriticError(f"{model.name} cannot score a text, which a cloze critic needs.", "Use a local model.")
        self.model: Scorer = model
        self.reader = reader or ClozeReader()
        self._before = task.template(self.reader.question).removesuffix("{text}")
        self.name = f"cloze-{self.reader.scope}:{model.name}"

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """One judgment a pair. A copy of the literal and a text without a letter lose; both so is a tie."""
        open_ones = [c for c in comparisons if not any(_barred(t, c.literal) for t in (c.a, c.b))]
        texts = [self._template(c.literal, t) for c in open_ones for t in (c.a, c.b)]
        scores = self.model.score_many(texts)
        read = {id(c): (scores[2 * i], scores[2 * i + 1]) for i, c in enumerate(open_ones)}
        return [self._judgment(c, *read[id(c)]) if id(c) in read else self._ruled(c) for c in comparisons]

    def _template(self, literal: str, text: str) -> tuple[str, str]:
        """What is read, and what of it is scored. The template ends with the candidate (the task file sees to it)."""
        before = fill(self._before, literal=literal)
        return ("", before + text) if self.reader.scope == "full" else (before, text)

    def _judgment(self, c: Comparison, a: Score | Failure, b: Score | Failure) -> Judgment:
        if isinstance(a, Failure):
            return self._record(c, None, a.reason, answered=False)
        if isinstance(b, Failure):
            return self._record(c, None, b.reason, answered=False)
        if not a.tokens or not b.tokens:
            return self._record(c, None, "nothing to score")
        log_a, log_b = -a.nats / a.tokens, -b.nats / b.tokens
        p = 1 / (1 + math.exp(max(-700.0, min(700.0, (log_a - log_b) / self.reader.temperature))))
        return self._record(c, p, f"perplexity {math.exp(min(log_a, 700)):.1f} against {math.exp(min(log_b, 700)):.1f}")

    def _ruled(self, c: Comparison) -> Judgment:
        a, b = (_barred(text, c.literal) for text in (c.a, c.b))
        return self._record(c, 0.5 if a and b else 0.0 if a else 1.0, f"rule: {a or b} loses")

    def _record(self, c: Comparison, p: float | None, reason: str, *, answered: bool = True) -> Judgment:
        verdict: Verdict = "unparsed" if p is None else "tie" if p == 0.5 else "A" if p > 0.5 else "B"
        question = self.reader.question
        return Judgment(
            pair_id=c.pair.id, judge=self.name, p_a=p, verdict=verdict, question=question, reason=reason,
            answered=answered,
        )  # fmt: skip


def _barred(text: str, literal: str) -> str | None:
    if not any(c.isalnum() for c in text):
        return "a text without a letter or digit"
    return "a copy of the literal" if is_copy(text, literal) else None
