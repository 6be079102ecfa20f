"""A sentence that must not be joked about comes back as it is: in Python, in files, to clients and on the page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from quipwright.core.records import Sampling
from quipwright.data.care.judgment import DECLINED, HELP, Care, word_list
from quipwright.data.task import Task
from quipwright.serving.batch_files import Job, write_file
from quipwright.serving.declined import Declined
from quipwright.serving.writer import Writer
from quipwright.students.base import Generated
from quipwright.testing.browser import browser, needs_browser, served, until
from tests.serving.students import MODEL, Echo, app, client, say

SAD, SELF_HARM, PLAIN = "My dad died last week.", "My brother tried to kill himself.", "The bus was late."


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The word list decides alone: these tests are about what follows."""
    for module in ("writer", "served"):
        monkeypatch.setattr(f"quipwright.serving.{module}.sensitive_kinds", Care(None, word_list()).kinds)


class Loud(Echo):
    """Shouts what it is shown."""

    def write(self, prompts: Sequence[str], sampling: Sampling, k: int = 1) -> Iterator[tuple[int, list[Generated]]]:
        self.batches.append(len(prompts))
        said = [p.split("\n")[0].removeprefix("Plain: ").upper() for p in prompts]
        return ((n, [Generated(f"{text} {i}", False) for i in range(k)]) for n, text in enumerate(said))


def writer(**how: Any) -> Writer:
    return Writer(Loud(), Task.load(), **how)  # type: ignore[arg-type]


def test_the_student_never_sees_a_sensitive_sentence() -> None:
    one = writer()
    texts = one.write_all([PLAIN, SAD, SELF_HARM])
    assert texts == [["THE BUS WAS LATE. 0"], [SAD], [SELF_HARM]]
    declined = texts[1][0]
    assert isinstance(declined, Declined)
    assert (declined.reason, declined.kind) == (DECLINED, "death")
    assert not isinstance(texts[0][0], Declined)
    assert one.student.batches == [1]  # type: ignore[attr-defined]
    assert one.write(SAD, n=3) == [SAD]
    assert len(one.write(PLAIN, n=3)) == 3


def test_the_option_and_the_task_let_everything_pass() -> None:
    assert writer(allow_sensitive=True).write(SAD) == ["MY DAD DIED LAST WEEK. 0"]
    task = Task.load().model_copy(update={"allow_sensitive": True})
    assert Writer(Loud(), task).write(SAD) == ["MY DAD DIED LAST WEEK. 0"]  # type: ignore[arg-type]


def test_rows_of_a_file_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text(f"{PLAIN}\n{SAD}\n")
    assert write_file(writer(), source, target, Job()) == (2, 0, 1)
    assert [json.loads(line) for line in target.read_text().splitlines()] == [
        {"literal": PLAIN, "humorous": ["THE BUS WAS LATE. 0"]},
        {"literal": SAD, "humorous": [SAD], "declined": "sensitive"},
    ]
    capsys.readouterr()
    write_file(writer(), source, None, Job())
    shown = capsys.readouterr()
    assert shown.out == f"THE BUS WAS LATE. 0\n{SAD}\n"
    assert shown.err == f"line 2: {DECLINED}\n"
    assert write_file(writer(allow_sensitive=True), source, tmp_path / "all.jsonl", Job()) == (2, 0, 0)


def test_clients_are_told_in_a_field() -> None:
    with served(app(Loud())) as address:
        c = client(address)
        answer = say(c, SELF_HARM, n=2, temperature=0.9)
        assert [choice.message.content for choice in answer.choices] == [SELF_HARM] * 2
        assert answer.choices[0].finish_reason == "content_filter"
        assert answer.choices[0].model_extra == {"declined": "sensitive", "kind": "self-harm"}
        assert say(c, PLAIN).choices[0].model_extra == {}
        older = c.completions.create(model=MODEL, prompt=[PLAIN, SAD])
        assert [choice.text for choice in older.choices] == ["THE BUS WAS LATE. 0", SAD]
        assert [choice.model_extra for choice in older.choices] == [{}, {"declined": "sensitive", "kind": "death"}]
        for how in ({}, {"temperature": 0, "stop": "dad"}):
            events = list(say(c, SAD, stream=True, **how))
            assert "".join(event.choices[0].delta.content or "" for event in events) == SAD
            assert events[-1].choices[0].model_extra == {"declined": "sensitive", "kind": "death"}
    with served(app(Loud(), allow_sensitive=True)) as address:
        assert say(client(address), SAD).choices[0].message.content == "MY DAD DIED LAST WEEK. 0"


def test_the_page_gives_the_sentence_back_with_the_reason() -> None:
    with served(app(Loud())) as address, httpx2.Client(base_url=address) as c:
        shown = c.post("/", data={"literal": SAD}).text
        assert DECLINED in shown
        assert SAD in shown
        assert SAD.upper() not in shown
        assert HELP not in shown


@needs_browser
def test_the_page_points_to_help(tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    with served(app(Loud())) as address, browser(tmp_path / "p", width=390) as driver:
        driver.get(address)
        driver.find_element(By.NAME, "literal").send_keys(SELF_HARM)
        driver.find_element(By.CSS_SELECTOR, "button.go").click()
        until(driver, HELP)
        cards = [card.text for card in driver.find_elements(By.CLASS_NAME, "card")]
        assert cards == [f"{DECLINED}\n{SELF_HARM}", HELP]
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
