"""Weights of one's own through transformers: batched, bf16, on a GPU when there is one.

Every row draws from its own random stream, so an answer does not depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from quipwright.core.errors import RecipeError, WeightsError
from quipwright.llm.openai_api import seed_of
from quipwright.llm.own_weights import OwnWeights
from quipwright.llm.prompts import Continuation, labels_after, prompt_ids, render, takes_system, text_after
from quipwright.llm.types import Capabilities, Completion, Request, Score, Token
from quipwright.students.weights import device, load, load_network


class Local(OwnWeights):
    """Local or hub weights as a teacher or critic. ``weights``: ``embedded``, a folder, or a hub name."""

    kind: Literal["local"] = "local"
    weights: str = "embedded"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def backend(self, recipe_dir: Path | None) -> TransformersBackend:
        """The network with its tokenizer."""
        return TransformersBackend.open(self, recipe_dir)


class TransformersBackend:
    """A causal language model of transformers (see the ``Backend`` protocol)."""

    def __init__(self, network: Any, tokenizer: Any, name: str, batch: int = 16, context: int = 2048) -> None:
        """Wrap a loaded model; :meth:`open` loads one by settings."""
        self.network, self.tokenizer = _exact_head(network.eval()), tokenizer
        self.name, self.batch, self.context = name, batch, context
        ends = getattr(network.generation_config, "eos_token_id", None)
        self._ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}

    @classmethod
    def open(cls, settings: Local, recipe_dir: Path | None = None) -> TransformersBackend:
        """Load weights and tokenizer, a relative folder seen from ``recipe_dir``.

        Raises :class:`WeightsError` when they cannot be had or are no such model."""
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        weights, revision = settings.weights, settings.revision
        if getattr(load(AutoConfig, weights, revision, recipe_dir), "is_encoder_decoder", False):
            raise WeightsError(f"{settings.weights} is an encoder-decoder model.", "Name a chat model.")
        dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        network = load_network(AutoModelForCausalLM, weights, revision, dtype, recipe_dir)
        tokenizer = load(AutoTokenizer, weights, revision, recipe_dir)
        network = network.to(device() if settings.device == "auto" else settings.device)
        return cls(network, tokenizer, settings.weights, settings.batch, settings.context)

    @property
    def capabilities(self) -> Capabilities:
        """All there is: the full distribution is at hand."""
        system = takes_system(self.tokenizer)
        return Capabilities(logprobs=20, prefill="plain", exact=True, score=True, system=system)

    @torch.inference_mode()
    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """One reply a request: sampling per row, or greedy at temperature 0."""
        prompts = [prompt_ids(self.tokenizer, render(self.tokenizer, request.messages)) for request in requests]
        for request in requests:
            if request.sampling.beams > 1:
                raise RecipeError(f"{self.name} as a teacher has no beam search.", "Set beams: 1 and a temperature.")
        rows = [_Row(request, prompt) for request, prompt in zip(requests, prompts, strict=True)]
        ids, mask = self._padded(prompts)
        cache: Any = None
        while not all(row.done for row in rows):
            output = self.network(
                input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :],
                past_key_values=cache, use_cache=True, logits_to_keep=1,
            )  # fmt: skip
            cache = output.past_key_values
            drawn = [
                self._step(row, logits) for row, logits in zip(rows, output.logits[:, -1].float().cpu(), strict=True)
            ]
            ids = torch.tensor(drawn, device=mask.device)[:, None]
            mask = torch.cat([mask, torch.ones_like(ids)], 1)
        return [self._completion(row) for row in rows]

    @torch.inference_mode()
    def label_nats(self, requests: Sequence[Request]) -> list[list[float]]:
        """Whole-continuation log-probabilities; options that differ in their last token only share a forward pass."""
        wanted = [labels_after(self.tokenizer, request.messages, request.options) for request in requests]
        scores = iter(self._nats([one for options in wanted for one in options]))
        return [[next(scores) for _ in options] for options in wanted]

    @torch.inference_mode()
    def score(self, texts: Sequence[tuple[str, str]]) -> list[Score]:
        """Summed log-probability of each text, in float32."""
        wanted = [text_after(self.tokenizer, before, text) for before, text in texts]
        nats = self._nats(wanted)
        return [Score(value, max(0, len(one.ids) - one.start)) for value, one in zip(nats, wanted, strict=True)]

    def _nats(self, wanted: Sequence[Continuation]) -> list[float]:
        inputs = list(dict.fromkeys(one.ids[:-1] for one in wanted if len(one.ids) > one.start))
        tables: dict[tuple[int, ...], Tensor] = {}
        keep = max((len(one.ids) - one.start for one in wanted), default=0)
        for start in range(0, len(inputs), self.batch):
            part = inputs[start : start + self.batch]
            ids, mask = self._padded(part)
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            logits = self.network(
                input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=keep
            ).logits
            tables |= zip(part, logits.float().log_softmax(-1).cpu(), strict=True)
        return [self._sum(one, tables) for one in wanted]

    def _sum(self, one: Continuation, tables: dict[tuple[int, ...], Tensor]) -> float:
        targets = one.ids[one.start :]
        if not targets:
            return 0.0
        table = tables[one.ids[:-1]][-len(targets) :]
        return float(table.gather(1, torch.tensor(targets)[:, None]).sum())

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Left-padded ids and mask."""
        width, device = max(map(len, rows)), self.network.device
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
        return ids, mask

    def _step(self, row: _Row, logits: Tensor) -> int:
        if row.done:
            return 0
        drawn = row.draw(logits)
        if drawn in self._ends:
            row.finish = "stop"
        else:
            row.ids.append(drawn)
            if row.request.logprobs:
                row.tokens.append(self._token(drawn, logits.log_softmax(-1), row.request.logprobs))
            if len(row.ids) >= row.request.sampling.max_tokens:
                row.finish = "length"
        return drawn

    def _token(self, drawn: int, nats: Tensor, count: int) -> Token:
        values, places = nats.topk(min(count, len(nats)))
        names = self.tokenizer.batch_decode([[int(i)] for i in [drawn, *places]])
        return Token(names[0], float(nats[drawn]), tuple(zip(names[1:], values.tolist(), strict=True)))

    def _completion(self, row: _Row) -> Completion:
        text = self.tokenizer.decode(row.ids, skip_special_tokens=True)
        tokens = tuple(row.tokens) if row.request.logprobs else None
        return Completion(text, row.finish, None, len(row.prompt), len(row.ids), tokens)


