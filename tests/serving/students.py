"""A scripted student behind the endpoint, and the real client."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import openai

from quipwright.core.records import Sampling
from quipwright.data.task import Task
from quipwright.serving.app import Served, serving_app
from quipwright.students.base import Generated, StudentSettings

MODEL = "tiny:feedback"
Written = Iterator[tuple[int, list[Generated]]]


class Echo:
    """A student that answers with its prompt's sentence and remembers its batches; it writes nothing before ``begin``.

    Every prompt has ten tokens to it, and one with the word "long" four hundred.
    """

    settings = StudentSettings(context=512)

    def __init__(self, begin: threading.Event | None = None) -> None:
        self.begin, self.batches, self.samplings = begin, list[int](), list[Sampling]()
        self.threads: set[int] = set()

    def prompt_ids(self, prompt: str) -> list[int]:
        return [0] * (400 if "long" in prompt else 10)

    def write(self, prompts: Sequence[str], sampling: Sampling, k: int = 1) -> Written:
        self.batches.append(len(prompts))
        self.samplings.append(sampling)
        self.threads.add(threading.get_ident())
        assert self.begin is None or self.begin.wait(60)
        sentences = [p.split("\n")[0].removeprefix("Plain: ") for p in prompts]
        return (
            (n, [Generated(f"{s} Ha {i}.", truncated=sampling.max_tokens < 5) for i in range(k)])
            for n, s in enumerate(sentences)
        )


def app(student: Any, token: str | None = None, **how: Any) -> Any:
    return serving_app(Served(student, Task.load(), MODEL, **how), token)


def client(address: str, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=120)


def say(c: openai.OpenAI, text: str = "The bus was late.", **how: Any) -> Any:
    return c.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], **how)


def arriving(inner: Any, count: int, come: threading.Event) -> Any:
    """The application ``inner``, which sets ``come`` when so many requests have arrived."""
    number = itertools.count(1)

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and next(number) == count:
            come.set()
        await inner(scope, receive, send)

    return counted
