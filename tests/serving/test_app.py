"""The endpoint with the real client, batching, limits, errors, and the page."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from quipwright.core.records import Example, Grade, Response, Sampling, Status
from quipwright.core.storage.run_folder import RunFolder
from quipwright.critics.loading import critic_settings, own_critic
from quipwright.data.task import Task
from quipwright.evaluation.systems import taught
from quipwright.serving.app import Served, serving_app
from quipwright.serving.batcher import Ask, Batcher
from quipwright.serving.chat_api import cut, settled
from quipwright.students.base import Generated, StudentSettings
from quipwright.students.causal import CausalStudent
from quipwright.testing.browser import browser, needs_browser, served, until
from quipwright.testing.runs import stored_stage
from quipwright.testing.summaries import made_summary
from quipwright.testing.tiny_models import causal_student

MODEL = "tiny:feedback"


Written = Iterator[tuple[int, list[Generated]]]


class Echo:
    """A student that answers with its prompt's sentence and remembers its batches; slow on demand."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause, self.batches, self.samplings = pause, list[int](), list[Sampling]()
        self.threads: set[int] = set()

    def write(self, prompts: Sequence[str], sampling: Sampling, k: int = 1) -> Written:
        self.batches.append(len(prompts))
        self.samplings.append(sampling)
        self.threads.add(threading.get_ident())
        time.sleep(self.pause)
        sentences = [p.split("\n")[0].removeprefix("Plain: ") for p in prompts]
        return (
            (n, [Generated(f"{s} Ha {i}.", truncated=sampling.max_tokens < 5) for i in range(k)])
            for n, s in enumerate(sentences)
        )


class Funny:
    name = "funny"

    def grade(self, literals: Sequence[str], responses: Sequence[Response]) -> list[Grade]:
        return [Grade(response_id=r.id, judge=self.name, score=1.25, levels=(0.1, 0.3, 0.6)) for r in responses]


def app(student: Any, token: str | None = None, **how: Any) -> Any:
    return serving_app(Served(student, Task.load(), MODEL, **how), token)


def client(address: str, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=120)


def say(c: openai.OpenAI, text: str = "The bus was late.", **how: Any) -> Any:
    return c.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], **how)


@pytest.fixture(scope="module")
def tiny(tiny_weights: Path) -> Iterator[str]:
    """The address of a tiny random student."""
    student = CausalStudent.open(
        StudentSettings(weights=str(tiny_weights), precision="fp32", tuning="full", context=200)
    )
    with served(app(student)) as address:
        yield address


def test_the_real_client_talks_to_a_real_student(tiny: str) -> None:
    c = client(tiny)
    assert [m.id for m in c.models.list()] == [MODEL]
    assert c.models.retrieve(MODEL).owned_by == "quipwright"
    one = say(c, max_tokens=8)
    assert one.choices[0].finish_reason in ("stop", "length")
    assert one.usage.total_tokens == one.usage.prompt_tokens + one.usage.completion_tokens > 8
    drawn = say(c, n=3, temperature=1.0, seed=5, max_tokens=12)
    again = say(c, n=3, temperature=1.0, seed=5, max_tokens=12)
    assert [x.message.content for x in drawn.choices] == [x.message.content for x in again.choices]
    assert len(drawn.choices) == 3
    with pytest.raises(openai.BadRequestError, match="leaves no room"):
        say(c, "word " * 400)


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
        found = list(write(*args, **more))
        if streaming.is_set():
            in_time.append(seen.wait(60))
        return found

    student.write = held
    with served(app(student)) as address:
        c = client(address)
        for stop in (None, ["zebra crossing"]):
            whole = say(c, max_tokens=60, temperature=0, stop=stop).choices[0].message.content
            assert len(whole.split()) > 2, "the tiny student must write some words for this test to mean anything"
            streaming.set()
            pieces = []
            for event in say(c, max_tokens=60, temperature=0, stop=stop, stream=True):
                if event.choices and event.choices[0].delta.content:
                    pieces.append(event.choices[0].delta.content)
                    seen.set()
            assert len(pieces) > 1
            assert in_time[-1]
            assert "".join(pieces) == whole
            streaming.clear()
            seen.clear()
        middle = whole.split(" ")[1]
        cut = "".join(
            e.choices[0].delta.content or "" for e in say(c, max_tokens=60, temperature=0, stop=middle, stream=True)
        )
        assert cut == say(c, max_tokens=60, temperature=0, stop=middle).choices[0].message.content
        with pytest.raises(openai.BadRequestError, match="leaves no room"):
            say(c, "word " * 400, temperature=0, stream=True)


