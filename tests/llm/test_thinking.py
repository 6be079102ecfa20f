"""Reasoning is taken out of every reply where it enters, whichever way the model was asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.core.errors import ModelError
from quipwright.core.records import Example
from quipwright.data.task import Task
from quipwright.data.teacher import teach
from quipwright.llm.calls import Calls
from quipwright.llm.label_logprobs import read_choice
from quipwright.llm.offline_files import Files
from quipwright.llm.recorded import Recorded
from quipwright.llm.thinking import without_thinking
from quipwright.llm.types import Capabilities, ChatModel, Completion, Message, Token, complete
from quipwright.testing.asking import FAST, chat
from quipwright.testing.faulty_server import FaultyServer

THOUGHTS = [
    ("<think>2? No.</think>1", "1"),
    ("<think>\n\n</think>\n\n2", "2"),
    ("<THINKING> Answer: 2 </THINKING> Answer: 1", "Answer: 1"),
    ("Answer: 2 would do, or rather not.\n</think>\n\nAnswer: 1", "Answer: 1"),
    ("<think>The user wants Answer: 1 or", ""),
    ("1. A joke.\n<think>was that one good?</think>2. A pun.", "1. A joke.\n2. A pun."),
    ("<think>a <think> b </think> c</think> d", "d"),
    ("[THINK]hm[/THINK]1", "1"),
    ("◁think▷hm◁/think▷1", "1"),
    ("<|channel|>analysis<|message|>Answer: 2?<|end|><|start|>assistant<|channel|>final<|message|>1", "1"),
    ('<reasoning effort="low">x</reasoning>1', "1"),
    ("I think 2 is thoughtful.", "I think 2 is thoughtful."),
    ("a < b, and b > c", "a < b, and b > c"),
]


@pytest.mark.parametrize(("said", "left"), THOUGHTS)
def test_thinking_is_no_part_of_an_answer(said: str, left: str) -> None:
    cleaned = without_thinking(Completion(said))
    assert cleaned.text == left
    assert cleaned.thought == (said != left)
    assert without_thinking(cleaned) == cleaned


@given(st.text(alphabet="ab <>/think\n", max_size=80))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    once = without_thinking(Completion(text))
    assert without_thinking(once).text == once.text


def test_a_label_is_read_from_the_tokens_of_the_answer_and_not_from_those_of_the_thought() -> None:
    said = ["<think>", "2", "</think>", "1"]
    tokens = tuple(Token(text, -0.1, ((text, -0.1), ("2" if text == "1" else "1", -2.4))) for text in said)
    answer = without_thinking(Completion("".join(said), tokens=tokens))
    assert [token.text for token in answer.tokens or ()] == ["1"]
    choice = read_choice(answer, ("1", "2"))
    assert choice.probabilities is not None
    assert choice.probabilities[0] == pytest.approx(0.909, abs=1e-3)  # e^-0.1 / (e^-0.1 + e^-2.4)


def test_every_way_into_the_house_takes_it_out(tmp_path: Path) -> None:
    asked = [Message("user", "q")]
    with FaultyServer(lambda body: "<think>no</think>yes") as server, Calls.open(tmp_path / "http") as calls:
        served = chat(server, record="r.jsonl", capabilities=Capabilities()).build(calls)
        assert complete(served, asked).text == "yes"
    with Calls.open(tmp_path / "again", base=tmp_path) as calls:
        recording = tmp_path / "http" / "recordings" / "r.jsonl"
        entry = json.loads(recording.read_text().splitlines()[-1])
        entry["reply"]["text"] = "no, rather\n</think>yes"  # as written by an earlier version, or by hand
        recording.write_text(json.dumps(entry) + "\n")
        assert complete(Recorded(path=str(recording)).build(calls), asked).text == "yes"
        files = Files(model="m", answers="a.jsonl")
        key = json.loads(_question(files.build(calls), calls, asked))["custom_id"]
        (tmp_path / "a.jsonl").write_text(json.dumps({"custom_id": key, "text": "<think>no</think>yes"}))
        assert complete(files.build(calls), asked).text == "yes"


def _question(model: ChatModel, calls: Calls, asked: list[Message]) -> str:
    with pytest.raises(ModelError, match="1 questions for m wait"):
        complete(model, asked)
    return (calls.folder / "batches" / "questions.jsonl").read_text()


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize(
    ("content", "finish"), [("", "length"), (None, "stop"), (None, "length"), ("<think>So", "length")]
)
def test_an_answer_eaten_by_reasoning_names_the_limit_and_is_asked_and_paid_once(
    content: str | None, finish: str, field: str, tmp_path: Path
) -> None:
    reply = {"choices": [{"message": {"content": content, field: "Let me think."}, "finish_reason": finish}]}
    task = Task.load()
    with FaultyServer(lambda body: reply) as server:
        for _ in range(2):
            with Calls.open(tmp_path) as calls:
                model = chat(server, capabilities=Capabilities(), retry=FAST).build(calls)
                taught = teach(model, task, [Example(text="It rained.")])
        assert len(server.bodies) == 1
    assert (taught.counts.unparsed, taught.counts.failed) == (1, 0)
    assert f"max_tokens: {task.teacher.max_tokens}" in taught.counts.line()


def test_an_answer_without_reasoning_says_only_that_it_is_empty() -> None:
    assert Completion("").why_empty(9) == "an empty answer"
    assert Completion("", "length").why_empty(9) == "no answer within max_tokens: 9"
    assert Completion("", "length", thought=True).why_empty(9) == (
        "no answer within max_tokens: 9, all of which went into thinking"
    )
    assert Completion("1").why_empty(9) == ""
