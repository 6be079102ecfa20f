"""Laying out prompts and responses for a decoder-only model: packed, or one response a row.

A packed row is a prompt and a tree of its responses without gaps: what responses begin with alike stands there once, as
their prompt does. Each token sees what precedes it in its own text; its position is the one it has there. Models with
layers that mix neighbouring positions whatever the mask says (convolution, state space, linear attention) need one
response a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from quipwright.students.batches import RankedBatch


@dataclass(frozen=True)
class Layout:
    """A batch as the network is given it. ``mask`` is what each place sees (packed), or which places are real.

    ``row`` and ``predictor`` are the places that predict something, each once. The last four say, for each scored token
    in the order of the responses: which of these predicts it, the position where it stands, its id, and which response
    it belongs to (row of the batch * k + column).
    """

    ids: Int[Tensor, "rows width"]
    positions: Int[Tensor, "rows width"]
    mask: Bool[Tensor, "rows 1 width width"] | Bool[Tensor, "rows width"]
    row: Int[Tensor, " predictors"]
    predictor: Int[Tensor, " predictors"]
    source: Int[Tensor, " scored"]
    place: Int[Tensor, " scored"]
    target: Int[Tensor, " scored"]
    slot: Int[Tensor, " scored"]

    def to(self, device: torch.device) -> Layout:
        """The same on ``device``."""
        return replace(self, **{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


@dataclass
class _Row:
    """One row while it is filled: a token's place is its number in ``ids``, and ``last`` is the last place that sees it.

    ``scored``: for each token of a response its predictor, place, id and column.
    """

    ids: list[int]
    positions: list[int]
    last: list[int]
    scored: list[tuple[int, int, int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, prompt: list[int], responses: list[list[int]]) -> _Row:
        """``prompt`` and the tree of ``responses``, of which empty ones are absent."""
        row = cls(list(prompt), list(range(len(prompt))), [0] * len(prompt))
        beginnings = _beginnings(responses)
        before: list[int] = []
        path = list(range(len(prompt)))
        for column in sorted(range(len(responses)), key=lambda c: beginnings[c]):  # what begins alike is neighbours
            response, mine = responses[column], beginnings[column]
            shared = next((i for i, (a, b) in enumerate(zip(before, mine, strict=False)) if a != b), None)
            shared = min(len(before), len(mine)) if shared is None else shared
            added = range(len(row.ids), len(row.ids) + len(response) - shared)
            path = [*path[: len(prompt) + shared], *added]
            row.ids += response[shared:]
            row.positions += range(len(prompt) + shared, len(path))
            row.last += [0] * len(added)
            for place in path:
                row.last[place] = len(row.ids) - 1
            for i in range(len(response)):
                row.scored.append((path[len(prompt) + i - 1], path[len(prompt) + i], response[i], column))
            before = mine
        row.scored.sort(key=lambda token: token[3])  # stable: tokens stay in order
        return row


def _beginnings(responses: list[list[int]]) -> list[list[int]]:
    """The numbers of what each response begins with, token by token; equal beginnings have one number, by first use."""
    numbers: dict[tuple[int, int], int] = {}
    lists = []
    for response in responses:
        beginning, own = -1, []
        for token in response:
            beginning = numbers.setdefault((beginning, token), len(numbers))
            own.append(beginning)
        lists.append(own)
    return lists


def _places(rows: list[list[tuple[int, int, int, int]]], k: int, device: torch.device) -> list[Tensor]:
    """The last six fields of a layout, for the predictors, places, ids and slots within each row."""
    numbers: dict[tuple[int, int], int] = {}
    scored = []
    for r, tokens in enumerate(rows):
        for predictor, place, token, slot in tokens:
            scored.append((numbers.setdefault((r, predictor), len(numbers)), place, token, slot))
    predicting = torch.tensor(list(numbers), dtype=torch.long, device=device).view(-1, 2)
    return [*predicting.unbind(1), *torch.tensor(scored, dtype=torch.long, device=device).view(-1, 4).unbind(1)]


def pack(batch: RankedBatch) -> Layout:
    """Lay out ``batch`` with the tree of a row's responses behind their prompt, without padding between them."""
    k, device = batch.response.shape[1], batch.prompt.device
    rows = []
    for r in range(len(batch.prompt)):
        responses = [batch.response[r, c, batch.mask[r, c]].tolist() for c in range(k)]
        rows.append(_Row.of(batch.prompt[r, batch.prompt_mask[r]].tolist(), responses))
    width = max(len(row.ids) for row in rows)
    places = list(range(width))
    ids, positions, last = (
        torch.tensor([[*values, *rest[len(values) :]] for values in lists], device=device)
        for lists, rest in (
            ([row.ids for row in rows], [0] * width),
            ([row.positions for row in rows], [0] * width),
            ([row.last for row in rows], places),  # padding sees itself: no row of the softmax is empty
        )
    )
    here = torch.arange(width, device=device)[:, None]
    visible = (here >= here.T) & (here <= last[:, None, :])
    scored = [[(p, place, token, r * k + c) for p, place, token, c in row.scored] for r, row in enumerate(rows)]
    return Layout(ids, positions, visible[:, None], *_places(scored, k, device))


def unpack(batch: RankedBatch) -> Layout:
    """Lay out ``batch`` with one response a row, each behind its own copy of the prompt, right-padded.

    Absent responses get no row.
    """
    _, k, _ = batch.response.shape
    present = batch.mask.any(-1).flatten().nonzero()[:, 0].tolist()
    prompts = [batch.prompt[slot // k, batch.prompt_mask[slot // k]] for slot in present]
    responses = [batch.response[slot // k, slot % k, batch.mask[slot // k, slot % k]] for slot in present]
    width = max((len(p) + len(r) for p, r in zip(prompts, responses, strict=True)), default=1)
    ids = torch.zeros(len(present), width, dtype=torch.long, device=batch.prompt.device)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    scored = []
    for row, (slot, prompt, response) in enumerate(zip(present, prompts, responses, strict=True)):
        length = len(prompt) + len(response)
        ids[row, :length] = torch.cat([prompt, response])
        mask[row, :length] = True
        tokens = zip(range(len(prompt), length), response.tolist(), strict=True)
        scored.append([(place - 1, place, token, slot) for place, token in tokens])
    positions = torch.arange(width, device=ids.device).expand(len(present), -1)
    return Layout(ids, positions, mask, *_places(scored, k, ids.device))
