"""Weights are what their files say: content is their identity, and files that lack or add tensors are refused."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from quipwright.core.errors import WeightsError
from quipwright.students.base import LoRA, StudentSettings
from quipwright.students.load import open_student
from quipwright.students.weights import known_sha256, load, weights_identity
from quipwright.testing.tiny_models import ROWS, causal_student


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("QUIPWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights of a tiny Llama and its tokenizer."""
    student = causal_student()
    for part in (student.network, student.tokenizer):
        part.save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


def settings(folder: Path | str) -> StudentSettings:
    return StudentSettings(weights=str(folder), precision="fp32", tuning="full", context=64)


def changed(folder: Path, change: dict[str, torch.Tensor | None]) -> None:
    """Replace tensors of the weights file by name; ``None`` takes one out."""
    path = folder / "model.safetensors"
    tensors = load_file(path) | {name: tensor for name, tensor in change.items() if tensor is not None}
    for name, tensor in change.items():
        if tensor is None:
            del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})


GATE = "model.layers.1.mlp.gate_proj.weight"


def test_missing_tensors_are_named(folder: Path) -> None:
    changed(folder, {GATE: None, "model.norm.weight": None})
    with pytest.raises(WeightsError, match=rf"lack tensors: {GATE}, model.norm.weight\. Download"):
        open_student(settings(folder))


def test_tensors_left_over_are_named(folder: Path) -> None:
    changed(folder, {"model.layers.2.mlp.gate_proj.weight": torch.zeros(48, 32)})
    with pytest.raises(WeightsError, match=r"no place for: model.layers.2.mlp.gate_proj.weight\."):
        open_student(settings(folder))


def test_a_tensor_of_another_shape_is_refused(folder: Path) -> None:
    changed(folder, {GATE: torch.zeros(3, 3)})
    with pytest.raises(WeightsError, match=GATE):
        open_student(settings(folder))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(folder: Path, value: float) -> None:
    tensor = load_file(folder / "model.safetensors")[GATE]
    tensor[0, 0] = value
    changed(folder, {GATE: tensor})
    with pytest.raises(WeightsError, match=f"not finite, in: {GATE}"):
        open_student(settings(folder))


def test_an_adapter_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    student = causal_student(tuning=LoRA(rank=2, alpha=4))
    with torch.no_grad():
        next(iter(student.trainable().values()))[0, 0] = math.nan
    student.save(tmp_path / "s")
    with pytest.raises(WeightsError, match="not finite"):
        causal_student(tuning=LoRA(rank=2, alpha=4)).load(tmp_path / "s")


def test_a_relative_folder_is_seen_from_the_recipe(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    student = open_student(settings("weights"), recipe_dir=tmp_path)
    with torch.no_grad():
        assert student.logprobs(student.collate(ROWS[2:])).tokens.tolist()
    assert weights_identity("weights", recipe_dir=tmp_path) == weights_identity(str(folder))
    with pytest.raises(WeightsError, match="is no folder"):
        open_student(settings("./weights"))


def test_identity_is_content_not_name(folder: Path, tmp_path: Path) -> None:
    before = weights_identity(str(folder))
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert weights_identity(str(copy)) == before
    (folder / "README.md").write_text("notes")
    assert weights_identity(str(folder)) == before
    changed(folder, {"model.norm.weight": torch.full((32,), 2.0)})
    assert weights_identity(str(folder)) != before
    assert len(weights_identity("embedded")) == 16


def test_a_hash_is_remembered_until_the_file_changes(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "model.safetensors"
    first = known_sha256(path)
    monkeypatch.setattr("quipwright.students.weights.file_sha256", lambda _: "computed again")
    assert known_sha256(path) == first
    os.utime(path, (1, 1))
    assert known_sha256(path) == "computed again"
    (cache / "hashes.json").write_text("[torn")
    assert known_sha256(path) == "computed again"


def test_what_the_library_warns_is_wrong_is_an_error(folder: Path) -> None:
    class Warns:
        @staticmethod
        def from_pretrained(*_: object, **__: object) -> str:
            from transformers.utils import logging

            logging.get_logger("transformers.test").warning("This will lead to incorrect tokenization.")
            return "loaded"

    with pytest.raises(WeightsError, match="load with a warning: This will lead to incorrect tokenization"):
        load(Warns, str(folder), None)
