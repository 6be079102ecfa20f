"""What both families of students do alike: padding, adapters, decoding, and writing and reading trained weights."""

from __future__ import annotations

import copy
import ctypes
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from quipwright.core.errors import DataError, WeightsError
from quipwright.core.progress import console
from quipwright.core.records import DiverseBeams, Sampling
from quipwright.students.base import DecodingMode, Generated, LoRA, OnToken, Prompted, StudentSettings
from quipwright.students.batches import LogProbs, RankedBatch
from quipwright.students.precision import as_written
from quipwright.students.trained_file import restore, write_trained
from quipwright.students.weights import quiet

if TYPE_CHECKING:  # transformers takes seconds to import
    from quipwright.students.engine import Engine

STUDENT_FILE = "student.json"
WEIGHTS_FILE = "student.safetensors"
_LAYER = re.compile(r"\b(?:layers?|h)\.(\d+)\.")


def pad(rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "rows width"], Bool[Tensor, "rows width"]]:
    """``rows`` of ids right-padded with 0, and which places are real: two tensors ``rows x width``."""
    width = max(1, *map(len, rows)) if rows else 1
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, : len(row)] = True
    return ids, mask


def ranked_batch(
    prompts: Sequence[list[int]], responses: Sequence[list[list[int]]], rows: Sequence[Prompted]
) -> RankedBatch:
    """The token ids of ``rows`` as one batch; a row of fewer responses than the widest gets absent columns."""
    k = max(len(row.responses) for row in rows)
    ranks = [(list(row.ranks) or list(range(len(row.responses)))) + [0] * (k - len(row.responses)) for row in rows]
    prompt, prompt_mask = pad(prompts)
    flat, mask = pad([ids for row in responses for ids in row + [[]] * (k - len(row))])
    shape = (len(rows), k, flat.shape[1])
    return RankedBatch(prompt, prompt_mask, flat.view(shape), mask.view(shape), torch.tensor(ranks))


def add_lora(network: Any, lora: LoRA, first_layer: int = 0, layers: int | None = None) -> Any:
    """``network`` with fresh float32 adapters on its linear layers (from ``first_layer`` on); the rest is frozen.

    The adapters' first factors are drawn from torch's seed, so seed before.
    """
    from peft import LoraConfig, get_peft_model

    targets: str | list[str] = "all-linear"
    if layers is not None:
        linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
        targets = [n for n in linear if (layer := _LAYER.search(n)) and first_layer <= int(layer[1]) < layers]
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft still asks transformers by an older name
        wrapped: Any = get_peft_model(network, config, autocast_adapter_dtype=True)
    wrapped.config.use_cache = True
    module: Any
    for module in wrapped.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False  # autocast casts the small factors; casting the inputs costs more
    return wrapped


def adapted_layers(network: Any) -> list[Any]:
    """The layers of ``network`` that peft has put adapters on."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [layer for layer in network.modules() if isinstance(layer, BaseTunerLayer)]


def read_generated(tokenizer: Any, ids: Sequence[int], end: int) -> Generated:
    """The first line of generated ``ids`` before ``end``; truncated where neither that nor a line's end came."""
    finished = end in ids
    kept = list(ids)[: list(ids).index(end)] if finished else list(ids)
    lines = tokenizer.decode(kept, skip_special_tokens=True).strip().split("\n")
    return Generated(lines[0].strip(), truncated=not finished and len(lines) == 1)


def need_room(longest: int, new: int, context: int) -> None:
    """Raises :class:`DataError` where ``new`` tokens after a prompt of ``longest`` outgrow ``context``."""
    if longest + new > context:
        raise DataError(
            f"A prompt of {longest} tokens leaves no room for {new} more in a context of {context}.",
            "Shorten it or raise student.context.",
        )


@cache
def say_generated(reason: str) -> None:
    """Say, once for each ``reason``, that writing takes longer than for most models."""
    console.print(f"This student writes through transformers' generate, which takes longer: {reason}.", soft_wrap=True)


