"""Beam search as transformers does it (length penalty 1, no early stopping), but prompt by prompt.

Candidates are the ``2 x beams`` likeliest continuations of all beams of a prompt. One that ends counts as finished if it
is among the first ``beams``; its score is its log-probability divided by its length, end token included. A prompt ends
when its best running beam, scored likewise, is no better than its worst of ``beams`` finished ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from quipwright.students.engine.draw import BLOCK
from quipwright.students.engine.pool import Prompt, Row

_ROWS = 8  # rows whose log-probabilities are made together: as many as stay in a core's cache


@dataclass
class Search:
    """Where one prompt's search stands: its running beams, best first, and its finished texts with their scores."""

    beams: list[Row]
    scores: list[float]
    finished: list[tuple[float, list[int]]] = field(default_factory=list)


@dataclass
class Beams:
    """Beam search of ``lanes`` beams; the best ``count`` texts of each prompt are kept."""

    lanes: int
    count: int
    limit: int
    end: int

    def begin(self, prompts: Sequence[Prompt], logits: Tensor) -> None:
        """All beams of a prompt start from its one row of logits."""
        values, tokens = best_tokens(logits, 2 * self.lanes)
        for prompt, row_values, row_tokens in zip(prompts, values.tolist(), tokens.tolist(), strict=True):
            prompt.rows = [Row(prompt, lane, []) for lane in range(self.lanes)]
            prompt.state = Search(prompt.rows[:], [0.0] * self.lanes)
            self._choose(prompt, row_values, row_values, row_tokens, [0] * len(row_tokens))

    def advance(self, rows: Sequence[Row], logits: Tensor) -> list[tuple[Row, Row]]:
        """Extend every beam; the rows (from, to) that a child took over from another row's parent."""
        number = {id(row): i for i, row in enumerate(rows)}
        prompts = list({id(row.prompt): row.prompt for row in rows}.values())
        searches: list[Search] = [prompt.state for prompt in prompts]
        order = torch.tensor([[number[id(row)] for row in search.beams] for search in searches], device=logits.device)
        running = torch.tensor([search.scores for search in searches], device=logits.device)
        values, tokens = best_tokens(logits, 2 * self.lanes)
        total = (values[order] + running[..., None]).flatten(1)
        total, index = total.topk(2 * self.lanes)
        length = torch.tensor([len(search.beams[0].tokens) + 1 for search in searches], device=logits.device)
        ratio = total / length[:, None]
        token = tokens[order].flatten(1).gather(1, index)
        parent = index // tokens.shape[1]
        copies: list[tuple[Row, Row]] = []
        for prompt, *lists in zip(prompts, *(t.tolist() for t in (total, ratio, token, parent)), strict=True):
            copies += self._choose(prompt, *lists)
        return copies

    def _choose(
        self, prompt: Prompt, scores: list[float], ratios: list[float], tokens: list[int], parents: list[int]
    ) -> list[tuple[Row, Row]]:
        """Of one prompt's candidates, best first, which have finished and which run on."""
        search: Search = prompt.state
        written = [row.tokens for row in search.beams]
        last = len(written[0]) + 1 == self.limit
        ended = [j for j in range(self.lanes) if last or tokens[j] == self.end]
        new = [(ratios[j], [*written[parents[j]], tokens[j]]) for j in ended]
        search.finished = sorted(search.finished + new, key=lambda pair: -pair[0])[: self.lanes]
        chosen = [j for j in range(len(tokens)) if tokens[j] != self.end][: self.lanes]
        full = len(search.finished) == self.lanes
        best = scores[chosen[0]] / self.limit  # what no text that is still to end can exceed
        settled = len(search.finished) >= self.count and best < search.finished[self.count - 1][0]
        if last or settled or (full and ratios[chosen[0]] <= search.finished[-1][0]):
            prompt.texts = [text for _, text in search.finished[: self.count]]
            for row in search.beams:
                row.done = True
            return []
        rows, pairs = _places(search.beams, [parents[j] for j in chosen])
        for row, j in zip(rows, chosen, strict=True):
            row.tokens = [*written[parents[j]], tokens[j]]
        search.beams, search.scores = rows, [scores[j] for j in chosen]
        return pairs


def _places(beams: list[Row], parents: list[int]) -> tuple[list[Row], list[tuple[Row, Row]]]:
    """A row for each child: its parent's for the first child, a childless parent's for others, which must be copied."""
    free = [beams[i] for i in range(len(beams)) if i not in parents]
    seen: set[int] = set()
    rows, pairs = [], []
    for parent in parents:
        if parent in seen:
            row = free.pop()
            pairs.append((beams[parent], row))
        else:
            row = beams[parent]
            seen.add(parent)
        rows.append(row)
    return rows, pairs


def best_tokens(
    logits: Float[Tensor, "rows vocabulary"], count: int
) -> tuple[Float[Tensor, "rows count"], Int[Tensor, "rows count"]]:
    """The ``count`` likeliest tokens of each row, likeliest first, with their log-probabilities (float32).

    The best tokens stand in the ``count`` blocks with the greatest maxima, so only those are sorted.
    """
    size = _ROWS if logits.device.type == "cpu" else max(1, len(logits))
    parts = [_best(part.float().log_softmax(-1), count) for part in logits.split(size)]
    return torch.cat([values for values, _ in parts]), torch.cat([tokens for _, tokens in parts])


def _best(logs: Tensor, count: int) -> tuple[Tensor, Tensor]:
    rows, vocabulary = logs.shape
    if vocabulary <= count * BLOCK:
        values, tokens = logs.topk(count)
        return values, tokens
    blocks = pad(logs, (0, -vocabulary % BLOCK), value=-torch.inf).view(rows, -1, BLOCK)
    block = blocks.amax(-1).topk(count).indices
    values, index = blocks.gather(1, block[..., None].expand(-1, -1, BLOCK)).flatten(1).topk(count)
    return values, block.gather(1, index // BLOCK) * BLOCK + index % BLOCK
