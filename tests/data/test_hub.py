"""Hub rows become clean single sentences; Parquet reads as JSONL does; nothing stands in two splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quipwright.core.errors import DataError
from quipwright.data import examples
from quipwright.data.examples import DataSettings, load_data, load_examples, overview
from quipwright.data.hub import HubRow, clean_hub_rows, empathetic_turn, literals, samsum_turns, single_sentence


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  I lost   my keys on the way home. ", "I lost my keys on the way home."),
        ("I lost my keys today and I cried", "I lost my keys today and I cried"),
        ("I lost my keys. Then I found them again.", None),
        ("I lost my keys! (Again.) And once more!", None),
        ("It cost me 3.50 at the corner shop.", "It cost me 3.50 at the corner shop."),
        ("Too short for this.", None),
        (" ".join(["word"] * 31), None),
        (" ".join(["word"] * 30), " ".join(["word"] * 30)),
        ("Look at this <file_photo> from my last holiday", None),
        ("See www.example.org for all of the details", None),
        ("I am so happy about this today \U0001f600", None),
        ("... and then he just left me there", None),
        ("0049 172 555 0199 22 31 40", None),
    ],
)
def test_single_sentences(text: str, clean: str | None) -> None:
    assert single_sentence(text) == clean


@pytest.mark.parametrize(
    ("turn", "text", "clean"),
    [
        (1, "I went to the fireworks_comma_ with my best friend.", "I went to the fireworks, with my best friend."),
        (3, "There were a lot of people _comma_ but it felt lonely.", "There were a lot of people, but it felt lonely."),
        (2, "Was this a friend you were in love with?", None),
        (1, "Yes. It was really very sad for me.", None),
    ],
)  # fmt: skip
def test_empathetic_dialogues_are_speakers_turns_with_their_commas(turn: int, text: str, clean: str | None) -> None:
    assert empathetic_turn({"utterance_idx": turn, "utterance": text, "conv_id": "x"}) == clean


def test_samsum_turns_lose_names_files_and_smileys() -> None:
    dialogue = "\r\n".join(
        [
            "Amanda: I baked cookies for the whole office :-)",
            "Jerry: Sure!",
            "Amanda: <file_photo>",
            "Jerry B.: Can you bring me three of them tomorrow?",
            "Amanda: Yes. I will bring them in the morning.",
            "no colon in this line at all here",
        ]
    )
    assert list(samsum_turns({"dialogue": dialogue, "summary": "s"})) == [
        "I baked cookies for the whole office",
        "Can you bring me three of them tomorrow?",
    ]
    assert list(samsum_turns({"dialogue": None})) == []


def turn(text: str) -> dict[str, Any]:
    return {"utterance_idx": 1, "utterance": text}


SPLITS = {
    "train": [turn("I lost my keys again today."), turn("My boss shouted at me today."), turn("my boss shouted at me today.")],
    "validation": [turn("The cat ate my whole lunch.")],
    "test": [turn("I lost my keys again today."), {"utterance_idx": 2, "utterance": "That is a real pity, friend."}],
}  # fmt: skip


def test_no_literal_stands_in_two_splits_and_evaluation_keeps_it() -> None:
    rows = list(clean_hub_rows(SPLITS, None))
    assert [(row.text, row.split) for row in rows if not row.dropped] == [
        ("I lost my keys again today.", "test"),
        ("The cat ate my whole lunch.", "valid"),
        ("My boss shouted at me today.", "train"),
    ]
    assert [row for row in rows if row.dropped] == [
        HubRow("", "test", "no text that is one clean sentence"),
        HubRow("I lost my keys again today.", "train", "repeats another literal"),
        HubRow("my boss shouted at me today.", "train", "repeats another literal"),
    ]
    numbers = {"test": [{"text": "07 11 13 22 31 40"}, {"text": "Seven is my lucky number."}, {"text": None}]}
    assert [row.dropped for row in clean_hub_rows(numbers, None)] == [
        "no letter in it",
        "",
        "no text that is one clean sentence",
    ]
    with pytest.raises(DataError, match="splits other"):
        list(clean_hub_rows({"other": []}, None))


def test_other_columns_are_named_or_refused() -> None:
    assert list(literals({"quip": "Anything goes."}, "quip")) == ["Anything goes."]
    assert list(literals({"text": "Anything goes."}, None)) == ["Anything goes."]
    with pytest.raises(DataError, match=r"no text column; it has quip, n\. Name one with data.column"):
        list(literals({"quip": "x", "n": 1}, None))
    with pytest.raises(DataError, match=r"no column 'quib'; it has text"):
        list(literals({"text": "A misspelt column is not replaced by another."}, "quib"))
    with pytest.raises(DataError, match="utterance_idx is 'first'"):
        list(literals({"utterance": "x", "utterance_idx": "first"}, None))


def test_a_run_takes_hub_data_with_another_domain_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        "hub:ed": SPLITS,
        "hub:samsum": {"train": [{"dialogue": "A: I lost my keys again today.\nB: We could meet at the station."}]},
    }
    monkeypatch.setattr(examples, "hub_splits", lambda reference: sources[reference])
    loaded = load_data(DataSettings(path="hub:ed", ood_path="hub:samsum"))
    assert [(e.split, e.source) for e in loaded.examples] == [
        ("train", "hub:ed"),
        ("valid", "hub:ed"),
        ("test", "hub:ed"),
        ("ood", "hub:samsum"),
    ]
    assert loaded.dropped == {"repeats another literal": 3, "no text that is one clean sentence": 1}
    view = overview(loaded, shown=1)
    assert "left out: 3 (repeats another literal)" in view
    assert "ood: 1 literals, 6.0 words on average, from hub:samsum\n  We could meet at the station." in view


def test_parquet_reads_as_jsonl_does(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "data.parquet"
    parquet.write_table(arrow.table({"literal": ["I am late.", "It rains."], "split": ["test", "train"]}), path)
    assert [(e.text, e.split) for e in load_examples(DataSettings(path=str(path)))] == [
        ("It rains.", "train"),
        ("I am late.", "test"),
    ]
    with pytest.raises(DataError, match=r"row 1 has no field 'quip'; it has literal, split"):
        load_examples(DataSettings(path=str(path), column="quip"))
    path.write_bytes(b"not parquet")
    with pytest.raises(DataError, match="is not Parquet"):
        load_examples(DataSettings(path=str(path)))
    with pytest.raises(DataError, match="does not exist"):
        load_examples(DataSettings(path=str(tmp_path / "none.parquet")))


def test_the_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def fail(*_args: Any, **_named: Any) -> None:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"'a/b' could not be loaded: no network at all\. Check name and network\."):
        load_examples(DataSettings(path="hub:a/b@main"))