def test_streams_and_whole_answers_share_a_batch() -> None:
    student = causal_student("qwen2", context=200)  # untrained, but it writes words
    write, batches = student.write, list[int]()

    def counted(prompts: Sequence[str], *args: Any, **more: Any) -> Any:
        batches.append(len(prompts))
        return write(prompts, *args, **more)

    student.write = counted
    sentences = [f"Sentence {i} is here." for i in range(8)]

    def one(i: int) -> str:
        how: dict[str, Any] = {"max_tokens": 40, "temperature": 0}
        if i % 2:
            return str(say(c, sentences[i], **how).choices[0].message.content)
        return "".join(e.choices[0].delta.content or "" for e in say(c, sentences[i], stream=True, **how))

    with served(app(student)) as address, ThreadPoolExecutor(8) as pool:
        c = client(address)
        found = list(pool.map(one, range(8)))
        assert max(batches) > 1
        assert found == [say(c, text, max_tokens=40, temperature=0).choices[0].message.content for text in sentences]


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
    final, told = cut(Generated(whole, False), stops).text, ""
    for length in range(len(whole) + 1):
        now = settled(whole[:length].strip(), stops)
        assert now.startswith(told) or told.startswith(now)
        told = max(told, now, key=len)
        assert final.startswith(told)
    assert told or len(final) < 4


def test_concurrent_requests_share_batches_and_one_thread() -> None:
    student = Echo(pause=0.1)
    with served(app(student)) as address, ThreadPoolExecutor(24) as pool:
        c = client(address)
        texts = [f"Sentence {i} is here." for i in range(24)]
        found = list(pool.map(lambda t: say(c, t).choices[0].message.content, texts))
    assert found == [f"{t} Ha 0." for t in texts]
    assert max(student.batches) > 1
    assert len(student.batches) < 12
    assert len(student.threads) == 1


def test_draws_of_one_seed_share_a_batch_and_draws_without_repeat_no_prompt_in_it() -> None:
    student = Echo()
    batcher = Batcher(student.write, wait=0.05)
    how = Sampling(temperature=0.9)
    asks = [("a", 7), ("b", 7), ("a", 7), ("a", 8), ("a", None), ("a", None), ("b", None)]

    async def answers() -> list[list[Generated]]:
        async with batcher.running():
            return await asyncio.gather(*(batcher.ask(Ask(prompt, how, 1, seed)) for prompt, seed in asks))

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
    with served(app(Echo(pause=0.4), waiting=2)) as address, ThreadPoolExecutor(12) as pool:
        c = client(address)

        def one(_: int) -> str:
            try:
                return str(say(c).choices[0].message.content)
            except openai.RateLimitError as error:
                return "wait " + error.response.headers["retry-after"]

        answers = list(pool.map(one, range(12)))
    assert "wait 1" in answers
    assert any(a.startswith("The bus") for a in answers)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"n": 99}, "n must be a whole number from 1 to 16"),
        ({"temperature": 5}, "temperature must be a number from 0 to 2"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a"] * 9}, "stop must be"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools is not supported"),
        ({"response_format": {"type": "json_object"}}, "response format text"),
        ({"text": "123 !?"}, "holds no sentence"),
    ],
)
def test_wrong_requests_are_told_why(how: dict[str, Any], words: str) -> None:
    with served(app(Echo())) as address, pytest.raises(openai.BadRequestError, match=words):
        say(client(address), **how)


def test_other_wrong_requests() -> None:
    with served(app(Echo())) as address:
        c = client(address)
        with pytest.raises(openai.NotFoundError, match="this server has"):
            c.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "Hello you."}])
        with pytest.raises(openai.NotFoundError):
            c.models.retrieve("gpt-4")
        post = f"{address}/v1/chat/completions"
        assert "not JSON" in httpx2.post(post, content=b"{").json()["error"]["message"]
        assert httpx2.post(post, content=b"x" * 100_000).status_code == 413
        assert httpx2.post(post, json={"model": MODEL, "messages": []}).status_code == 400
        assert httpx2.post(post, json={}, headers={"origin": "http://evil.example"}).status_code == 403
        assert httpx2.get(f"{address}/v1/nothing").json()["error"]["message"] == "Not Found"


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": "text"},
        {"response_format": ["text"]},
        {"stream": True, "stream_options": "x"},
        {"n": [[[[[[[[[1]]]]]]]]]},
        {"messages": [{"role": "user", "content": "half \ud800 a character"}]},
        b"[" * 60_000,
        b'{"model":' + b"[" * 900 + b"]" * 900 + b"}",
    ],
    ids=["format", "formats", "options", "nested number", "surrogate", "deep", "deep model"],
)
def test_malformed_requests_are_an_error_of_the_client(body: Any) -> None:
    message = {"model": MODEL, "messages": [{"role": "user", "content": "The bus was late."}]}
    content = body if isinstance(body, bytes) else json.dumps({**message, **body}).encode()
    with served(app(Echo())) as address:
        answer = httpx2.post(f"{address}/v1/chat/completions", content=content)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert len(answer.text) < 400