def _give_back() -> None:
    """Hand memory that was freed back to the system, where the C library does that when it is asked."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class NetworkStudent(ABC):
    """The part of a student (see the ``Student`` protocol) that does not depend on its family."""

    network: Any
    """The transformers model, possibly wrapped by peft."""
    module: Any
    """What training calls: ``network`` with the log-probabilities of a batch as its output."""
    settings: StudentSettings
    tokenizer: Any
    memory: int = 2 * 2**30
    base: str = ""
    """The identity of the weights that ``network`` was loaded from, where they were loaded by settings."""
    opening: Sequence[int] = ()
    """What an encoder-decoder's decoder is given before a text."""

    def __init__(self, network: Any, module: Any, settings: StudentSettings) -> None:
        """``module`` computes log-probabilities with ``network``."""
        self.network, self.module, self.settings = network, module, settings
        self._engine: Engine | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that training may change, by name; asking for them drops the engine."""
        self._engine = None
        return self._trained()

    def logprobs(self, batch: RankedBatch, *, uniform: bool = False) -> LogProbs:
        """Log-probabilities under the current weights (see the family's policy)."""
        result: LogProbs = self.module(batch, uniform)
        return result

    @property
    def engine(self) -> Engine:
        """The decoding engine over a merged copy of the network, kept until the weights change.

        The copy's own generation settings are emptied: published configs carry beams, forced tokens and n-gram bans that
        would be mixed silently into ours.
        """
        if self._engine is None:
            self._engine = self._opened(self.merged())
        return self._engine

    def _opened(self, network: Any) -> Engine:
        """An engine that takes ``network`` over."""
        from transformers import GenerationConfig

        from quipwright.students.engine import Engine

        network.eval().generation_config = GenerationConfig()
        with quiet():
            engine = Engine.of(network, self.opening or None, self.memory, self.padded)
        if engine.mode == "generate":
            say_generated(engine.reason)
        return engine

    @property
    def decoding(self) -> DecodingMode:
        """How it writes."""
        return DecodingMode(self.engine.mode, self.engine.reason)

    @property
    def padded(self) -> bool:
        """Whether transformers' ``generate`` may be given prompts of unequal lengths together."""
        return True

    @abstractmethod
    def write(
        self, prompts: Sequence[str], sampling: Sampling | DiverseBeams, k: int = 1, on_token: OnToken | None = None
    ) -> Iterator[tuple[int, list[Generated]]]:
        """See the ``Student`` protocol. Raises :class:`DataError` for a prompt that leaves no room in the context."""

    def generate(
        self, prompts: Sequence[str], sampling: Sampling | DiverseBeams, k: int = 1, on_token: OnToken | None = None
    ) -> list[list[Generated]]:
        """What :meth:`write` gives, in the order of ``prompts``."""
        texts = dict(self.write(prompts, sampling, k, on_token))
        return [texts[i] for i in range(len(prompts))]

    def decode(
        self,
        ids: Sequence[Sequence[int]],
        sampling: Sampling | DiverseBeams,
        k: int,
        on_token: OnToken | None,
        *,
        end: int,
        padding: int,
    ) -> Iterator[tuple[int, list[Generated]]]:
        """:meth:`write` for prompts of token ids; diverse beams vote neither against ``end`` nor against ``padding``."""

        def heard(prompt: int, _: int, text: list[int]) -> None:
            if on_token is not None:
                on_token(prompt, read_generated(self.tokenizer, text, end).text)

        if isinstance(sampling, DiverseBeams):
            made = self.engine.diverse(
                ids, groups=sampling.groups, penalty=sampling.penalty, max_tokens=sampling.max_tokens, end=end,
                padding=padding,
            )  # fmt: skip
        elif sampling.beams > 1:
            made = self.engine.beam(ids, beams=sampling.beams, n=k, max_tokens=sampling.max_tokens, end=end)
        else:
            made = self.engine.sample(
                ids, k=k, temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_tokens,
                end=end, seed=sampling.seed, first_sample=sampling.index,
                on_token=heard if on_token is not None and k == 1 else None,
            )  # fmt: skip
        for prompt, texts in made:
            yield prompt, [read_generated(self.tokenizer, text, end) for text in texts]

    def merged(self) -> Any:
        """A copy of the network with the adapters merged in, in the precision of generation.

        The sum is taken in float32 and rounded once.
        """
        network = copy.deepcopy(self.network)
        if isinstance(self.settings.tuning, LoRA):
            network = network.float().merge_and_unload()
        return network.to(torch.bfloat16 if self.settings.precision == "bf16" else torch.float32)

    def settle(self) -> None:
        """Give up training for memory: the network with the adapters merged in becomes the only one there is.

        Texts stay what they were, for each sum is taken in float32 and rounded once here, too. Nothing can be trained, saved
        or exported afterwards.
        """
        network = self.network
        if isinstance(self.settings.tuning, LoRA):
            for layer in adapted_layers(network):
                held = layer.get_base_layer().weight.dtype
                layer.get_base_layer().float()
                layer.merge()
                layer.get_base_layer().to(held)
            network = network.unload()
        self._engine = None
        self.settings = self.settings.model_copy(update={"tuning": "full"})
        self.network = self.module.network = as_written(network, self.settings.precision)
        self._engine = self._opened(self.network)
        _give_back()

    def save(self, folder: Path) -> None:
        """Write the trained weights in float32 (adapter alone, or all) to ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: p.detach().float() for name, p in self._trained().items()}
        write_trained(folder / WEIGHTS_FILE, tensors, self.base)

    def load(self, folder: Path) -> None:
        """Read trained weights from ``folder``. Raises :class:`WeightsError` where they are missing, do not fit, are not
        finite, or were trained on other base weights."""
        path = folder / WEIGHTS_FILE
        if not path.exists():
            raise WeightsError(f"{path} does not exist.", "Name a checkpoint folder of a run.")
        restore(path, self._trained(), self.base, self.settings.weights)
        self._engine = None

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.network.named_parameters() if p.requires_grad}
