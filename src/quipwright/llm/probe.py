"""Finding out, once, what a chat server can do: a few calls of a handful of tokens, kept with the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from quipwright.core.errors import ModelError
from quipwright.core.records import Sampling, content_hash
from quipwright.llm.call_store import CallStore
from quipwright.llm.types import Capabilities, Completion, Failure, Message, Request

Asking = Callable[[Request, str], Completion | Failure]
_USER = Message("user", "Reply with one digit: which is larger, 1 or 2?")
_WORDS = "zebra quartz violin cactus walrus pebble marble thimble"
_ECHO = Message("user", f"Repeat these words and nothing else: {_WORDS} lantern")
_BEGUN = Message("assistant", _WORDS)
_ROOM = 6  # tokens: fewer than the words begun with, so that no answer that starts over has room for them all
_SYSTEM = Message("system", "Answer briefly.")
_PASSING = {408, 409, 425, 429, 503, 529}  # says nothing about what the server can do
_MOVED = 0.25  # nats; a cached prompt may shift log-probabilities a little, a temperature of 1.5 shifts them a lot


def note_name(identity: dict[str, Any]) -> str:
    """Under which note of the store the capabilities of the server named by ``identity`` stand."""
    return f"capabilities {content_hash(identity)}"


def probe(store: CallStore, identity: dict[str, Any], ask: Asking) -> Capabilities:
    """What the server named by ``identity`` can do: from the store's notes, or by asking it now.

    Raises :class:`ModelError` when even a plain question is not answered, or when the server is too busy to answer
    the others: then nothing is known, and nothing is kept.
    """
    name = note_name(identity)
    known = store.note(name)
    if known is not None:
        return Capabilities.model_validate(known)
    plain = ask(Request((_USER,), Sampling(max_tokens=2)), "none")
    if isinstance(plain, Failure):
        raise ModelError(f"A first small question was not answered: {plain.reason}.", "Check model, base_url and omit.")
    alternatives, raw = _logprobs(ask)
    prefill, echoes = _prefill(ask)
    capabilities = Capabilities(
        logprobs=alternatives,
        raw_logprobs=raw,
        prefill=prefill,
        echoes=echoes,
        system=_took(ask(Request((_SYSTEM, _USER), Sampling(max_tokens=2)), "none")) is not None,
    )
    store.set_note(name, capabilities.model_dump(mode="json"))
    return capabilities


def _logprobs(ask: Asking) -> tuple[int, bool]:
    """How many alternatives come with a token, and whether they stay where they are when the temperature moves."""
    for wanted in (20, 5):
        cold = _first(ask(Request((_USER,), Sampling(max_tokens=1), logprobs=wanted), "none"))
        if cold:
            warm = _first(ask(Request((_USER,), Sampling(temperature=1.5, max_tokens=1), logprobs=wanted), "none"))
            likeliest = sorted((text for text in cold if text in warm), key=lambda text: -cold[text])[:3]
            raw = bool(likeliest) and all(abs(cold[text] - warm[text]) <= _MOVED for text in likeliest)
            return min(len(cold), wanted), raw
    return 0, True


def _first(answer: Completion | Failure) -> dict[str, float]:
    took = _took(answer)
    return dict(took.tokens[0].top) if took and took.tokens else {}


def _prefill(ask: Asking) -> tuple[Literal["none", "plain", "continue"], bool]:
    """How a begun answer is continued, and whether its beginning comes back with it (llama.cpp since 2026 does that);
    an answer that starts over instead of going on is not continued at all."""
    ways: tuple[Literal["plain", "continue"], ...] = ("plain", "continue")
    for way in ways:
        took = _took(ask(Request((_ECHO, _BEGUN), Sampling(max_tokens=_ROOM)), way))
        text = took.text.strip().lower() if took is not None else ""
        if text.startswith(("lantern", _WORDS)):
            return way, text.startswith(_WORDS)
    return "none", False


def _took(answer: Completion | Failure) -> Completion | None:
    """The answer, or ``None`` where the server refused the question; one that fell silent or was busy is an error."""
    if isinstance(answer, Failure):
        if answer.status is None or answer.status in _PASSING:
            raise ModelError(
                f"The server stopped answering while it was probed: {answer.reason}.",
                "Run the same command again later.",
            )
        return None
    return answer
