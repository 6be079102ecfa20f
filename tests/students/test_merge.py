"""A student that is opened to write only is, bit for bit, the one that is opened in full and settled."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch

from quipwright.core.records import Sampling
from quipwright.students.base import LoRA, Student, StudentSettings
from quipwright.students.common import WEIGHTS_FILE
from quipwright.students.load import open_merged, open_student
from quipwright.students.trained_file import read_trained, write_trained


def trained(settings: StudentSettings, folder: Path) -> Student:
    """A student whose adapters are random, saved to ``folder``."""
    student = open_student(settings)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in student.trainable().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    student.save(folder)
    return student


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_weights_and_the_texts_are_the_same(
    tiny_weights: Path, tmp_path: Path, precision: Literal["bf16", "fp32"]
) -> None:
    settings = StudentSettings(weights=str(tiny_weights), tuning=LoRA(rank=2, alpha=6), precision=precision, context=96)
    full = trained(settings, tmp_path)
    with torch.no_grad():
        plain = {name: value.clone() for name, value in open_student(settings).module.state_dict().items()}
    full.settle()
    merged = open_merged(settings, tmp_path / WEIGHTS_FILE)
    assert merged is not None
    merged.settle()
    expected, weights = full.module.network.state_dict(), merged.module.network.state_dict()
    assert expected.keys() == weights.keys()
    assert all(torch.equal(expected[name], weights[name]) for name in expected)
    changed = [n for n, value in weights.items() if not torch.equal(value, plain.get(f"network.{n}", value))]
    assert not changed or all("proj" in name for name in changed)
    prompts, sampling = ["Plain: The cat ate my sandwich.\nFunny:"], Sampling(beams=3, max_tokens=12)
    assert merged.generate(prompts, sampling) == full.generate(prompts, sampling)


def test_an_adapter_that_does_not_fit_is_left_to_the_one_that_says_why(tiny_weights: Path, tmp_path: Path) -> None:
    settings = StudentSettings(weights=str(tiny_weights), tuning=LoRA(rank=2, alpha=6), context=96)
    trained(settings, tmp_path)
    tensors, base = read_trained(tmp_path / WEIGHTS_FILE)
    first = next(iter(tensors))
    for number, (changed, of) in enumerate(
        [
            (tensors, "other weights"),
            ({n: t for n, t in tensors.items() if n != first}, base),
            ({**tensors, "base_model.model.more.lora_A.default.weight": tensors[first].clone()}, base),
            ({**tensors, first: tensors[first] * float("nan")}, base),
            ({**tensors, first: tensors[first][:1]}, base),
        ]
    ):
        file = tmp_path / f"{number}.safetensors"
        write_trained(file, changed, of)
        assert open_merged(settings, file) is None, number
    assert open_merged(settings.model_copy(update={"tuning": "full"}), tmp_path / WEIGHTS_FILE) is None