def _exact_head(network: Any) -> Any:
    """``network`` with its output layer in float32: bf16 logits lie an eighth of a nat apart at 20, and two labels
    that differ by less would tie exactly (measured with SmolLM2)."""
    head = network.get_output_embeddings()
    if isinstance(head, torch.nn.Linear) and head.weight.dtype in (torch.bfloat16, torch.float16):
        exact = torch.nn.Linear(head.in_features, head.out_features, bias=head.bias is not None, device="meta")
        exact.weight = torch.nn.Parameter(head.weight.detach().float(), requires_grad=False)
        if head.bias is not None:
            exact.bias = torch.nn.Parameter(head.bias.detach().float(), requires_grad=False)
        exact.register_forward_pre_hook(lambda module, inputs: (inputs[0].float(),))
        network.set_output_embeddings(exact)
    return network


class _Row:
    """One answer in the making."""

    def __init__(self, request: Request, prompt: Sequence[int]) -> None:
        from quipwright.students.engine.draw import stream  # with it come parts of transformers that a recipe needs not

        self.request, self.prompt = request, prompt
        self.ids: list[int] = []
        self.tokens: list[Token] = []
        self.finish = "" if request.sampling.max_tokens > 0 else "length"
        # Of the prompt too: rows of one batch must not share their random numbers.
        self.key = torch.tensor([stream(seed_of(request.sampling), 0, prompt)])

    @property
    def done(self) -> bool:
        return bool(self.finish)

    def draw(self, logits: Tensor) -> int:
        from quipwright.students.engine.draw import draw

        sampling, place = self.request.sampling, torch.tensor([len(self.ids)])
        return int(draw(logits[None], self.key, place, max(0.0, sampling.temperature), sampling.top_p))
