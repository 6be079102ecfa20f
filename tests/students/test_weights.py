"""Weights are what their files say: content is their identity, and files that lack or add tensors are refused."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from quipwright.core.errors import DiskError, WeightsError
from quipwright.students.base import LoRA, StudentSettings
from quipwright.students.load import open_student
from quipwright.students.trained_file import write_trained
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


@pytest.mark.parametrize("tuning", [LoRA(rank=2, alpha=4), "full"])
def test_trained_tensors_are_read_on_the_weights_that_they_were_trained_on_only(
    folder: Path, tmp_path: Path, tuning: LoRA | Literal["full"]
) -> None:
    how = settings(folder).model_copy(update={"tuning": tuning})
    trained, copy = open_student(how), tmp_path / "elsewhere"
    trained.save(tmp_path / "s")
    shutil.copytree(folder, copy)
    open_student(how.model_copy(update={"weights": str(copy)})).load(tmp_path / "s")  # content counts, not the place
    changed(folder, {"model.norm.weight": torch.full((32,), 2.0)})
    with pytest.raises(WeightsError, match=r"student\.safetensors was trained on weights .* of other content"):
        open_student(how).load(tmp_path / "s")


def test_a_file_that_does_not_tell_its_base_is_read(folder: Path, tmp_path: Path) -> None:
    student = open_student(settings(folder))
    tensors = {name: p.detach() + 1 for name, p in student.trainable().items()}
    (tmp_path / "s").mkdir()
    write_trained(tmp_path / "s" / "student.safetensors", tensors, "")
    student.load(tmp_path / "s")
    assert all(torch.equal(p, tensors[name]) for name, p in student.trainable().items())


def test_a_torn_file_of_trained_tensors_is_told(folder: Path, tmp_path: Path) -> None:
    student = open_student(settings(folder))
    student.save(tmp_path / "s")
    path = tmp_path / "s" / "student.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(WeightsError, match=r"student\.safetensors cannot be read: "):
        student.load(tmp_path / "s")


def test_a_home_that_cannot_be_written_costs_only_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights_identity(str(folder))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QUIPWRIGHT_CACHE", str(tmp_path / "file" / "cache"))
    assert weights_identity(str(folder)) == before
    student = open_student(settings(folder))
    assert student.prompt_ids("I am late.")
    with pytest.raises(DiskError, match="Set QUIPWRIGHT_CACHE to a folder you may write"):
        open_student(settings("embedded"))


def test_files_that_are_gone_are_not_remembered(folder: Path, cache: Path) -> None:
    weights_identity(str(folder))
    shutil.rmtree(folder)
    (cache / "new").write_text("x")
    known_sha256(cache / "new")
    assert list(json.loads((cache / "hashes.json").read_text())) == [str(cache / "new")]


def test_equal_tensors_are_equal_files(tmp_path: Path) -> None:
    """Their hashes name checkpoints; a file of several facts beside its tensors differs from writing to writing."""
    for number in range(8):
        write_trained(tmp_path / str(number), {"b": torch.ones(2), "a": torch.zeros(3)}, "base")
    assert len({(tmp_path / str(number)).read_bytes() for number in range(8)}) == 1
