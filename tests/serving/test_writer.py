"""Who is chosen among samples, and files of sentences row by row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from quipwright.core.errors import DataError
from quipwright.core.records import Grade, Response
from quipwright.data.task import Task
from quipwright.serving.batch_files import write_file
from quipwright.serving.export.origin import base_model
from quipwright.serving.writer import Writer, chosen

LITERAL = "The bus was late again today."


class Longest:
    """Grades a text by its length."""

    def grade(self, literals: Sequence[str], responses: Sequence[Response]) -> list[Grade]:
        return [Grade(response_id=r.id, judge="longest", score=float(len(r.text))) for r in responses]


class Scripted:
    """A writer that answers ``SENTENCE!``, the last sentence first, and refuses long ones."""

    task = Task.load()

    def stream(self, sentences: Sequence[str], *, n: int = 1, best_of: int = 0) -> Iterator[tuple[int, list[str]]]:
        if any(len(sentence) > 100 for sentence in sentences):
            raise DataError("It is too long.", "Shorten it.")
        return ((i, [f"{sentences[i]}!"] * n) for i in reversed(range(len(sentences))))


def test_a_sentence_that_is_refused_stops_no_other_and_the_order_stays(tmp_path: Path) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    literals = [f"Sentence {chr(97 + i)}" if i != 5 else "long " * 30 for i in range(9)]
    source.write_text("\n".join(literals))
    assert write_file(cast(Writer, Scripted()), source, target, None, 1, 0) == (8, 1)
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["line"] for line in lines] == list(range(1, 10))
    assert lines[5]["error"] == "It is too long."
    assert [line["humorous"] for line in lines if "error" not in line] == [[f"{s}!"] for s in literals if len(s) < 100]


def test_copies_and_broken_texts_come_last_whatever_the_critic_says() -> None:
    texts = [LITERAL, "Bus?", "The bus runs on island time.", LITERAL, ""]
    critic = cast(Any, Longest())
    assert chosen(LITERAL, texts, 4, 5, critic) == ["The bus runs on island time.", "Bus?", LITERAL, ""]
    assert chosen(LITERAL, texts, 2, 5, None) == ["Bus?", "The bus runs on island time."]


def test_a_bad_row_is_written_with_its_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "The soup was cold."}\n{"text": null}\n{"text": "..."}\n{"text": "I am late."}\n')
    writer = cast(Writer, Scripted())
    assert write_file(writer, source, target, None, 1, 0) == (2, 2)
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row.get("humorous") for row in rows] == [["The soup was cold.!"], None, None, ["I am late.!"]]
    assert "null" in rows[1]["error"]
    assert rows[2]["error"] == "no sentence in this row"
    with pytest.raises(DataError, match="exists already"):
        write_file(writer, source, target, None, 1, 0)


def test_no_spreadsheet_runs_what_a_student_wrote(tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text('text\n"=HYPERLINK(1) said the soup"\n')
    assert write_file(cast(Writer, Scripted()), source, target, None, 1, 0) == (1, 0)
    head, row = target.read_text().splitlines()
    assert head == "literal,humorous,error"
    assert row == "'=HYPERLINK(1) said the soup,'=HYPERLINK(1) said the soup!,"


def test_a_card_names_a_base_model_of_the_hub_only(tmp_path: Path) -> None:
    assert base_model("embedded") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert base_model("meta-llama/Llama-2-7b") == "meta-llama/Llama-2-7b"
    assert [base_model(path) for path in (str(tmp_path), "./weights/x", "~/weights/x")] == [None, None, None]