def test_a_form_of_many_fields_is_an_error_of_the_client() -> None:
    with served(app(Echo())) as address:
        answer = httpx2.post(address, content=b"literal=abc" + b"&x=1" * 30)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "More than 20 fields."


def test_the_teacher_of_a_run_is_known_for_training_literals_too(tmp_path: Path) -> None:
    bus, train = (Example(text=text, source="mine.jsonl") for text in ("The bus was late.", "The train was late."))
    tested = Example(text="The tram was late.", split="test", source="mine.jsonl")
    said = [
        Response(example_id=bus.id, text="A rumour with wheels.", author="teacher:m"),
        Response(example_id=bus.id, text="The bus keeps island time.", author="teacher:m"),
        Response(example_id=bus.id, text="Sorry, no.", author="teacher:m", status=Status.REFUSAL),
        Response(example_id=tested.id, text="A tram in no hurry.", author="teacher:m"),
    ]
    with RunFolder.open(tmp_path / "run", {"name": "x"}) as run:
        stored = stored_stage(run.cache, "teach", "", said, Response)
    made = made_summary(1)
    sample = made.samples[0].model_copy(
        update={"literal": "Seen only in evaluation.", "answers": {"teacher": "Indeed."}}
    )
    recipe = {**made.recipe, "data": {"path": "somewhere/mine.jsonl"}}
    summary = made.model_copy(update={"recipe": recipe, "samples": [sample], "stages": [stored]})
    summary.write(tmp_path / "run")
    find = taught(tmp_path / "run")
    assert find(" The bus  was late.") == [said[0].text, said[1].text]
    assert find(tested.text) == [said[3].text]
    assert find("seen only in evaluation.") == ["Indeed."]
    assert not find(train.text)


def test_the_critic_of_a_run_grades_its_page(tmp_path: Path) -> None:
    assert own_critic(tmp_path, {"critic": {"kind": "reward", "path": "bundled:critic"}}) == "reward:bundled:critic"
    assert own_critic(tmp_path, {"critic": {"kind": "multiple_choice"}}) is None
    (tmp_path / "critic").mkdir()
    (tmp_path / "critic" / "critic.json").write_text("{}")
    own = own_critic(tmp_path, {"critic": {"kind": "active_labelling"}})
    assert own == str(tmp_path / "critic")
    assert critic_settings(own)[0].critic.kind == "reward"


def test_messages_stop_and_length() -> None:
    with served(app(Echo())) as address:
        c = client(address)
        messages: Any = [
            {"role": "system", "content": "Be rude."},
            {"role": "user", "content": "First one."},
            {"role": "assistant", "content": "Ha."},
            {"role": "user", "content": [{"type": "text", "text": "Second one."}]},
        ]
        found = c.chat.completions.create(model=MODEL, messages=messages, stop=" Ha")
        assert found.choices[0].message.content == "Second one."
        assert say(c, max_tokens=3).choices[0].finish_reason == "length"
        assert [x.message.content for x in say(c, n=2, temperature=0).choices] == ["The bus was late. Ha 0."] * 2


def test_the_token_is_the_key() -> None:
    with served(app(Echo(), token="sesame")) as address:
        with pytest.raises(openai.AuthenticationError):
            say(client(address))
        assert say(client(address, "sesame")).choices


def test_a_broken_student_is_a_server_error_and_the_next_request_is_served() -> None:
    class Broken(Echo):
        def write(self, prompts: Sequence[str], sampling: Sampling, k: int = 1) -> Written:
            if "break" in prompts[0]:
                raise RuntimeError("CUDA secret /home/user/path")
            return super().write(prompts, sampling, k)

    with served(app(Broken())) as address:
        with pytest.raises(openai.InternalServerError) as wrong:
            say(client(address), "Please break now.")
        assert "secret" not in str(wrong.value)
        assert wrong.value.type == "server_error"
        assert say(client(address)).choices


def test_the_page_without_script() -> None:
    teacher = {"The bus was late.": ["A <b>rumour</b> with wheels."]}.get
    with served(app(Echo(), critic=Funny(), teacher=teacher)) as address, httpx2.Client(base_url=address) as c:
        assert "<script" not in c.get("/").text
        shown = c.post("/", data={"literal": "The bus was late."}).text
        assert "The teacher" in shown
        assert "&lt;b&gt;rumour" in shown
        assert "60 % funny" in shown
        wrong = c.post("/", data={"literal": "<script>1"})
        assert "&lt;script&gt;" in wrong.text
        assert c.post("/", data={"literal": "!!"}).status_code == 400


@needs_browser
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    with served(app(Echo(), critic=Funny())) as address, browser(tmp_path / "p", width=390) as driver:
        driver.get(address)
        driver.find_element(By.NAME, "literal").send_keys("The <img src=x onerror=alert(1)> was late.")
        driver.find_element(By.CSS_SELECTOR, "button.go").click()
        until(driver, "Its best")
        assert not driver.find_elements(By.TAG_NAME, "img")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
