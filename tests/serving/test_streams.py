"""Streams: the text of the whole answer, word by word, from the first one on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import openai
import pytest

from quipwright.core.records import Sampling
from quipwright.serving.chat_api import cut, settled
from quipwright.students.base import Generated
from quipwright.testing.browser import served
from quipwright.testing.tiny_models import causal_student
from tests.serving.students import Echo, app, client, say


def test_a_stream_is_the_same_text(tiny: str) -> None:
    c = client(tiny)
    whole = say(c, max_tokens=12, temperature=0)
    events = list(say(c, max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}))
    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
    assert text == whole.choices[0].message.content
    assert events[-1].usage.total_tokens == whole.usage.total_tokens
    assert [e.choices[0].finish_reason for e in events if e.choices][-1] in ("stop", "length")


def test_a_stream_begins_before_the_text_is_finished() -> None:
    student = causal_student("qwen2", context=200)  # untrained, but it writes words
    write, streaming, seen = student.write, threading.Event(), threading.Event()
    in_time = list[bool]()

    def held(*args: Any, **more: Any) -> Any:
        """Does not end before the reader of a stream has its first words, unless none come for a minute."""
        texts = list(write(*args, **more))
        if streaming.is_set():
            in_time.append(seen.wait(60))
        return texts

    student.write = held
    with served(app(student)) as address:
        c = client(address)
        for stop in (None, ["zebra crossing"]):
            whole = say(c, "It rained.", max_tokens=60, temperature=0, stop=stop).choices[0].message.content
            assert len(whole.split()) > 2, "the tiny student must write some words for this test to mean anything"
            streaming.set()
            pieces = []
            for event in say(c, "It rained.", max_tokens=60, temperature=0, stop=stop, stream=True):
                if event.choices and event.choices[0].delta.content:
                    pieces.append(event.choices[0].delta.content)
                    seen.set()
            assert len(pieces) > 1
            assert in_time[-1]
            assert "".join(pieces) == whole
            streaming.clear()
            seen.clear()
        middle = whole.split(" ")[1]
        stopped = say(c, "It rained.", max_tokens=60, temperature=0, stop=middle, stream=True)
        cut = "".join(e.choices[0].delta.content or "" for e in stopped)
        assert cut == say(c, "It rained.", max_tokens=60, temperature=0, stop=middle).choices[0].message.content
        with pytest.raises(openai.BadRequestError, match="leaves no room"):
            say(c, "I bought apples, then pears, then plums, " * 60, temperature=0, stream=True)


def test_a_stream_that_breaks_off_says_so() -> None:
    class Broken(Echo):
        def write(self, prompts: Sequence[str], sampling: Sampling, k: int = 1, on_token: Any = None) -> Any:
            on_token(0, "The bus was")
            raise RuntimeError("CUDA secret /home/user/path")

    with served(app(Broken())) as address:
        stream = say(client(address), temperature=0, stream=True)
        with pytest.raises(openai.APIError, match="The student failed") as wrong:
            list(stream)
        assert "secret" not in str(wrong.value)


@pytest.mark.parametrize("stops", [(), ("END",), ("ab", "b c d e", "c"), (" d",), ("zz zz zz",)])
def test_what_is_settled_stays(stops: tuple[str, ...]) -> None:
    whole = "a b ab c d e END of it, a  b c d e"
    final, settled_text = cut(Generated(whole, False), stops).text, ""
    for length in range(len(whole) + 1):
        now = settled(whole[:length].strip(), stops)
        assert now.startswith(settled_text) or settled_text.startswith(now)
        settled_text = max(settled_text, now, key=len)
        assert final.startswith(settled_text)
    assert settled_text or len(final) < 4
