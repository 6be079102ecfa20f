"""transformers' ``generate`` behind the engine's signature, for networks that the probe refuses: same seeds, same draw.

The texts of sampling still depend on seed, prompt and sample number; but ``generate`` pads prompts on the left, so that
rounding may depend on company.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from quipwright.students.diverse_beams import causal_beams, seq2seq_beams
from quipwright.students.engine.draw import draw, stream
from quipwright.students.engine.loops import Texts
from quipwright.students.engine.sampling import OnToken


class Drawn(LogitsProcessor):
    """Draws a token for each row and leaves only it finite, so that greedy decoding takes it."""

    def __init__(self, keys: Sequence[int], begin: int, temperature: float, top_p: float) -> None:
        """``keys``: each row's random stream; ``begin``: the width of what stands before the texts."""
        self.keys, self.begin, self.temperature, self.top_p = list(keys), begin, temperature, top_p
        self.tokens: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``scores`` with one finite number a row."""
        keys = torch.tensor(self.keys, device=scores.device)
        token = draw(scores, keys, torch.full_like(keys, input_ids.shape[1] - self.begin), self.temperature, self.top_p)
        return torch.full_like(scores, -torch.inf).scatter_(1, token[:, None], 0.0)


class Told(LogitsProcessor):
    """Tells ``on_token`` of each row's text after every token."""

    def __init__(self, on_token: OnToken, names: Sequence[tuple[int, int]], end: int) -> None:
        """``names``: the prompt's number and the text's of each row."""
        self.on_token, self.names, self.end = on_token, names, end
        self.texts: list[list[int]] = [[] for _ in names]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``scores`` as they are."""
        for name, text, token in zip(self.names, self.texts, scores.argmax(-1).tolist(), strict=True):
            if self.end not in text[-1:]:
                text.append(token)
                self.on_token(*name, text)
        return scores


class Fallback:
    """``generate`` over batches of at most ``places`` rows, longest prompts first."""

    def __init__(self, network: Any, opening: Sequence[int] | None, places: int, padded: bool = True) -> None:
        """``padded``: prompts of unequal lengths may share a batch. The network's own generation settings are emptied:
        they would mix with the caller's."""
        network.generation_config = GenerationConfig()
        self.network, self.opening, self.places, self.padded = network, list(opening or ()), places, padded

    def sample(
        self, prompts: Sequence[Sequence[int]], k: int, temperature: float, top_p: float, max_tokens: int, end: int,
        seed: int, first_sample: int, on_token: OnToken | None,
    ) -> Iterator[Texts]:  # fmt: skip
        """As ``Engine.sample``."""
        for numbers in self._batches(prompts, k):
            rows = [(i, lane) for i in numbers for lane in range(k)]
            inputs = self._inputs([prompts[i] for i, _ in rows])
            begin = len(self.opening) or inputs["input_ids"].shape[1]
            keys = [stream(seed, first_sample + lane, prompts[i]) for i, lane in rows]
            processors: list[LogitsProcessor] = [Drawn(keys, begin, temperature, top_p)]
            if on_token is not None:
                processors.append(Told(on_token, rows, end))
            yield from self._written(numbers, k, begin, inputs, LogitsProcessorList(processors), max_tokens, end)

    def beam(self, prompts: Sequence[Sequence[int]], beams: int, n: int, max_tokens: int, end: int) -> Iterator[Texts]:
        """As ``Engine.beam``."""
        for numbers in self._batches(prompts, beams):
            inputs = self._inputs([prompts[i] for i in numbers])
            begin = len(self.opening) or inputs["input_ids"].shape[1]
            options = {"num_beams": beams, "num_return_sequences": n}
            yield from self._written(numbers, n, begin, inputs, LogitsProcessorList(), max_tokens, end, **options)

    def diverse(
        self, prompts: Sequence[Sequence[int]], groups: int, penalty: float, max_tokens: int, end: int, padding: int
    ) -> Iterator[Texts]:
        """As ``Engine.diverse``, without ``generate``, which no longer knows this search."""
        options = {"penalty": penalty, "end": end, "pad": padding, "max_tokens": max_tokens}
        for numbers in self._batches(prompts, groups):
            inputs = self._inputs([prompts[i] for i in numbers])
            ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
            if self.opening:
                opening = torch.tensor(self.opening, device=ids.device)
                written = seq2seq_beams(self.network, ids, mask, opening, groups, **options)
            else:
                written = causal_beams(self.network, ids, mask, groups, **options)
            for number, rows in zip(numbers, written.ids.tolist(), strict=True):
                yield number, [_text(row, end) for row in rows]

    def _batches(self, prompts: Sequence[Sequence[int]], rows: int) -> list[list[int]]:
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        groups = [order] if self.padded else [list(g) for _, g in groupby(order, key=lambda i: len(prompts[i]))]
        size = max(1, self.places // rows)
        return [group[begin : begin + size] for group in groups for begin in range(0, len(group), size)]

    def _inputs(self, prompts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        width = max(map(len, prompts))
        gaps = [[0] * (width - len(prompt)) for prompt in prompts]
        device = self.network.device
        if not self.opening:
            ids = [[*gap, *prompt] for gap, prompt in zip(gaps, prompts, strict=True)]
            mask = [[*gap, *[1] * len(prompt)] for gap, prompt in zip(gaps, prompts, strict=True)]
            return {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}
        ids = [[*prompt, *gap] for gap, prompt in zip(gaps, prompts, strict=True)]
        mask = [[*[1] * len(prompt), *gap] for gap, prompt in zip(gaps, prompts, strict=True)]
        opening = torch.tensor(self.opening, device=device).expand(len(prompts), -1)
        inputs = {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}
        return {**inputs, "decoder_input_ids": opening}

    def _written(
        self, numbers: list[int], each: int, begin: int, inputs: dict[str, Tensor], processors: LogitsProcessorList,
        max_tokens: int, end: int, **options: int,
    ) -> Iterator[Texts]:  # fmt: skip
        start = {"decoder_start_token_id": self.opening[0]} if self.opening else {}
        config = GenerationConfig(
            max_new_tokens=max_tokens, do_sample=False, eos_token_id=end, pad_token_id=end, **start, **options
        )
        with torch.inference_mode():
            out = self.network.generate(**inputs, generation_config=config, logits_processor=processors)
        texts = [_text(row, end) for row in out[:, begin:].tolist()]
        for place, number in enumerate(numbers):
            yield number, texts[place * each : (place + 1) * each]


def _text(row: list[int], end: int) -> list[int]:
    return row[: row.index(end) + 1] if end in row else row
