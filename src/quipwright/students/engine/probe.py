"""Whether the engine may decode a network: its logits against the plain forward pass of the same ids, at opening."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from quipwright.core.records import content_hash
from quipwright.students.engine.attention import NAME
from quipwright.students.engine.pool import Mode, Pool, Prompt, Row
from quipwright.students.findings import remembered

LIMIT = 2e-4  # standard deviations of the logits: a hundred times float32's rounding, a hundredth of a wrong position
_LENGTHS, _LANES, _STEPS, _LATER = (19, 7), 2, 12, 3
_LAYERS = {"full_attention", "sliding_attention"}


@dataclass(frozen=True)
class Finding:
    """How the engine may decode a network.

    ``reason`` says why ``mode`` is not "mixed". ``row`` and ``prompt``: numbers that one column of a row and of a prompt
    holds in the cache.
    """

    mode: Mode | Literal["generate"]
    reason: str = ""
    row: int = 0
    prompt: int = 0


def probe(network: Any, opening: Sequence[int] | None) -> Finding:
    """What was found out about ``network``, tried in float32: in bfloat16 rounding alone hides a wrong position.

    Two prompts with two rows each, the second joining three steps after the first, are fed random tokens; all logits are
    compared with those of whole sequences without a cache. A class and configuration is probed once by an engine of
    this source, and remembered. The network is left as it was.
    """
    kind = f"engine {_source()} {type(network).__qualname__} {list(opening or ())} {network.device.type}"
    return remembered(kind, network.config, Finding, lambda: _in_float32(network, opening))


@cache
def _source() -> str:
    """A hash of the engine's own files: another engine may do what this one cannot."""
    return content_hash([path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))])


def _in_float32(network: Any, opening: Sequence[int] | None) -> Finding:
    exact = network if network.dtype == torch.float32 else copy.deepcopy(network).float()
    before = exact.config._attn_implementation
    try:
        return _probe(exact, opening)
    finally:
        exact.set_attn_implementation(before)


def _probe(network: Any, opening: Sequence[int] | None) -> Finding:
    kinds = set(getattr(network.config.get_text_config(decoder=True), "layer_types", None) or ())
    if not kinds <= _LAYERS:
        return Finding("generate", f"it has layers of the kinds {sorted(kinds - _LAYERS)}")
    try:
        prompts, expected = _expected(network, opening)
        network.set_attn_implementation(NAME)
        if network.config._attn_implementation != NAME:
            return Finding("generate", "its attention cannot be replaced")
    except Exception as problem:
        return Finding("generate", _said(problem))
    reason = ""
    modes: tuple[Mode, ...] = ("mixed", "waves") if opening else ("mixed",)
    for mode in modes:
        try:
            pool = Pool(network, mode, opening, _LANES, len(prompts) * _LANES, floor=1)
            error = _error(pool, prompts, expected)
        except Exception as problem:
            reason = reason or _said(problem)
            continue
        if error < LIMIT:
            return Finding(mode, reason, *_sizes(pool))
        reason = reason or f"its logits are off by {error:.1g} standard deviations when rows have ages of their own"
        if mode == "waves" or not opening:
            reason = f"its logits are off by {error:.1g} standard deviations"
    return Finding("generate", reason)


def _said(problem: Exception) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"[:300]


def _expected(network: Any, opening: Sequence[int] | None) -> tuple[list[Prompt], dict[Row, Tensor]]:
    """Random prompts with rows of random tokens, and the logits of each token (tokens x vocabulary) by one plain pass."""
    generator = torch.Generator().manual_seed(0)
    config = network.config.get_text_config(decoder=True)
    special = [getattr(config, name, None) for name in ("pad_token_id", "eos_token_id", "bos_token_id")]
    vocabulary = [i for i in range(network.get_input_embeddings().weight.shape[0]) if i not in special]

    def some(count: int) -> list[int]:
        return [vocabulary[int(i)] for i in torch.randint(len(vocabulary), (count,), generator=generator)]

    prompts, expected = [], {}
    for number, length in enumerate(_LENGTHS):
        prompt = Prompt(number, some(length))
        prompt.rows = [Row(prompt, lane, some(_STEPS)) for lane in range(_LANES)]
        prompts.append(prompt)
        for row in prompt.rows:
            with torch.inference_mode():
                ids = torch.tensor([[*(opening or prompt.ids), *row.tokens[:-1]]], device=network.device)
                given = {"decoder_input_ids": ids} if opening else {}
                source = torch.tensor([prompt.ids], device=network.device) if opening else ids
                expected[row] = network(input_ids=source, **given, use_cache=False).logits[0, -_STEPS:].float()
    return prompts, expected


@torch.inference_mode()
def _error(pool: Pool, prompts: Sequence[Prompt], expected: dict[Row, Tensor]) -> float:
    """The greatest error of any logit in standard deviations of the logits."""
    scale = float(torch.stack(list(expected.values())).std())
    clones = [Prompt(p.number, p.ids) for p in prompts]
    worst = 0.0
    originals: dict[Row, Row] = {}
    for prompt, clone in zip(prompts, clones, strict=True):
        clone.rows = [Row(clone, row.lane, []) for row in prompt.rows]
        originals |= dict(zip(clone.rows, prompt.rows, strict=True))

    def heard(rows: Sequence[Row], logits: Tensor) -> None:
        nonlocal worst
        for row, given in zip(rows, logits.float(), strict=True):
            number = len(row.tokens)
            worst = max(worst, float((given - expected[originals[row]][number]).abs().max()) / scale)
            row.tokens.append(originals[row].tokens[number])
            row.done = len(row.tokens) == _STEPS

    def join(group: list[Prompt]) -> None:
        logits = pool.read(group)
        for prompt, given in zip(group, logits, strict=True):
            heard(prompt.rows, given.expand(_LANES, -1))
        pool.enter([group])

    together = pool.mode == "waves"
    join(clones if together else clones[:1])
    for step in range(_STEPS + _LATER):
        if step == _LATER and not together:
            join(clones[1:])
        if pool.rows:
            heard(pool.rows, pool.step())
            pool.leave()
    return worst if worst == worst else float("inf")


def _sizes(pool: Pool) -> tuple[int, int]:
    stores = [(shelf.own, shelf.prompt) for shelf in pool.shelves]
    row, prompt = (
        sum(keys.shape[1] * (keys.shape[2] + values.shape[3]) for keys, values in side if keys is not None)
        for side in ([own for own, _ in stores if own], [shared for _, shared in stores if shared])
    )
    return row, prompt
