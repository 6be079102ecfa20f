"""The rows that are being written together, the prompts they answer, and one forward pass for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from quipwright.students.engine.shelves import Deck, Reading, Shelf, Step, additive, whole

FLOOR = 16
"""Rows of a product from which on a CPU's library sums in one fixed order: 16 with AVX-512 in float32, fewer elsewhere."""
_PADDING = 0.15  # of the tokens of one call that reads prompts
_TOKENS = 4096  # tokens of one such call


@dataclass(eq=False)
class Prompt:
    """A prompt (token ids) and its number in the caller's list; ``texts`` are complete when no row is left."""

    number: int
    ids: Sequence[int]
    rows: list[Row] = field(default_factory=list)
    texts: list[list[int]] = field(default_factory=list)
    state: Any = None  # of the way of decoding


@dataclass
class Text:
    """A sample that is being written: its number among its prompt's texts, its random stream and its ids so far."""

    lane: int
    key: int
    tokens: list[int]


@dataclass(eq=False)
class Row:
    """What is being written. ``age``: its columns in the cache; the last of ``tokens`` is not there yet.

    ``texts``: the samples that are alike so far and share this row; empty where a row is one text for good.
    """

    prompt: Prompt
    lane: int
    tokens: list[int]
    age: int = 0
    done: bool = False
    texts: list[Text] = field(default_factory=list)


Mode = Literal["mixed", "waves"]


