"""Nucleus sampling and greedy decoding: each row is a text of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quipwright.students.engine.draw import draw, stream
from quipwright.students.engine.pool import Prompt, Row

OnToken = Callable[[int, int, list[int]], None]
"""Takes a prompt's number, the number of a text among its texts, and the ids of that text so far."""


@dataclass
class Sampling:
    """``lanes`` texts a prompt, of sample numbers from ``first`` on; temperature 0 is greedy."""

    lanes: int
    temperature: float
    top_p: float
    limit: int
    end: int
    seed: int
    first: int = 0
    on_token: OnToken | None = None

    def begin(self, prompts: Sequence[Prompt], logits: Tensor) -> None:
        """Draw the first token of every row."""
        for prompt in prompts:
            keys = [stream(self.seed, self.first + lane, prompt.ids) for lane in range(self.lanes)]
            prompt.rows = [Row(prompt, lane, [], key) for lane, key in enumerate(keys)]
            prompt.texts = [row.tokens for row in prompt.rows]
        self.advance([row for prompt in prompts for row in prompt.rows], logits.repeat_interleave(self.lanes, 0))

    def advance(self, rows: Sequence[Row], logits: Tensor) -> list[tuple[int, int]]:
        """Draw each row's next token."""
        keys, places = torch.tensor([(row.key, len(row.tokens)) for row in rows], device=logits.device).T
        drawn = draw(logits, keys, places, self.temperature, self.top_p).tolist()
        for row, token in zip(rows, drawn, strict=True):
            row.tokens.append(token)
            row.done = token == self.end or len(row.tokens) == self.limit
            if self.on_token is not None:
                self.on_token(row.prompt.number, row.lane, row.tokens)
        return []
