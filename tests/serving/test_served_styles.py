"""The endpoint and the page of a task that names styles, and of one that names none."""

from __future__ import annotations

from collections.abc import Sequence

import httpx2
import openai
import pytest

from quipwright.core.records import Sampling
from quipwright.data.task import Task
from quipwright.serving.app import Served, serving_app
from quipwright.serving.gate import STYLE
from quipwright.students.base import Generated
from quipwright.testing.browser import served
from tests.serving.students import MODEL, Echo, Written, app, client


class Marked(Echo):
    """Answers with the last line that it is shown."""

    def write(self, prompts: Sequence[str], sampling: Sampling, k: int = 1) -> Written:
        return ((n, [Generated(f"{p.splitlines()[-1]} {i}", False) for i in range(k)]) for n, p in enumerate(prompts))


def test_a_client_asks_for_a_style_by_the_models_name() -> None:
    with served(app(Marked())) as address:
        c = client(address)
        answers = {}
        for model in (MODEL, f"{MODEL}:tag", f"{MODEL}:short"):
            answer = c.chat.completions.create(model=model, messages=[{"role": "user", "content": "It rained."}])
            assert answer.model == model
            answers[model] = answer.choices[0].message.content
        assert list(answers.values()) == ["Funny tag: 0", "Funny tag: 0", "Funny short: 0"]
        assert c.models.retrieve(f"{MODEL}:free").id == f"{MODEL}:free"
        with pytest.raises(openai.NotFoundError, match=f"this server has '{MODEL}', '{MODEL}:tag'"):
            c.chat.completions.create(model=f"{MODEL}:odd", messages=[{"role": "user", "content": "It rained."}])


def test_a_task_without_styles_is_served_under_one_name() -> None:
    served_task = Served(Marked(), Task.load("vivid"), MODEL)  # type: ignore[arg-type]
    assert served_task.styles == {MODEL: ""}
    with served(serving_app(served_task)) as address, httpx2.Client(base_url=address) as c:
        assert "<select" not in c.get("/").text
        assert "Vivid: 0" in c.post("/", data={"literal": "It rained."}).text


def test_the_page_offers_the_styles_and_shows_the_teacher_in_that_style() -> None:
    def teacher(literal: str, style: str) -> list[str]:
        return [f"The teacher's {style} one."]

    with served(app(Marked(), teacher=teacher)) as address, httpx2.Client(base_url=address) as c:
        assert "<option selected>tag</option><option>short</option><option>free</option>" in c.get("/").text
        shown = c.post("/", data={"literal": "It rained.", "style": "short"}).text
        assert "<option selected>short</option>" in shown
        assert "Funny short: 0" in shown
        assert "The teacher&#39;s short one." in shown
        wrong = c.post("/", data={"literal": "It rained.", "style": "odd"})
        assert wrong.status_code == 400
        assert "no style &#39;odd&#39;" in wrong.text
        for page in (c.get("/").text, shown, wrong.text):  # the sheet is the page's own, whatever style is asked for
            assert f"<style>{STYLE}</style>" in page
