"""The endpoint with the real client: answers, limits, errors, and the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from quipwright.core.records import Example, Grade, Response, Sampling, Status
from quipwright.core.storage.run_folder import RunFolder
from quipwright.critics.loading import critic_settings, own_critic
from quipwright.evaluation.systems import taught
from quipwright.testing.browser import browser, needs_browser, served, until
from quipwright.testing.runs import stored_stage
from quipwright.testing.summaries import made_summary
from tests.serving.students import MODEL, Echo, Written, app, client, say


class Funny:
    name = "funny"

    def grade(self, literals: Sequence[str], responses: Sequence[Response]) -> list[Grade]:
        return [Grade(response_id=r.id, judge=self.name, score=1.25, levels=(0.1, 0.3, 0.6)) for r in responses]


def test_the_real_client_talks_to_a_real_student(tiny: str) -> None:
    c = client(tiny)
    assert [m.id for m in c.models.list()] == [MODEL, f"{MODEL}:tag", f"{MODEL}:short", f"{MODEL}:free"]
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


def test_what_other_servers_take_is_taken_here() -> None:
    echo = Echo()
    with served(app(echo)) as address:
        c = client(address)
        asked = [{"max_tokens": 100_000}, {"max_tokens": -1}, {"max_completion_tokens": 20}, {"tool_choice": "none"}]
        assert [say(c, **how).choices[0].message.content for how in asked] == ["The bus was late. Ha 0."] * 4
        say(c, "A long sentence.", max_tokens=300)
    assert [sampling.max_tokens for sampling in echo.samplings] == [256, 256, 20, 48, 112]  # 512 - 400 are left
    with served(app(Echo())) as address, pytest.raises(openai.BadRequestError, match="tool_choice is not supported"):
        say(client(address), tool_choice="required")


def test_the_older_completions_have_prompts_instead_of_turns() -> None:
    with served(app(Echo())) as address:
        c = client(address)
        whole = c.completions.create(model=MODEL, prompt=["It rained.", "I was late."], n=2, temperature=1.0)
        assert [choice.text for choice in whole.choices] == [
            "It rained. Ha 0.", "It rained. Ha 1.", "I was late. Ha 0.", "I was late. Ha 1.",
        ]  # fmt: skip
        assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
        assert whole.usage is not None
        assert whole.usage.prompt_tokens == 20
        stream = list(c.completions.create(model=MODEL, prompt="It rained.", stream=True))
        assert [(event.choices[0].text, event.choices[0].finish_reason) for event in stream] == [
            ("It rained. Ha 0.", "stop")
        ]
        for how, words in (
            ({"prompt": [1, 2]}, "token ids are not supported"),
            ({"prompt": "It rained.", "suffix": "!"}, "suffix is not supported"),
            ({"prompt": "It rained.", "best_of": 3}, "best_of is not supported"),
            ({"prompt": ["x"] * 17}, "up to 16 of them"),
        ):
            with pytest.raises(openai.BadRequestError, match=words):
                c.completions.create(model=MODEL, **how)  # type: ignore[call-overload]


def test_health_needs_no_token() -> None:
    with served(app(Echo(), "secret")) as address:
        assert httpx2.get(f"{address}/health").json() == {"status": "ok", "model": MODEL, "waiting": 0}
        assert httpx2.get(f"{address}/v1/models").status_code == 401


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
        Response(example_id=bus.id, text="The bus keeps island time.", author="teacher:m", style="tag"),
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
    assert find(" The bus  was late.", "") == [said[0].text]
    assert find(" The bus  was late.", "tag") == [said[1].text]
    assert find(tested.text, "") == [said[3].text]
    assert find("seen only in evaluation.", "") == ["Indeed."]
    assert not find(train.text, "")


def test_the_critic_of_a_run_grades_its_page(tmp_path: Path) -> None:
    assert own_critic(tmp_path, {"critic": {"kind": "reward", "path": "bundled:critic"}}) == "reward:bundled:critic"
    assert own_critic(tmp_path, {"critic": {"kind": "multiple_choice"}}) is None
    (tmp_path / "critic").mkdir()
    (tmp_path / "critic" / "critic.json").write_text("{}")
    labelled = own_critic(tmp_path, {"critic": {"kind": "active_labelling"}})
    assert labelled == str(tmp_path / "critic")
    assert critic_settings(labelled)[0].critic.kind == "reward"


def test_messages_stop_and_length() -> None:
    with served(app(Echo())) as address:
        c = client(address)
        messages: Any = [
            {"role": "system", "content": "Be rude."},
            {"role": "user", "content": "First one."},
            {"role": "assistant", "content": "Ha."},
            {"role": "user", "content": [{"type": "text", "text": "Second one."}]},
        ]
        answer = c.chat.completions.create(model=MODEL, messages=messages, stop=" Ha")
        assert answer.choices[0].message.content == "Second one."
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
    known = {("The bus was late.", "tag"): ["A <b>rumour</b> with wheels."]}
    with (
        served(app(Echo(), critic=Funny(), teacher=lambda *asked: known.get(asked, []))) as address,
        httpx2.Client(base_url=address) as c,
    ):
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