class Pool:
    """Rows of any age ("mixed"), or of one age ("waves"), of a network whose attention is the engine's."""

    def __init__(
        self, network: Any, mode: Mode, opening: Sequence[int] | None, lanes: int, places: int, floor: int | None = None
    ) -> None:
        """``opening``: what an encoder-decoder's decoder is given first. ``lanes``: texts a prompt; ``places``: texts;
        ``floor``: least rows of a product, for a sum that does not depend on their number (on a CPU ``FLOOR``)."""
        self.network, self.mode, self.opening, self.lanes = network, mode, list(opening or ()), lanes
        self.device = next(network.parameters()).device
        self.floor = floor or (FLOOR if self.device.type == "cpu" else 1)
        self.capacity, self.places, self.columns = places, max(places, self.floor), 0
        self.prompts: list[Prompt] = []
        self.rows: list[Row] = []
        self.deck = Deck()
        own, cross = ("self", "cross") if opening else ("both", "both")
        self.cache = Cache(layer_class_to_replicate=partial(Shelf, self.deck, own))  # type: ignore[arg-type]
        self.cross = Cache(layer_class_to_replicate=partial(Shelf, self.deck, cross)) if opening else None  # type: ignore[arg-type]
        self.start = len(self.opening)

    @property
    def shelves(self) -> Iterable[Shelf]:
        """Every layer's shelf."""
        return [*self.cache.layers, *(self.cross.layers if self.cross else ())]

    def room(self) -> int:
        """How many prompts may join now: none before a quarter of the places is free, or rows of another age are left."""
        free = self.capacity - sum(max(1, len(row.texts)) for row in self.rows)
        if self.rows and (self.mode == "waves" or 4 * free < self.capacity):
            return 0
        return min(free // self.lanes, 2 * self.capacity // self.lanes - len(self._living()))

    def _living(self) -> list[int]:
        living = {id(row.prompt) for row in self.rows}
        return [i for i, prompt in enumerate(self.prompts) if id(prompt) in living]

    def read(self, prompts: Sequence[Prompt]) -> Float[Tensor, "prompts vocabulary"]:
        """The logits after prompts of nearly one length; their keys and values wait for :meth:`enter`."""
        if self.cross is not None:
            return self._encode(prompts)
        longest = max(len(p.ids) for p in prompts)
        width = max(longest, -(-self.floor // len(prompts)))
        ends = sorted({len(p.ids) - 1 for p in prompts})
        asked = ends + ends[-1:] * max(0, -(-self.floor // len(prompts)) - len(ends))
        self.deck.call = Reading(torch.zeros(0, dtype=torch.long, device=self.device))
        out = self.network(
            input_ids=self._padded(prompts, width),
            position_ids=torch.arange(width, device=self.device).expand(len(prompts), -1),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=torch.tensor(asked, device=self.device),
        )
        index = torch.tensor([ends.index(len(p.ids) - 1) for p in prompts], device=self.device)
        logits: Tensor = out.logits[torch.arange(len(prompts), device=self.device), index]
        return logits

    def score(self, ids: Sequence[int], asked: Tensor) -> Float[Tensor, "asked vocabulary"]:
        """The logits at the places ``asked`` of one text that is read whole; for decoder-only networks, in an empty pool."""
        width = max(len(ids), self.floor)
        self.deck.call = Reading(torch.zeros(0, dtype=torch.long, device=self.device))
        logits: Tensor = self.network(
            input_ids=self._padded([Prompt(0, ids)], width),
            position_ids=torch.arange(width, device=self.device)[None],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=asked,
        ).logits[0]
        return logits

    def _encode(self, prompts: Sequence[Prompt]) -> Tensor:
        count = max(len(prompts), -(-self.floor // self.start))  # the decoder's first call must have rows enough, too
        width = max(max(len(p.ids) for p in prompts), -(-self.floor // len(prompts)))
        lengths = torch.tensor([len(p.ids) for p in prompts], device=self.device)
        mask = additive(torch.arange(width, device=self.device) < lengths[:, None])[:, None, None]
        states = self.network.get_encoder()(
            input_ids=self._padded(prompts, width), attention_mask=mask.expand(-1, -1, width, -1)
        ).last_hidden_state
        again = torch.arange(count, device=self.device).clamp(max=len(prompts) - 1)
        self.deck.call = Reading(lengths[again])
        out = self._decode(states[again], torch.tensor(self.opening, device=self.device).expand(count, -1))
        return out[: len(prompts)]

    def _padded(self, prompts: Sequence[Prompt], width: int) -> Tensor:
        return torch.tensor([[*p.ids, *[0] * (width - len(p.ids))] for p in prompts], device=self.device)

    def _decode(self, states: Tensor, tokens: Tensor) -> Tensor:
        out = self.network(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            decoder_input_ids=tokens,
            past_key_values=EncoderDecoderCache(self.cache, self.cross),
            use_cache=True,
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    def enter(self, groups: Sequence[Sequence[Prompt]]) -> None:
        """Seat the prompts just read, one group a call of :meth:`read`, and their unfinished rows."""
        kept = self._living()
        counts = [len(group) for group in groups]
        joining = [prompt for group in groups for prompt in group]
        self.prompts = [self.prompts[i] for i in kept] + joining
        begin, opened = len(self.rows), []
        for number, prompt in enumerate(joining):
            for row in prompt.rows:
                if not row.done:
                    row.age = self.start
                    self.rows.append(row)
                    opened.append(number)
        self.columns = whole(max((row.age for row in self.rows), default=0) + 1)
        width = whole(max((len(p.ids) for p in self.prompts), default=1))
        index, seats = torch.tensor(kept, device=self.device), torch.tensor(opened, device=self.device)
        for shelf in self.shelves:
            shelf.admit(index.long(), counts, width)
            shelf.seat(begin, seats.long(), counts, self.places, self.columns)

    def step(self) -> Float[Tensor, "rows vocabulary"]:
        """Feed every row's last token; the logits of its next one."""
        self._widen()
        numbers = {id(prompt): i for i, prompt in enumerate(self.prompts)}
        idle = max(0, self.floor - len(self.rows))
        table = [
            (r.tokens[-1], len(r.prompt.ids), r.age, numbers[id(r.prompt)] * self.lanes + r.lane) for r in self.rows
        ]
        tokens, lengths, ages, place = torch.tensor(table + [(0, 1, 0, 0)] * idle).T.to(self.device)
        source = torch.zeros(len(self.prompts) * self.lanes, dtype=torch.long, device=self.device)
        source[place[: len(self.rows)]] = torch.arange(len(self.rows), device=self.device)
        waves = self.mode == "waves"
        call = Step(lengths, ages, source, place, self.lanes, self.columns, waves)
        call.cache_length = self.rows[0].age if waves else self.columns - 1
        self.deck.call = call
        if self.cross is not None:
            states = torch.zeros(1, 1, self.network.config.hidden_size, dtype=self.network.dtype, device=self.device)
            logits = self._decode(states, tokens[:, None])
        else:
            positions = (lengths + ages)[:, None]
            logits = self.network(
                input_ids=tokens[:, None],
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        for row in self.rows:
            row.age += 1
        return logits[: len(self.rows)]

    def _widen(self) -> None:
        need = whole(max(row.age for row in self.rows) + 1)
        if need > self.columns:
            self.columns = need
            for shelf in self.shelves:
                shelf.seat(len(self.rows), torch.zeros(0, dtype=torch.long, device=self.device), [], self.places, need)

    def copy(self, pairs: Sequence[tuple[Row, Row]]) -> None:
        """Copy own columns of rows (from, to), all read before any is written. A new row is seated."""
        if pairs:
            number = {id(row): i for i, row in enumerate(self.rows)}
            new = [target for _, target in pairs if id(target) not in number]
            number |= {id(row): len(self.rows) + i for i, row in enumerate(new)}
            self.rows += new
            self._move([(number[id(source)], number[id(target)]) for source, target in pairs])

    def _move(self, pairs: Sequence[tuple[int, int]]) -> None:
        if pairs:
            source, target = torch.tensor(pairs, device=self.device).T
            for shelf in self.shelves:
                shelf.move(source, target)

    def leave(self) -> None:
        """Drop the rows that are done: the last rows move into their places."""
        alive = sum(not row.done for row in self.rows)
        holes = [i for i, row in enumerate(self.rows[:alive]) if row.done]
        movers = [i for i in range(alive, len(self.rows)) if not self.rows[i].done]
        for hole, mover in zip(holes, movers, strict=True):
            self.rows[hole] = self.rows[mover]
        self._move(list(zip(movers, holes, strict=True)))
        del self.rows[alive:]
        if self.rows and 4 * len(self._living()) < 3 * len(self.prompts):
            self.enter([])


def batches(prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """``prompts`` (longest first) cut into calls of at most 15 % padding and a few thousand tokens."""
    groups: list[list[Prompt]] = []
    real = 0
    for prompt in prompts:
        size = (len(groups[-1]) + 1) * len(groups[-1][0].ids) if groups else 0
        if groups and size <= _TOKENS and real + len(prompt.ids) >= (1 - _PADDING) * size:
            groups[-1].append(prompt)
            real += len(prompt.ids)
        else:
            groups.append([prompt])
            real = len(prompt.ids)
    return groups
