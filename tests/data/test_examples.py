"""Literals of a run: which field, which split, what is refused and what is left out by count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.errors import DataError
from quipwright.core.records import Example
from quipwright.data.checks import check_lengths, check_split
from quipwright.data.examples import DataSettings, load_data, load_examples, overview, place_of, read_rows


def jsonl(path: Path, *rows: Any) -> Path:
    """A JSONL file of ``rows``."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"text": None}, "line 2: field 'text' is null, not text"),
        ({"literal": 5}, "line 2: field 'literal' is a number, not text"),
        ({"literal": None, "text": "not taken for it"}, "line 2: field 'literal' is null, not text"),
        ({"literal": ["a"]}, "line 2: field 'literal' is a list, not text"),
        ({"utterance": "x", "n": 1}, "line 2 has no field 'literal' or 'text'; it has utterance, n"),
        ({"\x1b]0;title\x07": 1}, r"it has \x1b]0;title\x07"),
        ([1], "line 2 is a list, not an object"),
    ],
)
def test_a_bad_row_is_told_or_kept_with_its_reason(row: Any, told: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", {"text": "It rains."}, row, {"text": "I am late."})
    with pytest.raises(DataError) as caught:
        list(read_rows(path))
    assert told in str(caught.value)
    kept = list(read_rows(path, keep_bad=True))
    assert [r.literal for r in kept] == ["It rains.", "", "I am late."]
    assert [r.place for r in kept] == ["line 1", "line 2", "line 3"]
    assert told in str(kept[1].problem)


def test_a_named_column_is_the_only_one_looked_for(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", {"text": "It rains.", "said": "I am late."})
    assert [row.literal for row in read_rows(path, "said")] == ["I am late."]
    with pytest.raises(DataError, match="has no field 'sad'; it has text, said"):
        list(read_rows(path, "sad"))


def test_a_file_that_cannot_be_read_is_told_before_the_first_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_rows(tmp_path / "none.jsonl", keep_bad=True)


def test_splits_are_taken_or_follow_from_the_text(tmp_path: Path) -> None:
    rows = [{"text": f"Sentence number {i}."} for i in range(400)]
    examples = load_examples(DataSettings(path=str(jsonl(tmp_path / "d.jsonl", *rows))))
    counts = {split: sum(e.split == split for e in examples) for split in ("train", "valid", "test")}
    assert sum(counts.values()) == 400
    assert counts["train"] == pytest.approx(340, abs=25)  # 85 %, four standard deviations
    assert counts["test"] == pytest.approx(40, abs=24)  # 10 %
    given = [{"text": "It rains.", "split": "test"}, {"text": "I am late.", "split": ""}]
    splits = {e.text: e.split for e in load_examples(DataSettings(path=str(jsonl(tmp_path / "e.jsonl", *given))))}
    assert splits["It rains."] == "test"
    assert splits["I am late."] in ("train", "valid", "test")
    bad = jsonl(tmp_path / "f.jsonl", {"text": "It rains.", "split": "dev"})
    with pytest.raises(DataError, match=r"f\.jsonl line 1 has split 'dev'\. Use one of train, valid, test, ood"):
        load_examples(DataSettings(path=str(bad)))


def test_repeats_are_refused_or_counted(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", {"text": "It rains."}, {"text": "I am late."}, {"text": "it  RAINS."})
    with pytest.raises(DataError, match=r"d\.jsonl line 3 repeats the literal of line 1: 'it RAINS\.'"):
        load_data(DataSettings(path=str(path)))
    loaded = load_data(DataSettings(path=str(path), duplicates="drop"))
    assert [e.text for e in sorted(loaded.examples, key=lambda e: e.text)] == ["I am late.", "It rains."]
    assert loaded.dropped == {"repeats another literal": 1}
    assert overview(loaded).endswith("left out: 1 (repeats another literal)")


def test_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_text('{"literal": "I am late.", "split": "train"}\n')
    second.write_text('{"literal": "It rained.", "split": "train"}\n{"literal": "I AM late.", "split": "test"}\n')
    paths = (str(first), str(second))
    with pytest.raises(DataError) as caught:
        load_examples(DataSettings(path=paths))
    assert str(caught.value).startswith(f"{second} line 2 repeats the literal of {first} line 1: 'I AM late.'")
    loaded = load_data(DataSettings(path=paths, duplicates="drop"))
    assert [(e.text, e.source) for e in loaded.examples] == [
        ("I am late.", "first.jsonl"),
        ("It rained.", "second.jsonl"),
    ]
    assert loaded.dropped == {"repeats another literal": 1}


def test_a_second_source_is_the_ood_split(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", {"text": "It rains.", "split": "test"}, {"text": "It snows.", "split": "ood"})
    jsonl(tmp_path / "b.jsonl", {"text": "It rains."}, {"text": "I am late.", "split": "train"})
    loaded = load_data(DataSettings(path="a.jsonl", ood_path="b.jsonl"), tmp_path)
    assert [(e.text, e.split, e.source) for e in loaded.examples] == [
        ("It rains.", "test", "a.jsonl"),
        ("I am late.", "ood", "b.jsonl"),
    ]
    assert loaded.dropped == {
        "repeats another literal": 1,
        "split ood of the first source, because data.ood_path is set": 1,
    }


def test_an_overview_shows_no_escape_sequence(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", {"text": "A \x1b]0;PWNED\x07\x1b[2J sentence\u202e here.", "split": "train"})
    view = overview(load_data(DataSettings(path=str(path))))
    assert r"A \x1b]0;PWNED\x07\x1b[2J sentence\u202e here." in view
    assert all(character == "\n" or character.isprintable() for character in view)


def test_an_empty_split_is_told_before_anything_is_paid_for() -> None:
    examples = [Example(text="It rains.", split="test"), Example(text="I am late.", split="test")]
    check_split(examples, "test", "evaluation")
    with pytest.raises(DataError) as caught:
        check_split(examples, "train", "training")
    assert str(caught.value) == (
        "The data has no literal of split 'train', which training needs; it has 0 of valid, 2 of test, 0 of ood. "
        "Give some rows split 'train', leave the split of all rows open, or check data.train."
    )


def test_a_literal_longer_than_the_context_is_told_with_its_line(tmp_path: Path) -> None:
    long = "I am " + "very " * 20 + "late."
    path = jsonl(tmp_path / "d.jsonl", {"text": "It rains."}, {"text": long})
    settings = DataSettings(path="d.jsonl")
    examples = load_examples(settings, tmp_path)

    def count_tokens(text: str) -> int:
        return len(text.split())

    check_lengths(examples, count_tokens, 23, settings, tmp_path)
    with pytest.raises(DataError) as caught:
        check_lengths(examples, count_tokens, 22, settings, tmp_path)
    assert str(caught.value).startswith(
        f"{path} line 2 has a literal whose prompt is 23 tokens long; the student's context leaves 22: 'I am very"
    )
    assert place_of("Nobody wrote this.", settings, tmp_path) == "the data"
