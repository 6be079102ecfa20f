"""Weights and what enters them stand on one device: the meta device plays the GPU, and one mixed operation fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from quipwright.core.records import DiverseBeams, Sampling
from quipwright.critics.reward_model.critic import RewardModelCritic
from quipwright.critics.reward_model.groups import Compared, Graded, Group
from quipwright.critics.reward_model.training import group_loss
from quipwright.students.base import LoRA, StudentSettings
from quipwright.students.batches import LogProbs
from quipwright.students.engine import Engine
from quipwright.students.engine.probe import Finding
from quipwright.students.load import open_student
from quipwright.students.weights import device
from quipwright.testing.tiny_models import ROWS, causal_student, seq2seq_student
from quipwright.training.objectives import BRIO, DPO

MOVES = (torch.ops.aten._to_copy, torch.ops.aten.copy_)
VALUE = torch.ops.aten._local_scalar_dense.default


class OneDevice(TorchDispatchMode):
    """Fails at an operation whose tensors stand on two devices, unless it moves them. A value of the meta device, which
    has none, is false: transformers asks whether a mask is full."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        """See the class."""
        devices = {x.device.type for x in tree_leaves((args, named)) if isinstance(x, torch.Tensor) and x.ndim}
        assert len(devices) < 2 or func._overloadpacket in MOVES, f"{func} of tensors on {sorted(devices)}"
        return False if func is VALUE and args[0].is_meta else func(*args, **(named or {}))


class Entered(BaseException):
    """The network was reached."""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A process whose accelerator is the meta device, which knows all but autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *_args, **_named: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_args: False)
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    AcceleratorState._reset_state(True)
    yield torch.device("meta")
    monkeypatch.undo()
    AcceleratorState._reset_state(True)


def opened(family: str, folder: Path, tuning: LoRA | str = "full") -> Any:
    made = causal_student() if family == "llama" else seq2seq_student(family)
    for part in (made.network, made.tokenizer):
        part.save_pretrained(folder)
    kind = "causal" if family == "llama" else "seq2seq"
    return open_student(StudentSettings(kind=kind, weights=str(folder), tuning=tuning, precision="fp32"))


def test_accelerates_choice_is_followed(gpu: torch.device) -> None:
    assert device() == gpu


def test_there_is_no_gpu_here_or_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    AcceleratorState._reset_state(True)
    assert device() == torch.device("cpu")


@pytest.mark.parametrize("tuning", ["full", LoRA(rank=2)])
@pytest.mark.parametrize("family", ["llama", "bart", "t5"])
def test_an_opened_student_is_on_the_device_and_scores_there(
    gpu: torch.device, tmp_path: Path, family: str, tuning: Any
) -> None:
    student = opened(family, tmp_path, tuning)
    assert {p.device for p in student.module.parameters()} == {gpu}
    assert {p.device for p in student.trainable().values()} == {gpu}
    batch = student.collate(ROWS)
    assert batch.prompt.device.type == "cpu"
    with OneDevice():
        logprobs = student.logprobs(batch, uniform=True)
        reference = LogProbs(logprobs.total.detach(), logprobs.tokens.detach())
        rank = batch.rank.to(gpu)
        for objective in (DPO(), BRIO(mean_length=9.0)):
            objective(logprobs, reference, rank).sum().backward(retain_graph=True)
    assert {x.device for x in (logprobs.total, logprobs.tokens, logprobs.uniform)} == {gpu}
    assert {p.grad.device for p in student.trainable().values() if p.grad is not None} == {gpu}


@pytest.mark.parametrize("how", [Sampling(max_tokens=5), DiverseBeams(groups=2, penalty=1.0, max_tokens=5)])
@pytest.mark.parametrize("family", ["llama", "bart"])
@pytest.mark.parametrize("mode", ["mixed", "generate"])
def test_what_generation_gives_the_network_is_on_the_device(
    gpu: torch.device, tmp_path: Path, mode: Any, family: str, how: Any
) -> None:
    student = opened(family, tmp_path)
    seen: list[torch.device] = []

    def record(module: Any, args: Any, named: dict[str, Any]) -> None:
        seen.extend(x.device for x in tree_leaves((args, named)) if isinstance(x, torch.Tensor))
        raise Entered

    class Network(torch.nn.Module):
        generate = forward = lambda self, *args, **named: record(self, args, named)
        device, dtype, config = gpu, torch.float32, student.network.config
        get_encoder = get_input_embeddings = lambda self: self
        weight = torch.zeros(9, 9, device=gpu)

        def __init__(self) -> None:
            super().__init__()
            self.given = torch.nn.Parameter(torch.zeros(1, device=gpu))

    student._engine = Engine(Network(), student.opening or None, 2**30, Finding(mode))
    with pytest.raises(Entered):
        student.generate([row.prompt for row in ROWS], how)
    assert set(seen) == {gpu}


def test_a_distilled_critic_is_on_the_device_and_learns_there(gpu: torch.device, tiny_critic: Path) -> None:
    model = RewardModelCritic.load(tiny_critic).model.float()
    assert {p.device for p in model.parameters()} == {gpu}
    groups = [
        Group(
            "I missed the bus.",
            ["I walked.", "Bus gone."],
            pairs=[Compared(0, 1, 1.0, 1.0)],
            graded=[Graded(0, 2.5, 1.0)],
        ),
        Group("It rained.", ["Wet."], graded=[Graded(0, 1.0, 0.5)]),
    ]
    with OneDevice():
        loss = group_loss(model, model, groups, 1.5).mean()
        loss.backward()
    assert loss.device == gpu
