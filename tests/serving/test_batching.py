"""Requests that come together are answered together, by one thread, and no more of them wait than may."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

from quipwright.core.records import Sampling
from quipwright.serving.batcher import Ask, Batcher
from quipwright.students.base import Generated
from quipwright.testing.browser import served
from quipwright.testing.tiny_models import causal_student
from tests.serving.students import Echo, Written, app, arriving, client, say


def test_streams_and_whole_answers_share_a_batch() -> None:
    student = causal_student("qwen2", context=200)  # untrained, but it writes words
    write, batches, come = student.write, list[int](), threading.Event()

    def counted(prompts: Sequence[str], *args: Any, **more: Any) -> Any:
        batches.append(len(prompts))
        assert come.wait(60)
        return write(prompts, *args, **more)

    student.write = counted
    sentences = [f"Sentence {i} is here." for i in range(8)]

    def one(i: int) -> str:
        options: dict[str, Any] = {"max_tokens": 40, "temperature": 0}
        if i % 2:
            return str(say(c, sentences[i], **options).choices[0].message.content)
        return "".join(e.choices[0].delta.content or "" for e in say(c, sentences[i], stream=True, **options))

    with served(arriving(app(student), 8, come)) as address, ThreadPoolExecutor(8) as pool:
        c = client(address)
        texts = list(pool.map(one, range(8)))
        assert max(batches) > 1
        assert texts == [say(c, text, max_tokens=40, temperature=0).choices[0].message.content for text in sentences]


def test_concurrent_requests_share_batches_and_one_thread() -> None:
    student = Echo(begin=threading.Event())
    with served(arriving(app(student), 24, student.begin)) as address, ThreadPoolExecutor(24) as pool:
        c = client(address)
        literals = [f"Sentence {i} is here." for i in range(24)]
        texts = list(pool.map(lambda literal: say(c, literal).choices[0].message.content, literals))
    assert texts == [f"{literal} Ha 0." for literal in literals]
    assert max(student.batches) > 1
    assert len(student.batches) < 12
    assert len(student.threads) == 1


def test_draws_of_one_seed_share_a_batch_and_draws_without_repeat_no_prompt_in_it() -> None:
    student = Echo()
    batcher = Batcher(student.write, wait=0.05)
    sampling = Sampling(temperature=0.9)
    asks = [("a", 7), ("b", 7), ("a", 7), ("a", 8), ("a", None), ("a", None), ("b", None)]

    async def answers() -> list[list[Generated]]:
        async with batcher.running():
            return await asyncio.gather(*(batcher.ask(Ask(prompt, sampling, 1, seed)) for prompt, seed in asks))

    assert [texts[0].text for texts in asyncio.run(answers())] == [f"{prompt} Ha 0." for prompt, _ in asks]
    seeds = [s.seed for s in student.samplings]
    assert list(zip(student.batches, seeds, strict=True))[:2] == [(3, 7), (1, 8)]
    assert student.batches[2:] == [2, 1]  # the second "a" without a seed is another draw
    assert len(set(seeds)) == 4


def test_a_request_is_answered_when_its_own_texts_are_written() -> None:
    first = threading.Event()

    class Slow(Echo):
        def write(self, prompts: Sequence[str], sampling: Sampling, k: int = 1) -> Written:
            for number, texts in super().write(prompts, sampling, k):
                yield number, texts
                assert first.wait(60)

    async def ask_two() -> list[str]:
        batcher, done = Batcher(Slow().write, wait=0.05), list[str]()

        async def one(prompt: str) -> None:
            done.append((await batcher.ask(Ask(prompt, Sampling(), 1)))[0].text)
            first.set()

        async with batcher.running():
            await asyncio.gather(one("a"), one("b"))
        assert batcher.batches == [2]
        return done

    assert asyncio.run(ask_two()) == ["a Ha 0.", "b Ha 0."]


def test_a_full_queue_says_wait() -> None:
    refused = threading.Event()
    with served(app(Echo(begin=refused), waiting=2)) as address, ThreadPoolExecutor(12) as pool:
        c = client(address)

        def one(_: int) -> str:
            try:
                return str(say(c).choices[0].message.content)
            except openai.RateLimitError as error:
                refused.set()
                return "wait " + error.response.headers["retry-after"]

        answers = list(pool.map(one, range(12)))
    assert "wait 1" in answers
    assert any(a.startswith("The bus") for a in answers)
