"""Where keys and values stand, and the attention over them: no key is repeated, none is padded on the left.

A prompt's keys are kept once and serve all its rows; a row's own keys stand in columns of its own, token t in column t,
however old its neighbours are. Keys are stored transposed (width x columns): the products that read them, one a step
and layer, are several times faster that way than writing them is slower.

Three rules make a row's numbers independent of its company on a CPU: products have a number of rows beyond which the
library sums in one fixed order (see ``pool.FLOOR``), columns are padded to whole vectors, so that padding adds exact
zeros only, and all columns are aligned on the left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import CacheLayerMixin

VECTOR = 16  # float32 numbers in the widest vector of a CPU
_LEAST = 4  # rows of a batched product that are summed in the same order as any greater number


def whole(columns: int) -> int:
    """``columns`` rounded up to whole vectors."""
    return -(-columns // VECTOR) * VECTOR


@dataclass
class Reading:
    """A call that reads prompts: right-padded, so a causal model's real tokens see no padding.

    ``lengths``: of the encoder's input, for cross-attention.
    """

    lengths: Int[Tensor, " prompts"]
    masks: dict[Any, Tensor] = field(default_factory=dict)
    cache_length: int = 0

    def mask(
        self, cross: bool, queries: int, keys: int, window: int | None
    ) -> Float[Tensor, "prompts 1 1 queries keys"]:
        """Zero where a query may look, -inf elsewhere; ``keys`` is a number of whole vectors."""
        if (cross, window) not in self.masks:
            column = torch.arange(keys, device=self.lengths.device)
            if cross:
                seen = (column < self.lengths[:, None])[:, None]
            else:
                distance = torch.arange(queries, device=self.lengths.device)[:, None] - column
                seen = (distance >= 0) & (distance < (window or keys))
                seen = seen[None]
            self.masks[cross, window] = additive(seen)[:, None, None]
        return self.masks[cross, window]


@dataclass
class Step:
    """A call that adds one token to every row.

    ``source``: for each place (prompt by prompt, ``lanes`` a prompt) the row that stands there; ``place``: the other way
    round. ``aligned``: all rows have the same age, so a bias by distance needs no shift.
    """

    lengths: Int[Tensor, " rows"]
    ages: Int[Tensor, " rows"]
    source: Int[Tensor, " places"]
    place: Int[Tensor, " rows"]
    lanes: int
    columns: int
    aligned: bool
    masks: dict[Any, Tensor] = field(default_factory=dict)
    biases: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    cache_length: int = 0

    def mask(self, prompt: int, own: int, window: int | None) -> Float[Tensor, "rows 1 1 columns"]:
        """Zero where a row may look, -inf elsewhere; ``prompt`` and ``own`` are numbers of columns."""
        if (prompt, own, window) not in self.masks:
            shared = torch.arange(prompt, device=self.ages.device).expand(len(self.ages), -1)
            mine = torch.arange(own, device=self.ages.device).expand(len(self.ages), -1)
            seen = torch.cat([shared < self.lengths[:, None], mine <= self.ages[:, None]], 1)
            if window is not None:
                position = torch.cat([shared, mine + self.lengths[:, None]], 1)
                seen = seen & ((self.lengths + self.ages)[:, None] - position < window)
            self.masks[prompt, own, window] = additive(seen)[:, None, None]
        return self.masks[prompt, own, window]

    def bias(self, bias: Float[Tensor, "1 heads 1 columns"]) -> Float[Tensor, "rows heads columns"]:
        """A bias by distance, made for a query in the last column, as each row's age needs it."""
        if self.aligned:
            return bias[:, :, 0]
        if id(bias) not in self.biases:
            column = torch.arange(self.columns, device=self.ages.device)
            index = (column + self.columns - 1 - self.ages[:, None]).clamp(max=self.columns - 1)
            self.biases[id(bias)] = bias, bias[0, :, 0, :][:, index].transpose(0, 1)
        return self.biases[id(bias)][1]

    def shared(
        self, rows: Float[Tensor, "rows heads group inner"], store: Float[Tensor, "prompts heads inner outer"]
    ) -> Float[Tensor, "rows heads group outer"]:
        """Each row's product with its prompt's ``store``: one product a prompt and head, for all of its rows."""
        _, heads, group, inner = rows.shape
        grid = rows.reshape(len(rows), -1)[self.source].view(-1, self.lanes, heads, group, inner)
        grid = grid.transpose(1, 2).reshape(-1, heads, self.lanes * group, inner)
        if self.lanes * group < _LEAST:
            grid = pad(grid, (0, 0, 0, _LEAST - self.lanes * group))
        product = (grid @ store)[:, :, : self.lanes * group].view(-1, heads, self.lanes, group, store.shape[-1])
        return product.transpose(1, 2).reshape(-1, heads, group, store.shape[-1])[self.place]


