"""The way in: one object that decodes with a network, whatever its family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from quipwright.students.engine.attention import NAME
from quipwright.students.engine.beams import Beams
from quipwright.students.engine.diverse import Diverse
from quipwright.students.engine.fallback import Fallback
from quipwright.students.engine.loops import Decoding, Texts, run
from quipwright.students.engine.pool import Mode, Pool
from quipwright.students.engine.probe import Finding, probe
from quipwright.students.engine.sampling import OnToken, Sampling
from quipwright.students.engine.shelves import whole
from quipwright.students.precision import multiplies_bfloat16

__all__ = ["Engine", "OnToken", "Texts"]

PLACES = {"cpu": 216}
"""Texts that are written together at most: on a CPU more are hardly faster. Samples that are alike so far count singly."""
_ELSEWHERE = 1024
MEMORY = 2 * 2**30
"""Bytes that rows and prompts may take beside the weights, where nothing else is said."""


class Engine:
    """Decodes many prompts together, ``k`` samples or beams each; every text is as it would be alone.

    ``mode``: "mixed" (rows of any age together), "waves" (rows start together), or "generate" (transformers' own
    ``generate``, with ``reason``).
    """

    def __init__(
        self, network: Any, opening: Sequence[int] | None, memory: int, finding: Finding, padded: bool = True
    ) -> None:
        """Use :meth:`of`, which finds out how ``network`` may be decoded."""
        self.network, self.opening, self.memory, self.finding, self.padded = network, opening, memory, finding, padded
        self.mode, self.reason = finding.mode, finding.reason

    @classmethod
    def of(
        cls, network: Any, opening: Sequence[int] | None = None, memory: int = MEMORY, padded: bool = True
    ) -> Engine:
        """An engine over a transformers ``network``, which it takes over: attention, precision, generation settings.

        ``opening``: the ids an encoder-decoder's decoder is given before a text; None for decoder-only networks.
        ``memory``: bytes that rows and prompts may take beside the weights. ``padded``: whether transformers'
        ``generate`` may be given prompts of unequal lengths together. On a CPU without bfloat16 instructions the
        network is computed in float32, which is several times faster there.
        """
        network.eval()
        half = network.dtype in (torch.bfloat16, torch.float16)
        if half and not multiplies_bfloat16(network.device):
            network.float()
        finding = probe(network, opening)
        if finding.mode == "generate":
            # Behind the prompt only the last position is read, a strided view; for that torch copies the whole output
            # matrix once a row. A contiguous input takes the plain product.
            network.get_output_embeddings().register_forward_pre_hook(lambda _, args: (args[0].contiguous(),))
        else:
            network.set_attn_implementation(NAME)
        return cls(network, opening, memory, finding, padded)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        k: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        end: int,
        seed: int,
        first_sample: int = 0,
        on_token: OnToken | None = None,
    ) -> Iterator[Texts]:
        """``k`` texts a prompt by nucleus sampling (temperature 0: greedy): pairs of a prompt's place in ``prompts`` and
        its texts, as prompts end.

        A text is ids up to ``end``, included, or cut at ``max_tokens``. It depends on the network, its prompt's ids,
        ``seed`` and its sample number (from ``first_sample`` on); equal prompts get equal texts.
        """
        if self.mode == "generate":
            return self._fallback(prompts, k, max_tokens).sample(
                prompts, k, temperature, top_p, max_tokens, end, seed, first_sample, on_token
            )
        decoding = Sampling(k, temperature, top_p, max_tokens, end, seed, first_sample, on_token)
        return self._run(decoding, prompts, max_tokens)

    def beam(
        self, prompts: Sequence[Sequence[int]], *, beams: int, n: int = 1, max_tokens: int, end: int
    ) -> Iterator[Texts]:
        """The best ``n`` texts of ``beams`` beams a prompt (see :mod:`.beams`), best first; pairs as :meth:`sample` gives."""
        if beams == 1 and n == 1:
            return self.sample(prompts, k=1, temperature=0.0, top_p=1.0, max_tokens=max_tokens, end=end, seed=0)
        if self.mode == "generate":
            return self._fallback(prompts, beams, max_tokens).beam(prompts, beams, n, max_tokens, end)
        return self._run(Beams(beams, n, max_tokens, end), prompts, max_tokens)

    def diverse(
        self, prompts: Sequence[Sequence[int]], *, groups: int, penalty: float, max_tokens: int, end: int, padding: int
    ) -> Iterator[Texts]:
        """One text a group by diverse beam search, ``penalty`` in nats a vote; pairs as :meth:`sample` gives."""
        if self.mode == "generate":
            return self._fallback(prompts, groups, max_tokens).diverse(
                prompts, groups, penalty, max_tokens, end, padding
            )
        return self._run(Diverse(groups, penalty, max_tokens, end, padding), prompts, max_tokens)

    @torch.inference_mode()
    def read(self, ids: Sequence[int], first: int) -> Float[Tensor, "tokens vocabulary"]:
        """The logits by which a decoder-only network draws the tokens of ``ids`` from number ``first`` on."""
        asked = torch.arange(first - 1, len(ids) - 1, device=self.network.device)
        if self.mode == "generate":
            inputs = torch.tensor([list(ids)], device=self.network.device)
            logits: Tensor = self.network(input_ids=inputs, use_cache=False).logits[0, asked]
            return logits
        mode: Mode = "waves" if self.mode == "waves" else "mixed"
        return Pool(self.network, mode, None, 1, 1).score(ids, asked)

    def _run(self, decoding: Decoding, prompts: Sequence[Sequence[int]], limit: int) -> Iterator[Texts]:
        mode: Mode = "waves" if self.mode == "waves" else "mixed"

        def open_pool(places: int) -> Pool:
            return Pool(self.network, mode, self.opening, decoding.lanes, places)

        return run(open_pool, decoding, prompts, self._places(prompts, decoding.lanes, limit))

    def _fallback(self, prompts: Sequence[Sequence[int]], lanes: int, limit: int) -> Fallback:
        return Fallback(self.network, self.opening, self._places(prompts, lanes, limit), self.padded)

    def _places(self, prompts: Sequence[Sequence[int]], lanes: int, limit: int) -> int:
        """Rows that may be written together: as many as the memory holds (at most two prompts for ``lanes`` rows)."""
        size = self.network.dtype.itemsize
        vocabulary = self.network.get_input_embeddings().weight.shape[0]
        row = self.finding.row * size * whole(limit + len(self.opening or ())) + 3 * 4 * vocabulary
        prompt = self.finding.prompt * size * whole(max(map(len, prompts), default=1))
        most = min(PLACES.get(self.network.device.type, _ELSEWHERE), lanes * len(prompts))
        return max(lanes, min(int(self.memory / (row + 2 * prompt / lanes)), most))
