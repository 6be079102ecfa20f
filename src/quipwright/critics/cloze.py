"""The cloze critic: how likely a model finds a sentence that calls the candidate the better paraphrase of the literal.

The weaker baseline of Ravi et al. 2024 (sec. 3.2). Each candidate is read alone, so there is no position bias. The
normalisation decides who wins: over the whole template a long candidate dilutes the costly shared part, over the
paraphrase alone the plainer one wins; and a verbatim copy beats both, which is why copies lose before anything is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from quipwright.core.errors import CriticError
from quipwright.core.records import Comparison, Judgment
from quipwright.core.settings import Settings, identity_of
from quipwright.core.text import is_copy
from quipwright.critics.base import BaseCriticConfig, BuildContext
from quipwright.critics.combine import verdict_of
from quipwright.data.task import Task, fill
from quipwright.llm.config import ModelConfig
from quipwright.llm.types import ChatModel, Failure, Score, Scorer


class ClozeReader(Settings):
    """``scope``: perplexity of the ``full`` template (the paper's words) or of the ``paraphrase`` in its place.
    ``question``: whose template of the task (the paper's Cloze-C is ``consistency``).

    P(A better) = sigmoid((log PPL(B) - log PPL(A)) / ``temperature``); the paper needs only its sign.
    """

    scope: Literal["full", "paraphrase"] = "full"
    temperature: float = Field(1.0, gt=0)
    question: str = "overall"


class Cloze(ClozeReader, BaseCriticConfig):
    """A cloze critic on a model that can score text (``local`` weights, a GGUF file, or a recording of one)."""

    shorthand: ClassVar[str] = "weights"
    kind: Literal["cloze"] = "cloze"
    model: ModelConfig

    def build(self, context: BuildContext) -> ClozeCritic:
        """The critic. Raises as :class:`ClozeCritic` does."""
        return ClozeCritic(context.open_model(self.model), context.task, self)

    def identity(self, context: BuildContext) -> list[Any]:
        """Its settings and the template of its question."""
        return [identity_of(self), self.model.content(context.recipe_dir), context.task.template(self.question)]

    def models(self) -> tuple[ModelConfig, ...]:
        """Its model."""
        return (self.model,)

    def readers(self, context: BuildContext) -> list[Any]:
        """Its model."""
        return [self.model.read_by(context.recipe_dir)]

    @classmethod
    def tree(cls, value: str) -> dict[str, Any]:
        """``cloze:WEIGHTS``: local weights, the embedded ones where none are named."""
        return {"kind": "cloze", "model": {"kind": "local", "weights": value or "embedded"}}


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
        scores = iter(self.model.score_many([self._template(c.literal, t) for c in open_ones for t in (c.a, c.b)]))
        read = {id(c): self._judgment(c, next(scores), next(scores)) for c in open_ones}
        return [read[id(c)] if id(c) in read else self._ruled(c) for c in comparisons]

    def _template(self, literal: str, text: str) -> tuple[str, str]:
        """What is read, and what of it is scored. The template ends with the candidate (the task file sees to it)."""
        before = fill(self._before, literal=literal)
        return ("", before + text) if self.reader.scope == "full" else (before, text)

    def _judgment(self, c: Comparison, a: Score | Failure, b: Score | Failure) -> Judgment:
        for score in (a, b):
            if isinstance(score, Failure):
                return self._record(c, None, score.reason, answered=False)
        log_a, log_b = _log_perplexity(a), _log_perplexity(b)
        if log_a is None or log_b is None:
            return self._record(c, None, "the model gave no log-probability of the text")
        p = 1 / (1 + math.exp(max(-700.0, min(700.0, (log_a - log_b) / self.reader.temperature))))
        return self._record(c, p, f"perplexity {math.exp(min(log_a, 700)):.1f} against {math.exp(min(log_b, 700)):.1f}")

    def _ruled(self, c: Comparison) -> Judgment:
        a, b = (_barred(text, c.literal) for text in (c.a, c.b))
        return self._record(c, 0.5 if a and b else 0.0 if a else 1.0, f"rule: {a or b} loses")

    def _record(self, c: Comparison, p: float | None, reason: str, *, answered: bool = True) -> Judgment:
        return Judgment(
            pair_id=c.pair.id,
            judge=self.name,
            p_a=p,
            verdict=verdict_of(p),
            question=self.reader.question,
            reason=reason,
            answered=answered,
        )


def _log_perplexity(score: Score | Failure) -> float | None:
    """Nats a token; ``None`` where there are no tokens or no number."""
    if isinstance(score, Failure) or not score.tokens or not math.isfinite(score.nats):
        return None
    return -score.nats / score.tokens


def _barred(text: str, literal: str) -> str | None:
    if not any(c.isalnum() for c in text):
        return "a text without a letter or digit"
    return "a copy of the literal" if is_copy(text, literal) else None
