"""Diverse beam search with one beam a group (see :mod:`quipwright.students.diverse_beams`) over the engine's pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quipwright.students.diverse_beams import choose
from quipwright.students.engine.pool import Prompt, Row


@dataclass
class Diverse:
    """``lanes`` groups a prompt; ``penalty`` in nats a vote; neither ``end`` nor ``padding`` is voted against."""

    lanes: int
    penalty: float
    limit: int
    end: int
    padding: int

    def begin(self, prompts: Sequence[Prompt], logits: Tensor) -> None:
        """All groups of a prompt choose from its one row of logits."""
        for prompt in prompts:
            prompt.rows = [Row(prompt, lane, []) for lane in range(self.lanes)]
            prompt.texts = [row.tokens for row in prompt.rows]
        self._choose([prompt.rows for prompt in prompts], logits.repeat_interleave(self.lanes, 0))

    def advance(self, rows: Sequence[Row], logits: Tensor) -> list[tuple[Row, Row]]:
        """Every group that has not ended chooses its next token."""
        groups: dict[int, list[Row]] = {}
        for row in rows:
            groups.setdefault(id(row.prompt), []).append(row)
        number = {id(row): i for i, row in enumerate(rows)}
        order = [number[id(row)] for group in groups.values() for row in group]
        self._choose(list(groups.values()), logits[order])
        return []

    def _choose(self, groups: Sequence[Sequence[Row]], logits: Tensor) -> None:
        """A token for each row of ``groups`` (rows of one prompt), in the order of ``logits``."""
        place = [i * self.lanes + row.lane for i, group in enumerate(groups) for row in group]
        logs = logits.new_zeros(len(groups) * self.lanes, logits.shape[-1], dtype=torch.float32)
        running = torch.zeros(len(groups) * self.lanes, dtype=torch.bool, device=logits.device)
        logs[place] = logits.float().log_softmax(-1)
        running[place] = True
        shape = (len(groups), self.lanes)
        tokens = choose(logs.view(*shape, -1), running.view(shape), self.penalty, (self.end, self.padding))
        for row, token in zip((r for group in groups for r in group), tokens.flatten()[place].tolist(), strict=True):
            row.tokens.append(token)
            row.done = token == self.end or len(row.tokens) == self.limit
