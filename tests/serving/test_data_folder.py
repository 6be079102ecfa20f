"""Folders of data: ``datasets`` loads them, and the commands lead there and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard

VERDICTS = [
    {"literal": f"It rains on day {i}.", "a": f"wet {i}", "b": f"dry {i}", "verdict": "ab"[i % 2],
     "split": "heldout" if i == 4 else "train"}
    for i in range(5)
]  # fmt: skip


@pytest.fixture
def verdicts(tmp_path: Path) -> Path:
    path = tmp_path / "verdicts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in VERDICTS))
    return path


def test_datasets_loads_what_is_written(quipwright: Any, verdicts: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    code, out, err = quipwright("export-data", verdicts, tmp_path / "dpo")
    assert (code, err) == (0, "")
    assert out.endswith("dpo: 4 rows train, 1 rows test\n")
    loaded = load_dataset(str(tmp_path / "dpo"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 4, "test": 1}
    assert loaded["train"][1] == {
        "prompt": "Plain: It rains on day 1.\nFunny tag:", "chosen": " dry 1", "rejected": " wet 1",
        "literal": "It rains on day 1.",
    }  # fmt: skip
    card = DatasetCard((tmp_path / "dpo" / "README.md").read_text())
    assert card.data.to_dict() == {
        "task_categories": ["text-generation"], "tags": ["quipwright", "humour", "trl", "dpo"],
        "size_categories": ["n<1K"],
        "configs": [{"config_name": "default", "data_files": [
            {"split": "train", "path": "train.jsonl"}, {"split": "test", "path": "test.jsonl"}]}],
    }  # fmt: skip


def test_rows_come_back_as_verdicts_and_as_a_recorded_teacher(quipwright: Any, verdicts: Path, tmp_path: Path) -> None:
    assert quipwright("export-data", verdicts, tmp_path / "kto", "--form", "kto", "--chat")[0] == 0
    assert quipwright("import-data", tmp_path / "kto" / "train.jsonl", tmp_path / "back.jsonl")[0] == 0
    back = [json.loads(line) for line in (tmp_path / "back.jsonl").read_text().splitlines()]
    assert [(row["a"], row["b"], row["verdict"]) for row in back] == [
        ("wet 0", "dry 0", "a"), ("dry 1", "wet 1", "a"), ("wet 2", "dry 2", "a"), ("dry 3", "wet 3", "a"),
    ]  # fmt: skip
    recorded = tmp_path / "teacher.jsonl"
    recorded.write_text('{"literal": "It rains.", "humorous": ["wet", "dry"], "split": "valid"}\n')
    assert quipwright("export-data", recorded, tmp_path / "sft", "--form", "sft")[0] == 0
    assert quipwright("import-data", tmp_path / "sft" / "valid.jsonl", tmp_path / "again.jsonl")[0] == 0
    assert json.loads((tmp_path / "again.jsonl").read_text()) == {"literal": "It rains.", "humorous": ["wet", "dry"]}


def test_the_forms_are_named(quipwright: Any, verdicts: Path, tmp_path: Path) -> None:
    code, _, err = quipwright("export-data", verdicts, tmp_path / "x", "--form", "ppo")
    assert (code, err) == (2, "quipwright: --form got 'ppo'. Use dpo, kto or sft.")
    assert quipwright("export-data", verdicts, verdicts)[0] == 4
