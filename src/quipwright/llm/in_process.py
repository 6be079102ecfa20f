"""Models that run in this process: batched, stored batch by batch, so that nothing is computed twice."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from threading import RLock
from typing import Any, Protocol

from quipwright.core.records import content_hash
from quipwright.llm.call_rows import Failed, Stored
from quipwright.llm.calls import Asked, Calls, as_choice, as_completion
from quipwright.llm.prompts import tokens_to_choose, tokens_to_complete, tokens_to_score
from quipwright.llm.types import (
    Capabilities,
    Choice,
    Completion,
    Failure,
    Request,
    Score,
    reply_of,
)


class Backend(Protocol):
    """A loaded model. ``batch`` is how many requests it is given at once, ``context`` the most tokens of each.

    ``tokenizer``: what :mod:`quipwright.llm.prompts` needs. Nothing is asked of it that is longer than its context.
    """

    name: str
    batch: int
    context: int
    tokenizer: Any

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """One reply a request."""

    def label_nats(self, requests: Sequence[Request]) -> list[list[float]]:
        """Log-probability of each option of each request as a whole continuation."""

    def score(self, texts: Sequence[tuple[str, str]]) -> list[Score]:
        """Score of each text after what stands before it."""


class InProcessModel:
    """A backend behind the store of calls (see the ``ChatModel`` and ``Scorer`` protocols). Loads it when first needed."""

    def __init__(self, name: str, identity: Mapping[str, Any], load: Callable[[], Backend], calls: Calls) -> None:
        """``identity`` is all that changes an answer; ``load`` gives the backend."""
        self.name = name
        self._identity, self._load, self._calls = identity, load, calls
        self._loaded: Backend | None = None
        self._lock = RLock()  # a model computes one thing at a time

    @property
    def backend(self) -> Backend:
        """The loaded model."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    @property
    def capabilities(self) -> Capabilities:
        """What the backend can do; kept with the run, so that a finished run is read back without loading it."""
        name = f"capabilities {content_hash(dict(self._identity))}"
        with self._lock:
            known = self._calls.store.note(name)
            if known is None:
                known = self.backend.capabilities.model_dump(mode="json")
                self._calls.store.set_note(name, known)
        return Capabilities.model_validate(known)

    def complete_many(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        """One reply a request, in order."""
        with self._lock:
            rows = self._calls.collect(
                self._identity, requests, lambda missing: self._work(missing, self._complete, tokens_to_complete)
            )
        return [as_completion(row) for row in rows]

    def choose_many(self, requests: Sequence[Request]) -> list[Choice | Failure]:
        """One choice a request, from the full distribution."""
        with self._lock:
            rows = self._calls.collect(
                self._identity, requests, lambda missing: self._work(missing, self._choose, tokens_to_choose)
            )
        return [as_choice(row) for row in rows]

    def score_many(self, texts: Sequence[tuple[str, str]]) -> list[Score | Failure]:
        """Scores in the order of ``texts``."""
        with self._lock:
            return self._score_many(texts)

    def _score_many(self, texts: Sequence[tuple[str, str]]) -> list[Score | Failure]:
        size, tokenizer = self.backend.batch, self.backend.tokenizer
        scores: dict[int, Score | Failure] = {}
        for i, pair in enumerate(texts):
            if too_long := self._too_long(tokens_to_score(tokenizer, *pair)):
                scores[i] = Failure(too_long)
        order = sorted(set(range(len(texts))) - set(scores), key=lambda i: -len(texts[i][0] + texts[i][1]))
        for start in range(0, len(order), size):
            part = order[start : start + size]
            made = self.backend.score([texts[i] for i in part])
            scores |= zip(part, (_checked(score) for score in made), strict=True)
        return [scores[i] for i in range(len(texts))]

    def _work(
        self,
        missing: list[Asked],
        make: Callable[[Sequence[Request]], list[Completion] | list[Choice]],
        tokens: Callable[[Any, Request], int],
    ) -> dict[str, Stored | Failed]:
        """Longest first, so that memory runs out at once or never; each batch is stored before the next one. What has
        more ``tokens`` than fit fails alone."""
        ordered = sorted(missing, key=lambda item: -sum(len(m.content) for m in item[1].messages))
        done: dict[str, Stored | Failed] = {}
        size = self.backend.batch
        for start in range(0, len(ordered), size):
            rows: list[Stored | Failed] = []
            part: list[Asked] = []
            for key, request in ordered[start : start + size]:
                if too_long := self._too_long(tokens(self.backend.tokenizer, request)):
                    rows.append(Failed(key, self.name, too_long, None, 1))
                else:
                    part.append((key, request))
            began = time.monotonic()
            made: Sequence[Completion | Choice] = make([request for _, request in part]) if part else []
            seconds = round((time.monotonic() - began) / max(1, len(part)), 4)
            rows += [self._stored(*item, answer, seconds) for item, answer in zip(part, made, strict=True)]
            done |= self._calls.keep(rows)
        return done

    def _too_long(self, tokens: int) -> str:
        """Why so many tokens cannot be put to the model; empty where they can."""
        context = self.backend.context
        return f"takes {tokens} tokens; the context is {context}" if tokens > context else ""

    def _stored(self, key: str, request: Request, answer: Completion | Choice, seconds: float) -> Stored:
        tokens = (answer.tokens_in, answer.tokens_out) if isinstance(answer, Completion) else (None, None)
        cost = self._calls.cost(self.name, *tokens)
        return Stored(key, self.name, request.content(), reply_of(answer), *tokens, cost, seconds=seconds)

    def _complete(self, requests: Sequence[Request]) -> list[Completion]:
        return self.backend.complete(requests)

    def _choose(self, requests: Sequence[Request]) -> list[Choice]:
        return [choice_of_nats(nats) for nats in self.backend.label_nats(requests)]


def _checked(score: Score) -> Score | Failure:
    return score if math.isfinite(score.nats) else Failure("its log-probability is no number")


def choice_of_nats(nats: Sequence[float]) -> Choice:
    """A choice from the log-probabilities of its whole labels; their sum is the coverage."""
    if not all(math.isfinite(value) for value in nats):
        return Choice(None, 0.0, "its log-probabilities are no numbers")
    most = max(nats)
    weights = [math.exp(value - most) for value in nats]
    coverage = min(1.0, sum(math.exp(value) for value in nats))
    return Choice(tuple(weight / sum(weights) for weight in weights), coverage)
