"""The one training loop, on Accelerate: imitation, DPO and BRIO differ only in their rows and their objective.

A step's gradient is the mean over its rows, whatever the micro-batch and the number of processes. The loop can be
killed at any instant: it goes on from the newest complete state and ends with the same weights, bit for bit on CPU.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from quipwright.core.errors import RecipeError, TrainingError
from quipwright.core.progress import Step
from quipwright.core.settings import Settings
from quipwright.core.storage.files import disk_errors, file_sha256
from quipwright.students.base import Prompted, Student
from quipwright.students.batches import LogProbs
from quipwright.training.objectives import BRIO, DPO, MLE, SimPO
from quipwright.training.rounds import Probe, Reading, best_round, out_of_patience

AnyObjective = MLE | DPO | SimPO | BRIO


class TrainSettings(Settings):
    """How to train: ``batch`` rows a step in micro-batches of ``micro_batch``; linear warm-up, then linear decay to 0.

    ``dropout`` False trains with the network in evaluation mode, so that a policy equal to its reference has a DPO
    loss of exactly ln 2. ``save_every`` steps between states to resume from.
    """

    epochs: float = Field(2.0, gt=0)
    batch: int = Field(16, ge=1)
    micro_batch: int = Field(8, ge=1)
    lr: float = Field(1e-3, gt=0)
    warmup: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0)
    dropout: bool = False
    save_every: int = Field(20, ge=1)


@dataclass
class TrainLog:
    """What happened: one entry a step (``step``, ``loss``, ``grad_norm``, ``lr``; ``validation`` at an epoch's end), and
    what a probe read, by step."""

    steps: list[dict[str, float]] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)

    @property
    def validation(self) -> list[float]:
        """The validation losses by epoch."""
        return [entry["validation"] for entry in self.steps if "validation" in entry]


@dataclass(frozen=True)
class Reference:
    """Frozen log-probabilities of the rows' responses, row by row: totals in nats, ``rows x k``."""

    total: Tensor
    tokens: Tensor


def train(
    student: Student,
    rows: Sequence[Prompted],
    objective: AnyObjective,
    settings: TrainSettings,
    folder: Path,
    *,
    seed: int,
    reference: Reference | None = None,
    validation: Sequence[Prompted] = (),
    probe: Probe | None = None,
    step_done: Step | None = None,
    logged: Callable[[dict[str, float]], None] = lambda entry: None,
) -> TrainLog:
    """Train ``student`` in place on ``rows``. Raises :class:`TrainingError` at the first loss or gradient not finite.

    ``logged`` is given every entry of the log once it is complete, those of an interrupted run first.
    With a ``probe`` it is measured after each epoch, training may stop early, and the weights of the best epoch are
    what it ends with (see ``Watch``).
    """
    _check(rows, objective, reference)
    objective = measured(objective, student, rows)
    loop = _Loop(student, rows, objective, settings, folder, seed, reference, probe)
    loop.restore()
    if step_done and loop.step:
        step_done(loop.step)
    for entry in loop.log.steps:
        logged(entry)
    while loop.step < loop.total and not loop.out_of_patience():
        loop.advance()
        if loop.at_epoch_end() and validation:
            loop.log.steps[-1]["validation"] = mle_loss(student, validation, settings.micro_batch)
        logged(loop.log.steps[-1])
        if loop.at_epoch_end() and probe:
            loop.measure(probe)
        elif loop.step % settings.save_every == 0 and loop.step < loop.total:
            loop.save()
        if step_done:
            step_done(1, f"loss {loop.log.steps[-1]['loss']:.3f}")
    loop.finish()
    return loop.log


def total_steps(rows: int, settings: TrainSettings) -> int:
    """Optimiser steps of a training run; an epoch's last step may hold fewer rows than the others."""
    return max(1, math.ceil(math.ceil(rows / settings.batch) * settings.epochs - 1e-9))


def measured(objective: AnyObjective, student: Student, rows: Sequence[Prompted]) -> AnyObjective:
    """``objective`` with BRIO's lambda filled in: mean response length in the student's tokens over ``rows``."""
    if not isinstance(objective, BRIO) or objective.mean_length is not None or objective.margin == "constant":
        return objective
    lengths = torch.cat([student.collate([row]).mask.sum(-1).flatten() for row in rows]).float()
    return objective.model_copy(update={"mean_length": round(float(lengths[lengths > 0].mean()), 6)})


@torch.no_grad()
def score_rows(
    student: Student, rows: Sequence[Prompted], micro_batch: int, step_done: Step | None = None
) -> Reference:
    """Log-probabilities of every response of ``rows`` under the student as it stands."""
    student.module.eval()
    width = max(len(row.responses) for row in rows)
    totals, tokens = torch.zeros(len(rows), width), torch.zeros(len(rows), width)
    for start in range(0, len(rows), micro_batch):
        part = rows[start : start + micro_batch]
        scored = student.logprobs(student.collate(part))
        totals[start : start + len(part), : scored.total.shape[1]] = scored.total.float().cpu()
        tokens[start : start + len(part), : scored.total.shape[1]] = scored.tokens.float().cpu()
        if step_done:
            step_done(len(part))
    return Reference(totals, tokens)


def mle_loss(student: Student, rows: Sequence[Prompted], micro_batch: int) -> float:
    """Negative log-likelihood in nats per token over all responses of ``rows``."""
    scored = score_rows(student, rows, micro_batch)
    return float(-scored.total.sum() / scored.tokens.sum())


def _check(rows: Sequence[Prompted], objective: AnyObjective, reference: Reference | None) -> None:
    if not rows:
        raise TrainingError(
            "There is nothing to train on: 0 rows.", "Lower the critic's margin or sample more examples."
        )
    if min(len(row.responses) for row in rows) < objective.min_columns:
        raise RecipeError(
            f"objective {objective.kind} needs {objective.min_columns} responses a row.", "Sample k >= 2."
        )
    if objective.needs_reference and (reference is None or reference.total.shape[0] != len(rows)):
        raise TrainingError("The reference's log-probabilities do not match the rows.", "Compute them for these rows.")


class _Loop:
    """State of one training run: where it is, and how to go one step on."""

    def __init__(
        self,
        student: Student,
        rows: Sequence[Prompted],
        objective: AnyObjective,
        settings: TrainSettings,
        folder: Path,
        seed: int,
        reference: Reference | None,
        probe: Probe | None,
    ) -> None:
        self.watch = probe.watch if probe else None
        self.student, self.rows, self.objective, self.settings = student, rows, objective, settings
        self.folder, self.seed, self.reference = folder / "resume", seed, reference
        self.total = total_steps(len(rows), settings)
        self.per_epoch = math.ceil(len(rows) / settings.batch)
        self.step, self.log = 0, TrainLog()
        self.accelerator = Accelerator()
        self.parameters = student.trainable()
        optimiser = torch.optim.AdamW(self.parameters.values(), settings.lr, weight_decay=settings.weight_decay)
        self.module, self.optimiser = self.accelerator.prepare(student.module, optimiser)
        student.module = self.module
        torch.manual_seed(seed)

    def advance(self) -> None:
        """One optimiser step."""
        self.module.train(self.settings.dropout)
        lr = self._lr()
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        indices = self._rows_of_step()
        world, mine = self.accelerator.num_processes, self.accelerator.process_index
        parts = _split(indices[mine::world], self.settings.micro_batch)
        most = math.ceil(math.ceil(len(indices) / world) / self.settings.micro_batch)
        idle = most - len(parts)  # every process makes as many passes, or one would wait for a partner for ever
        parts += [indices[:1]] * idle
        loss = 0.0
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.module):
                batch = self.student.collate([self.rows[i] for i in part])
                value = self._loss(batch, part, idle=number >= most - idle)
                # Gradients are averaged over processes, so each process's share is scaled up by their number.
                self.accelerator.backward(value.sum() * (world / len(indices)))
                loss += float(value.detach().sum())
        loss = float(self.accelerator.reduce(torch.tensor(loss, device=self.accelerator.device), "sum")) / len(indices)
        norm = float(self.accelerator.clip_grad_norm_(self.parameters.values(), self.settings.clip) or 0.0)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise TrainingError(
                f"Step {self.step + 1} of {self.total}: loss {loss}, gradient norm {norm}; training stopped.",
                f"The last good state is kept ({self._kept()}); lower the learning rate and start a new run.",
            )
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        self.log.steps.append({"step": self.step, "loss": loss, "grad_norm": norm, "lr": lr})

    def _loss(self, batch: Any, part: Sequence[int], *, idle: bool) -> Tensor:
        wants_uniform = getattr(self.objective, "label_smoothing", 0) > 0 and not isinstance(self.objective, DPO)
        policy = self.student.logprobs(batch, uniform=wants_uniform)
        reference = None
        if self.reference is not None:
            k, device = policy.total.shape[1], policy.total.device
            reference = LogProbs(self.reference.total[part, :k].to(device), self.reference.tokens[part, :k].to(device))
        value = self.objective(policy, reference, batch.rank.to(policy.total.device))
        return value * 0 if idle else value

    def _lr(self) -> float:
        warm = round(self.settings.warmup * self.total)
        if self.step < warm:
            return self.settings.lr * (self.step + 1) / warm
        return self.settings.lr * (self.total - self.step) / max(1, self.total - warm)

    def _rows_of_step(self) -> list[int]:
        """Row numbers of the coming step: each epoch is its own seeded shuffle; like lengths share a micro-batch."""
        epoch, place = divmod(self.step, self.per_epoch)
        order = torch.randperm(
            len(self.rows), generator=torch.Generator().manual_seed(self.seed * 1009 + epoch)
        ).tolist()
        chosen = order[place * self.settings.batch : (place + 1) * self.settings.batch]
        return sorted(chosen, key=lambda i: (sum(map(len, self.rows[i].responses)), i))

    def at_epoch_end(self) -> bool:
        """True after the last step of an epoch, and of the run."""
        return self.step % self.per_epoch == 0 or self.step == self.total

    def measure(self, probe: Probe) -> None:
        """Let ``probe`` read the student as it stands, and write that state."""
        self.student.trainable()  # what was generated with before is not these weights
        with torch.random.fork_rng():
            self.log.readings.append(probe.read(self.student, self.step))
        self.save()

    def out_of_patience(self) -> bool:
        """True where the probe's readings say that going on is no use."""
        return self.watch is not None and out_of_patience(self.log.readings, self.watch.patience)

    def best(self) -> int | None:
        """The step to keep, where the probe's readings name one."""
        keeps = self.watch is not None and self.watch.keep_best and self.log.readings
        return best_round(self.log.readings) if keeps else None

    def save(self) -> None:
        """Write a complete state and remove all but the one before it and the best one."""
        if not self.accelerator.is_main_process:
            return
        final = self._state(self.step)
        partial = self.folder / "partial"
        with disk_errors(final):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            self.student.save(partial)
            save_file(self._optimiser_tensors(), partial / "optimiser.safetensors")
            readings = [asdict(reading) for reading in self.log.readings]
            state = {"step": self.step, **vars(self.log), "readings": readings}
            (partial / "state.json").write_text(json.dumps(state), encoding="utf-8")
            files = {p.name: file_sha256(p) for p in sorted(partial.iterdir())}
            (partial / "sha256.json").write_text(json.dumps(files), encoding="utf-8")
            os.replace(partial, final)
        for old in sorted(self.folder.glob("step-*"))[:-2]:
            if old != self._state(self.best()):
                shutil.rmtree(old)

    def restore(self) -> None:
        """Go on from the newest complete state, if there is one."""
        for state in sorted(self.folder.glob("step-*"), reverse=True):
            if not _complete(state):
                shutil.rmtree(state)
                continue
            held = json.loads((state / "state.json").read_text(encoding="utf-8"))
            self.student.load(state)
            self._load_optimiser(load_file(state / "optimiser.safetensors"))
            readings = [Reading(r["round"], r["rate"], tuple(r["complaints"])) for r in held["readings"]]
            self.step, self.log = held["step"], TrainLog(held["steps"], readings)
            return

    def finish(self) -> None:
        """Hand the bare module back to the student, in evaluation mode, with the best weights where any are named."""
        if (best := self.best()) not in (None, self.step):
            self.accelerator.wait_for_everyone()
            self.student.load(self._state(best))
        self.student.module = cast(nn.Module, self.accelerator.unwrap_model(self.module)).eval()

    def _state(self, step: int | None) -> Path:
        return self.folder / f"step-{step or 0:07d}"

    def _optimiser_tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {"rng": torch.get_rng_state()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimiser.state[parameter].items():
                tensors[f"{name}/{key}"] = value.detach().cpu().contiguous()
        return tensors

    def _load_optimiser(self, tensors: dict[str, Tensor]) -> None:
        torch.set_rng_state(tensors.pop("rng"))
        for path, value in tensors.items():
            name, _, key = path.rpartition("/")
            parameter = self.parameters[name]
            self.optimiser.state[parameter][key] = value if key == "step" else value.to(parameter.device)

    def _kept(self) -> str:
        states = sorted(self.folder.glob("step-*"))
        return str(states[-1]) if states else "the checkpoint it started from"


def _complete(state: Path) -> bool:
    try:
        files = json.loads((state / "sha256.json").read_text(encoding="utf-8"))
        return all(file_sha256(state / name) == sha for name, sha in files.items())
    except (OSError, ValueError, AttributeError):
        return False


def _split(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    return [indices[i : i + size] for i in range(0, len(indices), size)]
