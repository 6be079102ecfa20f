"""A run's data, or a file's, as a folder that ``datasets`` and TRL load: JSONL by split and a card."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from quipwright.core.errors import DataError, RunError
from quipwright.core.paths import resolve
from quipwright.core.records import Response
from quipwright.core.storage.files import disk_errors
from quipwright.core.storage.run_folder import recipe_dir_of
from quipwright.critics.from_run import verdicts_of_run
from quipwright.data.examples import DataSettings, load_examples, read_rows, split_of
from quipwright.data.exchange import kto_rows, preference_rows, sft_rows
from quipwright.data.run_summary import read_run
from quipwright.data.task import Task
from quipwright.data.verdicts import read_verdicts
from quipwright.serving.writer import is_run

Shape = Literal["dpo", "kto", "sft"]
SHAPES: tuple[Shape, ...] = ("dpo", "kto", "sft")
_SAID = {
    "dpo": "Each row has a `prompt`, the text that a judge preferred (`chosen`) and the other one (`rejected`).",
    "kto": "Each row has a `prompt`, a `completion` and its `label`: whether it won more comparisons than it lost.",
    "sft": "Each row has a `prompt` and a teacher's answer to it (`completion`).",
}
Rows = dict[str, list[dict[str, Any]]]


def export_data(source: str, target: Path, shape: Shape, task: Task | None, chat: bool = False) -> dict[str, int]:
    """Write the data of ``source`` to the new folder ``target``; returns the rows of each split.

    ``source``: a run, whose verdicts and teacher's texts are used, or a file of verdicts (``sft``: of a recorded teacher).
    ``task`` makes the prompts of a file; a run has its own. ``chat``: conversations instead of text. Raises
    :class:`RunError` where ``target`` holds something and :class:`DataError` where ``source`` has no such rows.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RunError(f"{target} is not an empty folder.", "Name a new folder.")
    if is_run(source):
        chosen = Task.parse(read_run(Path(source)).task, source)
        rows = (
            _taught_of_run(Path(source), chosen, chat) if shape == "sft" else _verdict_rows(source, chosen, shape, chat)
        )
    else:
        chosen = task or Task.load()
        rows = _taught_of_file(source, chosen, chat) if shape == "sft" else _verdict_rows(source, chosen, shape, chat)
    rows = {split: some for split, some in rows.items() if some}
    if not rows:
        raise DataError(f"{source} has no rows for --form {shape}.", "Name a run with verdicts, or a file of them.")
    partial = target.with_name(f".{target.name}.partial")
    with disk_errors(target):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for split, some in rows.items():
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in some)
            (partial / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        (partial / "README.md").write_text(data_card(chosen, shape, rows, chat), encoding="utf-8")
        os.replace(partial, target)
    return {split: len(some) for split, some in rows.items()}


def data_card(task: Task, shape: Shape, rows: Mapping[str, Sequence[Any]], chat: bool) -> str:
    """The card of a folder of data, with what ``datasets`` needs to load it."""
    size = sum(map(len, rows.values()))
    bounds = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")]
    head = {
        "task_categories": ["text-generation"],
        "tags": ["quipwright", task.name, "trl", shape],
        "size_categories": [next((name for most, name in bounds if size < most), "100K<n<1M")],
        "configs": [
            {"config_name": "default", "data_files": [{"split": s, "path": f"{s}.jsonl"} for s in rows]},
        ],
    }
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip()
    shown = json.dumps(next(iter(rows.values()))[0], ensure_ascii=False, indent=1)
    form = "conversations" if chat else "plain text: prompt and answer are joined as they stand"
    counted = ", ".join(f"{len(some)} {split}" for split, some in rows.items())
    return f"""\
---
{front}
---

# Data for the task `{task.name}` ({shape})

{_SAID[shape]} They are {form}; `literal` is the sentence without the prompt. Rows: {counted}. The texts were written by
language models and hold what such models write. State the licence of the sentences before you share them.

```json
{shown}
```
"""


def _verdict_rows(source: str, task: Task, shape: Shape, chat: bool) -> Rows:
    verdicts = verdicts_of_run(Path(source)) if is_run(source) else read_verdicts(resolve(source, "Verdicts"))
    make = kto_rows if shape == "kto" else preference_rows
    parts = {"train": "train", "test": "heldout"}
    return {name: make([v for v in verdicts if v.split == part], task, chat) for name, part in parts.items()}


def _taught_of_run(run: Path, task: Task, chat: bool) -> Rows:
    summary = read_run(run)
    examples = load_examples(DataSettings.model_validate(summary.recipe["data"]), recipe_dir_of(run))
    texts: dict[str, list[str]] = {}
    for response in summary.stage_rows(run, Response, "teach"):
        if response.usable:
            texts.setdefault(response.example_id, []).append(response.text)
    splits = dict.fromkeys(example.split for example in examples)
    return {
        split: sft_rows({e.text: texts[e.id] for e in examples if e.split == split and e.id in texts}, task, chat)
        for split in splits
    }


def _taught_of_file(source: str, task: Task, chat: bool) -> Rows:
    path = resolve(source, "Recorded teacher")
    taught: dict[str, dict[str, list[str]]] = {}
    for row in read_rows(path):
        texts = row.fields.get(task.output)
        if isinstance(texts, list):
            taught.setdefault(split_of(row, str(path)) or "train", {})[row.literal] = list(map(str, texts))
    return {split: sft_rows(texts, task, chat) for split, texts in taught.items()}
