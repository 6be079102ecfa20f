"""The processes of one run: which of them this is, and how the others wait for the first.

``torchrun`` and ``accelerate launch`` start as many processes as asked for and number them from 0. The first one owns the
run; the others see what it finished through the files of the run, so that nobody waits in a collective while a teacher
answers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from quipwright.core.errors import RunError
from quipwright.core.settings import secret


@dataclass(frozen=True)
class Ranks:
    """This process's number, from 0, and how many there are."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of_environment(cls) -> Ranks:
        """As the launcher says in RANK and WORLD_SIZE; one process alone where it says nothing."""
        rank, world = secret("RANK") or "0", secret("WORLD_SIZE") or "1"
        if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
            raise RunError(
                f"RANK is {rank!r} and WORLD_SIZE {world!r}.",
                "Start with torchrun or accelerate launch, or unset both.",
            )
        return cls(int(rank), int(world))

    @property
    def first(self) -> bool:
        """Whether this process owns the run: its lock, its manifest, its calls, its figures."""
        return self.rank == 0

    def meet(self) -> None:
        """Wait until all processes are here, joined as the training loop will find them."""
        if self.world > 1:
            import torch
            from accelerate import PartialState
            from accelerate.utils import parse_flag_from_env

            on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
            PartialState(cpu=on_cpu).wait_for_everyone()  # it joins no group of CPUs unless it is told to

    def part(self) -> None:
        """Leave the others: nothing is done together any more."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState().destroy_process_group()


ALONE = Ranks()


def wait_for(path: Path, ready: Callable[[Path], bool] = Path.exists) -> None:
    """Wait until ``path`` is there, or ``ready``.

    Raises :class:`RunError` once the process that started this one has gone: it ends all processes when one fails, and
    nobody would make the file any more.
    """
    pause, launcher = 0.01, os.getppid()
    while not ready(path):
        if os.getppid() != launcher:
            raise RunError(f"The other processes have gone before {path} was made.", "Run the same command again.")
        time.sleep(pause)
        pause = min(0.5, 2 * pause)
