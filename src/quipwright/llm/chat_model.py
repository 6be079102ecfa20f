"""Models asked from outside: completions as they are asked, choices read out of completions, whoever answers them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from quipwright.core.errors import RecipeError
from quipwright.llm.call_rows import Failed, Stored
from quipwright.llm.calls import Asked, Calls, as_completion
from quipwright.llm.costs import check_priced
from quipwright.llm.label_logprobs import read_choice
from quipwright.llm.types import Capabilities, Choice, Completion, Failure, Request

CHOICE_TOKENS = 4  # a label may stand behind a blank or a quote
SPOKEN_TOKENS = 8  # … and behind "**Answer:**" where the answer could not be begun for the model
Send = Callable[[list[Asked], str], Mapping[str, Stored | Failed]]


class RemoteModel:
    """A model whose answers come from outside (see the ``ChatModel`` protocol)."""

    def __init__(
        self,
        name: str,
        identity: Mapping[str, Any],
        calls: Calls,
        send: Send,
        find_capabilities: Callable[[], Capabilities],
    ) -> None:
        """``send(missing, prefill)`` asks and stores. Raises :class:`RecipeError` where money is capped and the
        model's price is unknown."""
        check_priced(calls.budget, calls.prices, name)
        self.name = name
        self._identity, self._calls, self._send, self._find = identity, calls, send, find_capabilities

    @property
    def capabilities(self) -> Capabilities:
        """What the model can do; the first look may cost a few small calls."""
        return self._find()

    def complete_many(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        """One reply a request, in order."""
        begun = any(request.messages[-1].role == "assistant" for request in requests)
        return self._ask(requests, self.capabilities.prefill if begun else "none")

    def choose_many(self, requests: Sequence[Request]) -> list[Choice | Failure]:
        """One choice a request: from log-probabilities where the server gives them, else its text alone."""
        capabilities = self.capabilities
        answers = self._ask([_to_read(request, capabilities) for request in requests], capabilities.prefill)
        return [
            answer if isinstance(answer, Failure) else read_choice(answer, request.options)
            for answer, request in zip(answers, requests, strict=True)
        ]

    def _ask(self, requests: Sequence[Request], prefill: str) -> list[Completion | Failure]:
        for request in requests:
            if request.sampling.beams > 1:
                raise RecipeError(f"{self.name} is a server and has no beam search.", "Set beams: 1 and a temperature.")
        rows = self._calls.collect(self._identity, requests, lambda missing: self._send(missing, prefill))
        answers = [as_completion(row) for row in rows]
        if prefill == "none" or not self.capabilities.echoes:
            return answers
        return [_continuation(answer, request) for answer, request in zip(answers, requests, strict=True)]


def _continuation(answer: Completion | Failure, request: Request) -> Completion | Failure:
    """``answer`` without the beginning it was given, where the server repeats that."""
    begun = request.messages[-1]
    if isinstance(answer, Failure) or begun.role != "assistant":
        return answer
    return replace(answer, text=answer.text.removeprefix(begun.content))


def _to_read(request: Request, capabilities: Capabilities) -> Request:
    """A choice as the completion it is read from; log-probabilities that move with temperature are read at 1."""
    sampling = request.sampling
    if capabilities.logprobs:
        temperature = sampling.temperature if capabilities.raw_logprobs else 1.0
        room = SPOKEN_TOKENS if capabilities.prefill == "none" else CHOICE_TOKENS
        sampling = sampling.model_copy(update={"max_tokens": room, "temperature": temperature, "top_p": 1.0})
    return Request(request.messages, sampling, logprobs=capabilities.logprobs)
