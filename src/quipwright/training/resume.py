"""States a killed training goes on from: written whole or not at all, checked by hash, the newest complete one wins."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from quipwright.core.storage.files import disk_errors, file_sha256
from quipwright.training.early_stopping import ValidationPoint


@runtime_checkable
class Trainee(Protocol):
    """What can be trained: a student, or any module with named parameters that can be written and read back."""

    module: nn.Module

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name."""

    def save(self, folder: Path) -> None:
        """Write them to ``folder``."""

    def load(self, folder: Path) -> None:
        """Read them back."""


LogEntry = dict[str, int | float]
"""Figures of one step, by name."""


@dataclass
class TrainLog:
    """What happened: one entry a step (``step``, ``loss``, ``grad_norm``, ``lr``; ``validation`` at an epoch's end),
    and what a callback measured."""

    steps: list[LogEntry] = field(default_factory=list)
    points: list[ValidationPoint] = field(default_factory=list)

    @property
    def validation(self) -> list[float]:
        """The validation losses by epoch."""
        return [entry["validation"] for entry in self.steps if "validation" in entry]


class States:
    """The states of one training in ``folder``, one subfolder each."""

    def __init__(self, folder: Path) -> None:
        """``folder`` need not exist yet."""
        self.folder = folder

    def path(self, step: int) -> Path:
        """Where the state after ``step`` steps is."""
        return self.folder / f"step-{step:07d}"

    def newest(self) -> Path | None:
        """The newest state, complete or not."""
        return max(self.folder.glob("step-*"), default=None)

    def save(
        self, trainee: Trainee, optimiser: Any, parameters: dict[str, nn.Parameter], log: TrainLog, best: int | None
    ) -> None:
        """Write a complete state and remove all but the one before it and that of step ``best``."""
        final, partial = self.path(len(log.steps)), self.folder / "partial"
        with disk_errors(final):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            trainee.save(partial)
            save_file(_optimiser_tensors(optimiser, parameters), partial / "optimiser.safetensors")
            (partial / "state.json").write_text(json.dumps(asdict(log)), encoding="utf-8")
            files = {p.name: file_sha256(p) for p in sorted(partial.iterdir())}
            (partial / "sha256.json").write_text(json.dumps(files), encoding="utf-8")
            os.replace(partial, final)
        for old in sorted(self.folder.glob("step-*"))[:-2]:
            if best is None or old != self.path(best):
                shutil.rmtree(old)

    def restore(self, trainee: Trainee, optimiser: Any, parameters: dict[str, nn.Parameter]) -> TrainLog:
        """Load the newest complete state and return its log; an empty log where there is none."""
        for state in sorted(self.folder.glob("step-*"), reverse=True):
            if not _complete(state):
                shutil.rmtree(state, ignore_errors=True)  # another process may do so, too
                continue
            stored = json.loads((state / "state.json").read_text(encoding="utf-8"))
            trainee.load(state)
            _load_optimiser(load_file(state / "optimiser.safetensors"), optimiser, parameters)
            points = [ValidationPoint(p["number"], p["rate"], tuple(p["issues"])) for p in stored["points"]]
            return TrainLog(stored["steps"], points)
        return TrainLog()


def _optimiser_tensors(optimiser: Any, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {"rng": torch.get_rng_state()}
    for name, parameter in parameters.items():
        for key, value in optimiser.state[parameter].items():
            tensors[f"{name}/{key}"] = value.detach().cpu().contiguous()
    return tensors


def _load_optimiser(tensors: dict[str, Tensor], optimiser: Any, parameters: dict[str, nn.Parameter]) -> None:
    torch.set_rng_state(tensors.pop("rng"))
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        parameter = parameters[name]
        optimiser.state[parameter][key] = value if key == "step" else value.to(parameter.device)


def _complete(state: Path) -> bool:
    try:
        files = json.loads((state / "sha256.json").read_text(encoding="utf-8"))
        return all(file_sha256(state / name) == sha for name, sha in files.items())
    except (OSError, ValueError, AttributeError):
        return False
