"""The teacher's list reader, filters and counts."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.core.errors import DataError, RecipeError
from quipwright.core.records import Example, Status
from quipwright.core.storage.stage_cache import StageReached
from quipwright.data.list_parser import parse_list
from quipwright.data.task import Task, fill
from quipwright.data.teacher import ModelTeacher, Yield, teach
from quipwright.llm.http_models import Chat
from quipwright.llm.types import Completion, Failure, Request
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.stages.teach import teach as teach_stage
from quipwright.testing.faulty_server import FaultyServer
from quipwright.testing.runs import run_context

LISTS = [
    ("Sure! Here are three:\n\n1. A one.\n2) B two\n(3) C three\n\nHope this helps!", ["A one.", "B two", "C three"]),
    ("1. A one.\n2. B two.\n3. C three.\nHope this helps!", ["A one.", "B two.", "C three."]),
    ('**1.** "Quoted."\n**2.** *Star*\n3. **Bold text**', ["Quoted.", "Star", "Bold text"]),
    ("1. One thing. 2. Two things! 3. Three.", ["One thing.", "Two things!", "Three."]),
    ("Sure! 1. One thing. 2. Two things! 3. Three.", ["One thing.", "Two things!", "Three."]),
    ("- a\n- b\n- c", ["a", "b", "c"]),
    ("* **x**\n* y", ["x", "y"]),
    ("1.\nUnder one\n\n2.\nUnder two", ["Under one", "Under two"]),
    ("Version 1: hello\nVersion 2: there", ["hello", "there"]),
    ("1. broken over\ntwo lines\n2. next", ["broken over two lines", "next"]),
    ("1. I have 3. cats 2. dogs", ["I have 3. cats", "dogs"]),
    ("1. It took 2. 30 hours\n2. b", ["It took 2. 30 hours", "b"]),
    ("#1 a\n#2 b", ["a", "b"]),
    ("[1] a\n[2] b", ["a", "b"]),
    ("1 - a b\n2 - c d", ["a b", "c d"]),
    ("①a\n②b", ["a", "b"]),
    ('1. "A," she said, "B."', ['"A," she said, "B."']),
    ("1. a\n2. b\n3. c\n4. d", ["a", "b", "c"]),
    ("1. nul\x00 and\u202e turn", ["nul and turn"]),
    ("1. a.\u2028b\x0bc\r\n2. d.\u2029e.", ["a. b c", "d. e."]),
    ("I bought 2. Then 3. left", []),
    ("12:30 is the time", []),
    ("1.5 million people", []),
    ("Plain line", []),
    ("", []),
]


@pytest.mark.parametrize(("answer", "items"), LISTS)
def test_lists_are_read_however_they_are_written(answer: str, items: list[str]) -> None:
    assert list(parse_list(answer, 3).items) == items


def test_a_bare_line_is_a_list_of_one_where_one_was_asked_for() -> None:
    assert parse_list("Plain line", 1).items == ("Plain line",)


@given(st.lists(st.from_regex(r"[A-Za-z][a-z ]{2,40}[a-z]", fullmatch=True), min_size=1, max_size=5))
def test_a_plain_numbered_list_is_read_back(items: list[str]) -> None:
    answer = "\n".join(f"{i}. {item}" for i, item in enumerate(items, 1))
    assert list(parse_list(answer, len(items)).items) == [" ".join(item.split()) for item in items]


@given(st.text(max_size=200))
def test_no_answer_breaks_the_reader(answer: str) -> None:
    assert len(parse_list(answer, 3).items) <= 3


class Scripted:
    """Answers from a list, one a request, and remembers what it was asked."""

    name = "scripted"

    def __init__(self, *answers: str | Completion | Failure) -> None:
        self.answers = [Completion(a, call_id="c") if isinstance(a, str) else a for a in answers]
        self.asked: list[Request] = []

    def complete_many(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        self.asked += requests
        return [self.answers.pop(0) for _ in requests]


PLAIN = Example(text="The train was late again.")


def test_teacher_keeps_counts_and_drops_with_reasons() -> None:
    long = " ".join(f"word{i}" for i in range(40))
    answers = [
        "1. My train treats its timetable as fan fiction.\n2. The train was late again!\n3. " + long,
        "I'm sorry, but I can't make jokes about that.",
        "1. A train so late it has a birthday.\n2. A train so late it has a birthday.\n3. ...",
        Failure("status 400: no", 400),
        Completion("1. Late? My train prefers fashionably delayed.\n2. My tra", finish="length"),
        "As an AI, I want to be careful.\n1. Ha.\n2. Ho.",
    ]
    examples = [Example(text=f"{PLAIN.text}{' ' * i}") for i in range(6)]
    taught = teach(Scripted(*answers), Task.load(), examples)  # type: ignore[arg-type]
    assert taught.counts == Yield(
        asked=6, answered=3, refused=2, failed=1, items=8, kept=3,
        dropped={"copy": 1, "too long": 1, "duplicate": 1, "symbols": 1, "truncated": 1}, reasons={"status 400: no": 1},
    )  # fmt: skip
    assert [r.author for r in taught.responses] == ["teacher:scripted"] * 3
    assert taught.responses[0].call_id == "c"
    assert len({r.id for r in taught.responses}) == 3
    assert "refused 2, unreadable 0, failed 1; 8 paraphrases read, 3 kept" in taught.counts.line()


def test_each_place_of_the_list_is_asked_for_in_its_style_and_keeps_it() -> None:
    model = Scripted(
        "1. The train was late again, by choice.\n2. The train was late again!\n3. A train of excuses.\n4. Late."
    )
    taught = teach(model, Task.load(), [PLAIN], n=4)  # type: ignore[arg-type]
    asked = model.asked[0].messages[0].content
    lines = [f"{i}. {Task.load().styles[name].teacher}" for i, name in enumerate(["tag", "short", "free", "tag"], 1)]
    assert "\n".join(["Each has a way of its own:", "", *lines, ""]) in asked
    assert [(r.text, r.style) for r in taught.responses] == [
        ("The train was late again, by choice.", "tag"), ("A train of excuses.", "free"), ("Late.", "tag"),
    ]  # fmt: skip
    assert [(d.status, d.style) for d in taught.drops] == [(Status.COPY, "short")]
    only = Scripted("1. Late.")
    assert teach(only, Task.load().restricted(["short"]), [PLAIN], n=1).responses[0].style == "short"  # type: ignore[arg-type]
    assert "comic turn" not in only.asked[0].messages[0].content


def test_a_task_without_styles_is_asked_as_it_stands() -> None:
    model = Scripted("1. Late.\n2. Later.")
    assert [r.style for r in teach(model, Task.load("vivid"), [PLAIN], n=2).responses] == ["", ""]  # type: ignore[arg-type]


def test_an_unreadable_answer_is_asked_for_once_more_with_another_key() -> None:
    model = Scripted("no list here", "still none", "1. My train runs on excuses.", "nothing at all")
    taught = teach(model, Task.load(), [PLAIN, Example(text="It rained.")])  # type: ignore[arg-type]
    assert [request.sampling.index for request in model.asked] == [0, 0, 1, 1]
    assert (taught.counts.answered, taught.counts.unparsed) == (1, 1)
    assert [drop.status for drop in taught.drops] == [Status.UNPARSED]
    assert taught.responses[0].sampling is not None
    assert taught.responses[0].sampling.index == 1


def test_the_papers_setting_is_the_default() -> None:
    model = Scripted("1. a b c")
    teach(model, Task.load(), [PLAIN])  # type: ignore[arg-type]
    sampling = model.asked[0].sampling
    assert (sampling.temperature, sampling.top_p) == (0.8, 1.0)
    assert "3 times" in model.asked[0].messages[0].content


REFUSALS = [
    ("I'm sorry, but I can't make light of that.", True),
    ("I’m really sorry, but I cannot create jokes about grief.", True),
    ("I cannot fulfill your request. I'm just an AI.", True),
    ("As a responsible assistant I must point out", True),
    ("It is not appropriate to make jokes about death.", True),
    ("I'm sorry I was late, my cat ate the alarm clock.", False),
    ("I can't believe the train is late!", False),
    ("I won't help the printer again: it bites.", False),
    ("My boss is not a laughing matter, unless you see his tie.", False),
]


@pytest.mark.parametrize(("text", "refused"), REFUSALS)
def test_refusals_are_known_from_jokes(text: str, refused: bool) -> None:
    assert (Task.load().refused(text) is not None) == refused


def test_slots_in_a_users_sentence_stay_text() -> None:
    assert fill("{n} of {literal} {x}", n=3, literal="{n} {literal}") == "3 of {n} {literal} {x}"
    assert Task.load().prompt("It {literal} rained.") == "Plain: It {literal} rained.\nFunny tag:"


def test_task_errors_are_one_line() -> None:
    with pytest.raises(DataError, match=r"task 'humor' does not ship with the package\. Use one of humour"):
        Task.load("humor")
    tree = Task.load().model_dump(mode="json")
    for change, words in (
        ({"student_promt": "x"}, "unknown key 'student_promt', .*'student_prompt'"),
        ({"cloze": "{literal} and {text}."}, r"cloze must end with \{text\}"),
        ({"cloze": {"humour": "{literal} {text}"}}, "cloze lacks a template of the question overall"),
        ({"refusals": ["("]}, "is not a regular expression"),
        ({"name": "../x"}, "name"),
    ):
        with pytest.raises(RecipeError, match=words):
            Task.parse(tree | change, "mine.yaml")


def test_the_yield_of_a_live_teacher_is_told_and_told_again_on_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replies = {
        "trumpet": "1. A joke about a trumpet.\n2. My neighbour plays the trumpet at night.",
        "cat": "I'm sorry, but I can't make jokes about that.",
        "train": "nothing to say",
    }
    literals = ["My neighbour plays the trumpet at night.", "The cat died.", "The train was late.", "The rice burned."]

    def answer(body: dict[str, Any]) -> str:
        return next(reply for word, reply in replies.items() if word in body["messages"][-1]["content"])

    def fault(number: int, body: dict[str, Any]) -> str | None:
        return "400" if "rice" in body["messages"][-1]["content"] else None

    line = (
        "Teacher: asked 4, answered 1, refused 1, unreadable 1, failed 1; 2 paraphrases read, 1 kept, dropped: 1 copy; "
        "why, most often: status 400: fault 400 (1)."
    )
    with FaultyServer(answer, fault) as server:
        model = Chat(model="m", base_url=server.url)
        recipe = Recipe(name="x", teacher=ModelTeacher(model=model))
        for until in ("teach", None):
            with contextlib.suppress(StageReached), run_context(recipe, tmp_path, tmp_path, until=until) as ctx:
                teach_stage(ctx, recipe.teacher, [Example(text=text) for text in literals])
            assert line in capsys.readouterr().err