@dataclass
class Deck:
    """What all shelves share: the call that is under way."""

    call: Reading | Step | None = None


def additive(seen: Tensor) -> Tensor:
    """A float32 mask: 0 where ``seen``, -inf elsewhere."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, -torch.inf)


class Shelf(CacheLayerMixin):
    """One layer's keys and values: of prompts (``role`` "cross"), of rows ("self"), or of both ("both")."""

    is_sliding = False

    def __init__(self, deck: Deck, role: str) -> None:
        """``deck`` is shared by all layers."""
        super().__init__()
        self.deck, self.role = deck, role
        self.read: list[tuple[Tensor, Tensor]] = []
        self.prompt: tuple[Tensor, Tensor] | None = None  # prompts x heads x (width x columns), (columns x width)
        self.own: tuple[Tensor, Tensor] | None = None  # rows x heads x the same

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keep prompts' keys and values for :meth:`admit`, or write each row's at its age; the keys come back with this
        shelf attached."""
        if isinstance(self.deck.call, Step):
            assert self.own is not None
            keys, values = self.own
            row, age = torch.arange(len(key_states), device=keys.device), self.deck.call.ages
            keys[row, :, :, age] = key_states[:, :, 0]
            values[row, :, age] = value_states[:, :, 0]
            return self._signed(keys.transpose(2, 3)), values
        self.read.append((key_states, value_states))
        return self._signed(key_states), value_states

    def _signed(self, keys: Tensor) -> Tensor:
        view = keys.view_as(keys)
        view.shelf = self  # type: ignore[attr-defined]
        return view

    def admit(self, kept: Tensor, counts: list[int], columns: int) -> None:
        """Keep only the prompts ``kept``, and put those just read (``counts`` a call, longest ``columns``) behind them."""
        if self.role == "self":
            return
        blocks = [(new_keys[:count].transpose(2, 3), new_values[:count]) for (new_keys, new_values), count in
                  zip(self.read, counts, strict=True)]  # fmt: skip
        if self.prompt is not None and len(kept) > 0:
            blocks.insert(0, (self.prompt[0][kept], self.prompt[1][kept]))
        total = sum(len(keys) for keys, _ in blocks)
        first = blocks[0]
        keys = first[0].new_zeros(total, *first[0].shape[1:3], columns)
        values = first[1].new_zeros(total, first[1].shape[1], columns, first[1].shape[3])
        begin = 0
        for some_keys, some_values in blocks:
            end, some = begin + len(some_keys), min(columns, some_keys.shape[3])
            keys[begin:end, ..., :some] = some_keys[..., :some]
            values[begin:end, :, :some] = some_values[:, :, :some]
            begin = end
        self.prompt, self.read = (keys, values), []
        self.keys, self.values = self._signed(keys.transpose(2, 3)), values

    def seat(self, begin: int, opened: Tensor, counts: list[int], places: int, columns: int) -> None:
        """Make room for ``places`` rows of ``columns``. Rows from ``begin`` on start with what a decoder has read after the
        prompts ``opened`` (indices among those just read), if this shelf holds no prompts."""
        if self.role == "cross":
            return
        self._resize(places, columns)
        if self.role == "self" and counts:
            assert self.own is not None
            keys, values = (
                torch.cat([pair[side][:count] for pair, count in zip(self.read, counts, strict=True)])[opened]
                for side in (0, 1)
            )
            self.own[0][begin : begin + len(opened), ..., : keys.shape[2]] = keys.transpose(2, 3)
            self.own[1][begin : begin + len(opened), :, : values.shape[2]] = values
            self.read = []

    def _resize(self, places: int, columns: int) -> None:
        old = self.own
        if old is not None and old[0].shape[0] == places and old[0].shape[3] == columns:
            return
        if self.prompt is not None:
            key, value = self.prompt[0].transpose(2, 3), self.prompt[1]
        elif old is not None:
            key, value = old[0].transpose(2, 3), old[1]
        else:
            key, value = self.read[0]
        keys = key.new_zeros(places, key.shape[1], key.shape[3], columns)
        values = value.new_zeros(places, value.shape[1], columns, value.shape[3])
        if old is not None:
            some = min(columns, old[0].shape[3])
            keys[..., :some] = old[0][..., :some]
            values[:, :, :some] = old[1][:, :, :some]
        self.own = keys, values

    def move(self, source: Tensor, target: Tensor) -> None:
        """Copy the own columns of rows ``source`` over those of rows ``target``."""
        for store in self.own or ():
            store[target] = store[source]

    def get_seq_length(self) -> int:
        """What the model may count positions and biases by."""
        call = self.deck.call
        return 0 if call is None else 1 if self.role == "cross" and isinstance(call, Step) else call.cache_length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Never used: no mask is made for this attention."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """No limit."""
        return -1

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: room is made when prompts are admitted."""
