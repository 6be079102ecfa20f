"""Critics and models whose answers a test decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quipwright.core.records import Comparison, Judgment
from quipwright.critics.combine import verdict_of
from quipwright.llm.types import Capabilities, Choice, Completion, Failure, Request, Score

Reply = str | Completion | Choice | Failure


class ScriptedModel:
    """Answers by a function of the request; a string is a completion. ``asked`` keeps all requests."""

    name = "fake"

    def __init__(self, reply: Callable[[Request], Reply], capabilities: Capabilities | None = None) -> None:
        """``capabilities``: none unless given."""
        self.reply, self.asked = reply, list[Request]()
        self.capabilities = capabilities or Capabilities()

    def complete_many(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        """The replies to ``requests``, which must be no choices."""
        replies = [reply for reply in self._replies(requests) if not isinstance(reply, Choice)]
        assert len(replies) == len(requests), "a choice was scripted where a completion is asked for"
        return replies

    def choose_many(self, requests: Sequence[Request]) -> list[Choice | Failure]:
        """The choices in ``requests``; a scripted completion is a choice without probabilities."""
        return [
            Choice(None, None, reply.text) if isinstance(reply, Completion) else reply
            for reply in self._replies(requests)
        ]

    def _replies(self, requests: Sequence[Request]) -> list[Completion | Choice | Failure]:
        self.asked += requests
        replies = [self.reply(request) for request in requests]
        return [Completion(reply) if isinstance(reply, str) else reply for reply in replies]


class LengthScorer(ScriptedModel):
    """Scores texts at one nat a character and one token a word, so that longer words are less likely."""

    name = "letters"

    def __init__(self) -> None:
        """``read`` keeps all texts, each with what stands before it."""
        super().__init__(lambda request: "", Capabilities(score=True))
        self.read: list[tuple[str, str]] = []

    def score_many(self, texts: Sequence[tuple[str, str]]) -> list[Score | Failure]:
        """The scores of ``texts``."""
        self.read += texts
        return [Score(-float(len(text)), len(text.split())) for _, text in texts]


class FixedCritic:
    """Gives each pair the next of its probabilities, again from the first where they run out; ``None`` is unread.

    ``positional``: the second order gets the next probability as well.
    """

    def __init__(self, name: str, *p_a: float | None, positional: bool = False) -> None:
        """``name`` is how judgments sign."""
        self.name, self.positional, self._p_a = name, positional, p_a

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """Judgments in order."""
        shown = [(c, order) for c in comparisons for order in (("ab", "ba") if self.positional else ("ab",))]
        judgments = []
        for number, (c, order) in enumerate(shown):
            p = self._p_a[number % len(self._p_a)]
            judgments.append(Judgment(pair_id=c.pair.id, judge=self.name, shown=order, p_a=p, verdict=verdict_of(p)))
        return judgments
