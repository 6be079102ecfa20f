"""Who is chosen among samples, and files of sentences row by row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from quipwright.cli.app import app
from quipwright.core.errors import DamagedError, DataError
from quipwright.core.paths import resolve
from quipwright.core.records import Grade, Response, Sampling
from quipwright.core.table_files import read_table
from quipwright.core.table_writer import write_table
from quipwright.data.task import Task
from quipwright.serving.batch_files import Job, write_file
from quipwright.serving.export.origin import base_model
from quipwright.serving.writer import TASK_FILE, Writer, chosen
from quipwright.students.base import Generated, StudentSettings

LITERAL = "The bus was late again today."


class Longest:
    """Grades a text by its length."""

    def grade(self, literals: Sequence[str], responses: Sequence[Response]) -> list[Grade]:
        return [Grade(response_id=r.id, judge="longest", score=float(len(r.text))) for r in responses]


class Scripted:
    """A writer that answers ``SENTENCE!``, the last sentence first, and refuses long ones. ``asked``: all it was given.

    It is interrupted after ``patience`` answers.
    """

    task, name, seed, allow_sensitive = Task.load(), "scripted", 0, False

    def __init__(self, patience: int = 1000) -> None:
        self.asked: list[str] = []
        self.patience = patience

    def fingerprint(self) -> str:
        return "f"

    def stream(
        self, sentences: Sequence[str], *, n: int = 1, best_of: int = 0, style: str = ""
    ) -> Iterator[tuple[int, list[Generated]]]:
        if any(len(sentence) > 100 for sentence in sentences):
            raise DataError("It is too long.", "Shorten it.")
        return self._written(sentences, n, f" ({style})" if style else "!")

    def _written(self, sentences: Sequence[str], n: int, end: str) -> Iterator[tuple[int, list[Generated]]]:
        for i in reversed(range(len(sentences))):
            if self.patience == 0:
                raise KeyboardInterrupt
            self.patience -= 1
            self.asked.append(sentences[i])
            yield i, [Generated(f"{sentences[i]}{end}", sentences[i] == "Cut off")] * n


def run(
    source: Path, target: Path | None, writer: Scripted | None = None, form: str = "lines", **job: Any
) -> tuple[int, int]:
    return write_file(cast(Writer, writer or Scripted()), source, target, Job(**job), form)[:2]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_sentence_that_is_refused_stops_no_other_and_the_order_stays(tmp_path: Path) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    literals = [f"Sentence {chr(97 + i)}" if i != 5 else "long " * 30 for i in range(9)]
    source.write_text("\n".join(literals))
    assert run(source, target) == (8, 1)
    assert [row["literal"] for row in rows(target)] == [literal.strip() for literal in literals]
    assert rows(target)[5]["error"] == "It is too long."
    assert [row["humorous"] for row in rows(target) if "error" not in row] == [
        [f"{s}!"] for s in literals if len(s) < 100
    ]


def test_a_file_is_written_in_the_style_that_was_asked_for(tmp_path: Path) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("It rained.\nI am late.\n")
    assert run(source, target, style="short") == (2, 0)
    assert target.read_text() == "It rained. (short)\nI am late. (short)\n"
    with pytest.raises(DataError, match="has no style 'odd'"):
        run(source, tmp_path / "never.txt", style="odd")
    assert not (tmp_path / "never.txt").exists()


class Remembering:
    """A student that remembers what it was shown."""

    settings = StudentSettings()

    def __init__(self) -> None:
        self.shown: list[str] = []

    def write(self, prompts: Sequence[str], sampling: Sampling, k: int = 1) -> Iterator[tuple[int, list[Generated]]]:
        self.shown += prompts
        return ((i, [Generated("Ha.", False)] * k) for i in range(len(prompts)))


def test_a_writer_asks_its_student_for_the_style() -> None:
    student = Remembering()
    writer = Writer(cast(Any, student), Task.load().restricted(["short", "free"]))
    writer.write("It rained.")
    writer.write("It rained.", style="free")
    assert student.shown == ["Plain: It rained.\nFunny short:", "Plain: It rained.\nFunny free:"]
    with pytest.raises(DataError, match=r"no style 'tag'\. It has: short, free\."):
        writer.write("It rained.", style="tag")


def test_the_student_that_ships_is_shown_what_it_was_trained_with() -> None:
    tree = json.loads((resolve("bundled:student", "Student") / TASK_FILE).read_text(encoding="utf-8"))
    assert Task.parse(tree, TASK_FILE).prompt("It rained.") == "Plain: It rained.\nFunny tag:"


def test_copies_and_broken_texts_come_last_whatever_the_critic_says() -> None:
    texts = [Generated(t, False) for t in (LITERAL, "Bus?", "The bus runs on island time.", LITERAL, "")]
    texts.append(Generated("The bus is on an endless journey to nowhere and", True))
    critic = cast(Any, Longest())
    assert [g.text for g in chosen(LITERAL, texts, 5, 6, critic)] == [
        "The bus runs on island time.", "Bus?", "The bus is on an endless journey to nowhere and", LITERAL, "",
    ]  # fmt: skip
    assert [g.text for g in chosen(LITERAL, texts, 2, 5, None)] == ["Bus?", "The bus runs on island time."]


def test_a_bad_row_is_written_with_its_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "The soup was cold."}\n{"text": null}\n{"text": "..."}\n{"text": "I am late."}\n')
    assert run(source, target) == (2, 2)
    assert [row.get("humorous") for row in rows(target)] == [["The soup was cold.!"], None, None, ["I am late.!"]]
    assert "null" in rows(target)[1]["error"]
    assert rows(target)[2]["error"] == "no sentence in this row"
    with pytest.raises(DataError, match="exists already"):
        run(source, target)


def test_all_columns_stay_and_ours_give_way(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"id": 7, "said": "I am late.", "humorous": "old", "tags": ["a"]}\n{"id": 8}\n')
    assert run(source, target, column="said") == (1, 1)
    first, second = rows(target)
    assert first == {
        "id": 7, "said": "I am late.", "humorous": "old", "tags": ["a"], "literal": "I am late.",
        "humorous_2": ["I am late.!"],
    }  # fmt: skip
    assert second["id"] == 8
    assert "no field 'said'" in second["error"]


def test_a_repeated_sentence_gets_one_answer_and_a_cut_one_is_marked(tmp_path: Path) -> None:
    source, target, writer = tmp_path / "in.txt", tmp_path / "out.jsonl", Scripted()
    source.write_text("One.\nCut off\nOne.\n  One.\n")
    assert run(source, target, writer) == (4, 0)
    assert sorted(writer.asked) == ["Cut off", "One."]
    assert [row.get("truncated") for row in rows(target)] == [None, True, None, None]
    assert [row["humorous"] for row in rows(target)][2:] == [["One.!"], ["One.!"]]


@pytest.mark.parametrize(
    ("name", "content", "unread"),
    [
        ("in.csv", 'row,text\r\n1,I am late, again.\r\n2,"Fine, thanks."\r\n3\r\n', ["1,I am late, again.", "3"]),
        ("in.csv", 'row,text\n2,"Fine, thanks."\n3,"never\nended', ['3,"never\nended']),
        ("in.tsv", "row\ttext\n2\tFine, thanks.\n=1+1\tI am late.\tagain\n", ["=1+1\tI am late.\tagain"]),
        ("in.jsonl", '{"row": "2", "text": "Fine, thanks."}\n{"row": 3, "te\n["é"]\n', ['{"row": 3, "te', '["é"]']),
        ("in.json", '[{"row": "2", "text": "Fine, thanks."}, 7, {"a": "\\ud800"}]', ["7", '{"a": "\\ud800"}']),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_a_row_that_cannot_be_read_is_kept_as_it_stands(
    tmp_path: Path, name: str, content: str, unread: list[str], ending: str
) -> None:
    source, target = tmp_path / name, tmp_path / f"out.{ending}"
    source.write_bytes(content.encode())
    assert run(source, target) == (1, len(unread))
    written = [dict(row.fields) for row in read_table(target)]
    assert [row["row_2"] for row in written if row.get("row_2")] == unread
    assert all(bool(row.get("error")) == bool(row.get("row_2")) for row in written)
    (good,) = (row for row in written if row.get("humorous"))
    assert (good["row"], good["text"]) == ("2", "Fine, thanks.")


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_tables_go_in_and_out(tmp_path: Path, ending: str) -> None:
    first, target = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    table = [{"id": "1", "text": "I am\tlate, again."}, {"id": "2", "text": "..."}]
    write_table(first, ending, ("id", "text"), table)
    assert run(first, target, n=2) == (1, 1)
    read = [dict(row.fields) for row in read_table(target)]
    if ending == "parquet":
        assert [row["humorous"] for row in read] == [["I am\tlate, again.!"] * 2, None]
    else:
        assert [row["humorous"] for row in read] == ["I am\tlate, again.!"] * 2 + [""]
    assert [row["id"] for row in read] == (["1", "2"] if ending == "parquet" else ["1", "1", "2"])
    assert read[-1]["error"] == "no sentence in this row"


def test_a_file_of_which_no_row_can_be_used_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Writer, "load", lambda *_, **how: Scripted())
    source = tmp_path / "in.jsonl"
    for content, exit_code in (('{"text": null}\n', DataError.exit_code), ('{"text": null}\n{"text": "One."}\n', 0)):
        source.write_text(content)
        target = tmp_path / f"{exit_code}.jsonl"
        ended = CliRunner().invoke(app, ["write", "--input", str(source), "--output", str(target)])
        assert getattr(ended.exception, "exit_code", 0) == exit_code
        assert "not text" in rows(target)[0]["error"]  # the reason is in the output either way


def test_an_interrupted_file_goes_on_where_it_was(tmp_path: Path) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.csv"
    literals = [f"Sentence {chr(97 + i)}" for i in range(9)]
    source.write_text("\n".join(literals))
    with pytest.raises(KeyboardInterrupt):
        run(source, target, Scripted(patience=4))
    assert not target.exists()
    with pytest.raises(DataError, match=r"begun with another setting of -n\."):
        run(source, target, n=2)
    second = Scripted()
    assert run(source, target, second) == (9, 0)
    assert sorted(second.asked) == literals[:5]  # the last four were answered before
    assert [row.fields["literal"] for row in read_table(target)] == literals
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.csv"]


def test_what_is_kept_can_be_damaged_but_not_believed(tmp_path: Path) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.csv"
    source.write_text("One.")
    (tmp_path / ".out.csv.progress.jsonl").write_text("{}\n[1]\n")
    with pytest.raises(DamagedError, match="Remove it to begin anew"):
        run(source, target)


def test_no_spreadsheet_runs_what_a_student_wrote(tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text('text\n"=HYPERLINK(1) said the soup"\n')
    assert run(source, target) == (1, 0)
    head, row = target.read_text().splitlines()
    assert head == "text,humorous,truncated,declined,error"
    assert row == "'=HYPERLINK(1) said the soup,'=HYPERLINK(1) said the soup!,,,"


def test_standard_output_gets_the_form_that_was_asked_for(tmp_path: Path, capsysbinary: Any) -> None:
    source = tmp_path / "in.txt"
    source.write_text("One.\n...\n")
    assert run(source, None) == (1, 1)
    assert capsysbinary.readouterr() == (b"One.!\n\n", b"line 2: no sentence in this row\n")
    run(source, None, form="tsv")
    assert capsysbinary.readouterr().out == (
        b"literal\thumorous\ttruncated\tdeclined\terror\r\nOne.\tOne.!\t\t\t\r\n...\t\t\t\tno sentence in this row\r\n"
    )


class Short:
    """A student whose texts are as long as the limit allows; a whole one has 100 tokens."""

    settings = StudentSettings(context=150)

    def __init__(self, length: int) -> None:
        self.length, self.limits = length, list[int]()

    def prompt_ids(self, prompt: str) -> list[int]:
        return [0] * 20

    def write(self, prompts: Sequence[str], sampling: Sampling, k: int = 1) -> Iterator[tuple[int, list[Generated]]]:
        self.limits.append(sampling.max_tokens)
        cut = sampling.max_tokens < self.length
        return ((i, [Generated("x" * min(self.length, sampling.max_tokens), cut)]) for i in range(len(prompts)))


def test_an_answer_that_the_limit_cut_off_is_written_longer_or_marked() -> None:
    student = Short(100)
    (text,) = Writer(cast(Any, student), Task.load()).write(LITERAL)
    assert (text, student.limits) == ("x" * 100, [48, 130])  # what the context leaves, as 4 x 48 is more
    (text,) = Writer(cast(Any, Short(140)), Task.load()).write(LITERAL)
    assert text == "x" * 130 + "…"


def test_a_card_names_a_base_model_of_the_hub_only(tmp_path: Path) -> None:
    assert base_model("embedded") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert base_model("meta-llama/Llama-2-7b") == "meta-llama/Llama-2-7b"
    assert [base_model(path) for path in (str(tmp_path), "./weights/x", "~/weights/x")] == [None, None, None]
