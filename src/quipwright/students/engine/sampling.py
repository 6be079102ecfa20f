"""Nucleus sampling and greedy decoding. A prompt's samples share one row for as long as they are alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quipwright.students.engine.draw import draw, stream
from quipwright.students.engine.pool import Prompt, Row, Text

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
        """Draw the first token of every text."""
        for prompt in prompts:
            keys = [stream(self.seed, self.first + lane, prompt.ids) for lane in range(self.lanes)]
            texts = [Text(lane, key, []) for lane, key in enumerate(keys)]
            prompt.rows = [Row(prompt, 0, texts[0].tokens, texts=texts)]
            prompt.texts = [text.tokens for text in texts]
        self.advance([prompt.rows[0] for prompt in prompts], logits)

    def advance(self, rows: Sequence[Row], logits: Tensor) -> list[tuple[Row, Row]]:
        """Draw each text's next token; texts that part from their row get rows of their own."""
        table = [(text.key, len(text.tokens), i) for i, row in enumerate(rows) for text in row.texts]
        keys, places = torch.tensor([line[:2] for line in table], device=logits.device).T
        drawn = draw(logits, keys, places, self.temperature, self.top_p, [line[2] for line in table]).tolist()
        tokens = iter(drawn)
        return [(row, new) for row in rows for new in self._part(row, [next(tokens) for _ in row.texts])]

    def _part(self, row: Row, tokens: Sequence[int]) -> list[Row]:
        """Give each text of ``row`` its token; the rows of those that differ from the first that goes on."""
        alike: dict[int, list[Text]] = {}
        for text, token in zip(row.texts, tokens, strict=True):
            text.tokens.append(token)
            if self.on_token is not None:
                self.on_token(row.prompt.number, text.lane, text.tokens)
            if token != self.end and len(text.tokens) < self.limit:
                alike.setdefault(token, []).append(text)
        parts = list(alike.values())
        row.done = not parts
        if parts:
            row.lane, row.tokens, row.texts = parts[0][0].lane, parts[0][0].tokens, parts[0]
        new = [Row(row.prompt, texts[0].lane, texts[0].tokens, row.age, texts=texts) for texts in parts[1:]]
        row.prompt.rows += new
        return new
