"""The one training loop, on Accelerate: SFT, DPO and BRIO differ only in their rows and their objective.

A step's gradient is the mean over its rows, whatever the micro-batch and the number of processes. The loop can be
killed at any instant: it goes on from the newest complete state and ends with the same weights, bit for bit on CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from jaxtyping import Float
from torch import Tensor, nn

from quipwright.core.errors import RecipeError, TrainingError
from quipwright.core.progress import Step
from quipwright.students.base import Prompted, Student
from quipwright.students.batches import LogProbs
from quipwright.students.scoring import Reference, mle_loss
from quipwright.training.early_stopping import EarlyStopping, ValidationCallback, best_point, out_of_patience
from quipwright.training.objectives import BRIO, DPO, KTO, AnyObjective
from quipwright.training.resume import LogEntry, States, Trainee, TrainLog
from quipwright.training.settings import TrainSettings, learning_rate, total_steps

RowLoss = Callable[[Sequence[int]], Float[Tensor, " part"]]
"""The loss of each of the rows with these numbers, with a graph."""


@dataclass(frozen=True)
class Hooks:
    """What is done between steps.

    ``epoch_done`` adds to the log entry of an epoch's last step. ``measure`` appends a validation point to the log at
    an epoch's end, and ``stopping`` says what follows from the points. ``logged`` is given every entry of the log once
    it is complete, those of an interrupted run first. ``step_done`` advances a progress bar.
    """

    epoch_done: Callable[[], LogEntry] | None = None
    measure: Callable[[TrainLog], None] | None = None
    stopping: EarlyStopping | None = None
    logged: Callable[[LogEntry], None] = lambda entry: None
    step_done: Step | None = None


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
    callback: ValidationCallback | None = None,
    step_done: Step | None = None,
    logged: Callable[[LogEntry], None] = lambda entry: None,
) -> TrainLog:
    """Train ``student`` in place on ``rows``. Raises :class:`TrainingError` at the first loss or gradient not finite.

    With a ``callback`` the student is measured after each epoch, training may stop early, and the weights of the best
    epoch are what it ends with (see ``EarlyStopping``).
    """
    _check(rows, objective, reference)
    objective = measured(objective, student, rows)
    wants_uniform = getattr(objective, "label_smoothing", 0) > 0 and not isinstance(objective, DPO)

    def loss(part: Sequence[int]) -> Tensor:
        batch = student.collate([rows[i] for i in part])
        policy = student.logprobs(batch, uniform=wants_uniform)
        frozen = None
        if reference is not None:
            k, device = policy.total.shape[1], policy.total.device
            frozen = LogProbs(reference.total[part, :k].to(device), reference.tokens[part, :k].to(device))
        return objective(policy, frozen, batch.rank.to(policy.total.device))

    def epoch_done() -> LogEntry:
        return {"validation": mle_loss(student, validation, settings.micro_batch_size)} if validation else {}

    def measure(log: TrainLog) -> None:
        student.trainable()  # the decoding engine does not hold these weights
        with torch.random.fork_rng():
            point = [cast(ValidationCallback, callback).measure(student, len(log.steps))]
            log.points += broadcast_object_list(point)  # or rounding might stop one process before another

    hooks = Hooks(
        epoch_done, measure if callback else None, callback.settings if callback else None, logged, step_done
    )  # fmt: skip
    sizes = [sum(map(len, row.responses)) for row in rows]
    return optimise(student, loss, sizes, settings, folder, seed=seed, hooks=hooks)


def optimise(
    trainee: Trainee,
    loss: RowLoss,
    sizes: Sequence[int],
    settings: TrainSettings,
    folder: Path | None,
    *,
    seed: int,
    hooks: Hooks = Hooks(),
) -> TrainLog:
    """Minimise ``loss`` over rows of ``sizes`` (any measure of length) in place.

    ``trainee.module`` is wrapped by Accelerate while this runs, so ``loss`` must call it from there. States go to
    ``folder``/resume; without a folder none is written. Raises :class:`TrainingError` at the first loss or gradient
    that is not finite.
    """
    loop = _Loop(trainee, loss, sizes, settings, folder, seed, hooks)
    if hooks.step_done and loop.step:
        hooks.step_done(loop.step)
    for entry in loop.log.steps:
        hooks.logged(entry)
    while loop.step < loop.total and not loop.out_of_patience():
        loop.advance()
        entry = loop.log.steps[-1]
        if loop.at_epoch_end() and hooks.epoch_done:
            entry |= hooks.epoch_done()
        hooks.logged(entry)
        if loop.at_epoch_end() and hooks.measure:
            hooks.measure(loop.log)
            loop.save()
        elif loop.step % settings.save_every == 0 and loop.step < loop.total:
            loop.save()
        if hooks.step_done:
            hooks.step_done(1, f"loss {entry['loss']:.3f}")
    loop.finish()
    return loop.log


def measured(objective: AnyObjective, student: Student, rows: Sequence[Prompted]) -> AnyObjective:
    """``objective`` with what is measured on ``rows`` filled in: BRIO's lambda, the mean response length in the
    student's tokens, and KTO's weight of desirable responses."""
    if isinstance(objective, KTO):
        return objective.balanced([row.ranks or range(len(row.responses)) for row in rows])
    if not isinstance(objective, BRIO) or objective.mean_length is not None or objective.margin == "constant":
        return objective
    lengths = torch.cat([student.collate([row]).mask.sum(-1).flatten() for row in rows]).float()
    return objective.model_copy(update={"mean_length": round(float(lengths[lengths > 0].mean()), 6)})


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


def _groups(parameters: dict[str, nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Parameter groups of AdamW: matrices decay, norms and biases do not."""
    spared = {name for name, p in parameters.items() if p.ndim < 2 or "bias" in name}
    groups = [
        {"params": [p for name, p in parameters.items() if name not in spared], "weight_decay": weight_decay},
        {"params": [p for name, p in parameters.items() if name in spared], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class _Loop:
    """State of one training run: where it is, and how to go one step on."""

    def __init__(
        self,
        trainee: Trainee,
        loss: RowLoss,
        sizes: Sequence[int],
        settings: TrainSettings,
        folder: Path | None,
        seed: int,
        hooks: Hooks,
    ) -> None:
        self.trainee, self.row_loss, self.sizes, self.settings = trainee, loss, sizes, settings
        self.seed, self.stopping = seed, hooks.stopping
        self.states = States(folder / "resume") if folder else None
        self.total = total_steps(len(sizes), settings)
        self.per_epoch = math.ceil(len(sizes) / settings.batch_size)
        self.accelerator = Accelerator()
        self.parameters = trainee.trainable()
        optimiser = torch.optim.AdamW(_groups(self.parameters, settings.weight_decay), settings.lr)
        self.module, self.optimiser = self.accelerator.prepare(trainee.module, optimiser)
        trainee.module = self.module
        torch.manual_seed(seed)
        self.log = self.states.restore(trainee, self.optimiser, self.parameters) if self.states else TrainLog()
        self.accelerator.wait_for_everyone()  # all go on from one state before a newer one is written

    @property
    def step(self) -> int:
        """How many optimiser steps are done."""
        return len(self.log.steps)

    def advance(self) -> None:
        """One optimiser step."""
        self.module.train(self.settings.dropout)
        lr = learning_rate(self.step, self.total, self.settings)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        loss = self._backward(self._rows_of_step())
        norm = float(self.accelerator.clip_grad_norm_(self.parameters.values(), self.settings.max_grad_norm) or 0.0)
        if not math.isfinite(loss) or not math.isfinite(norm):
            newest = self.states.newest() if self.states else None
            kept = (
                f"The last good state is kept ({newest or 'the checkpoint it started from'}); " if self.states else ""
            )
            raise TrainingError(
                f"Step {self.step + 1} of {self.total}: loss {loss}, gradient norm {norm}; training stopped.",
                f"{kept}Lower the learning rate and start a new run.",
            )
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.log.steps.append({"step": self.step + 1, "loss": loss, "grad_norm": norm, "lr": lr})

    def _backward(self, indices: Sequence[int]) -> float:
        """The mean loss of the rows ``indices`` over all processes, with its gradient in the parameters."""
        world, mine, size = (
            self.accelerator.num_processes, self.accelerator.process_index, self.settings.micro_batch_size,
        )  # fmt: skip
        shard = indices[mine::world]
        parts = [shard[i : i + size] for i in range(0, len(shard), size)]
        most = math.ceil(math.ceil(len(indices) / world) / size)
        idle = most - len(parts)  # every process makes as many passes, or one would wait for a partner for ever
        parts += [indices[:1]] * idle
        loss = 0.0
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.module):
                value = self.row_loss(part)
                value = value * 0 if number >= most - idle else value
                # Gradients are averaged over processes, so each process's share is scaled up by their number.
                self.accelerator.backward(value.sum() * (world / len(indices)))
                loss += float(value.detach().sum())
        total = self.accelerator.reduce(torch.tensor(loss, device=self.accelerator.device), "sum")
        return float(total) / len(indices)

    def _rows_of_step(self) -> list[int]:
        """Row numbers of the coming step: each epoch is its own seeded shuffle; like lengths share a micro-batch."""
        epoch, place = divmod(self.step, self.per_epoch)
        generator = torch.Generator().manual_seed(self.seed * 1009 + epoch)
        order = torch.randperm(len(self.sizes), generator=generator).tolist()
        chosen = order[place * self.settings.batch_size : (place + 1) * self.settings.batch_size]
        return sorted(chosen, key=lambda i: (self.sizes[i], i))

    def at_epoch_end(self) -> bool:
        """True after the last step of an epoch, and of the run."""
        return self.step % self.per_epoch == 0 or self.step == self.total

    def out_of_patience(self) -> bool:
        """True where the validation points say that going on is no use."""
        return self.stopping is not None and out_of_patience(self.log.points, self.stopping.patience)

    def best(self) -> int | None:
        """The step to keep, where validation points name one."""
        keeps = self.stopping is not None and self.stopping.keep_best and self.log.points
        return best_point(self.log.points) if keeps else None

    def save(self) -> None:
        """Write a complete state."""
        if self.states and self.accelerator.is_main_process:
            self.states.save(self.trainee, self.optimiser, self.parameters, self.log, self.best())

    def finish(self) -> None:
        """Hand the bare module back, in evaluation mode, with the best weights where any are named."""
        best = self.best()
        if self.states and best is not None and best != self.step:
            self.accelerator.wait_for_everyone()
            self.trainee.load(self.states.path(best))
            self.accelerator.wait_for_everyone()  # the first process removes the states then
        self.trainee.module = cast(nn.Module, self.accelerator.unwrap_model(self.module)).eval()
