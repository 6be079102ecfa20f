"""vLLM's offline engine (optional): tens of thousands of prompts on a GPU box, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from quipwright.core.errors import RecipeError, WeightsError
from quipwright.core.paths import weights_source
from quipwright.llm.openai_api import clean, seed_of
from quipwright.llm.own_weights import OwnWeights
from quipwright.llm.prompts import Continuation, labels_after, prompt_ids, render, takes_system, text_after
from quipwright.llm.types import Capabilities, Completion, Request, Score, Token


class Vllm(OwnWeights):
    """Weights in vLLM. ``batch`` prompts are handed over at once and stored when all are done; ``gpus`` share a model.

    ``memory``: share of each GPU's memory to use.
    """

    kind: Literal["vllm"] = "vllm"
    batch: int = Field(2048, ge=1)
    gpus: int = Field(1, ge=1)
    memory: float = Field(0.9, gt=0, le=1)

    def backend(self, recipe_dir: Path | None) -> VllmBackend:
        """A started engine."""
        return VllmBackend.open(self, recipe_dir)


class VllmBackend:
    """A vLLM engine (see the ``Backend`` protocol)."""

    def __init__(self, engine: Any, sampling_params: Any, name: str, batch: int, context: int) -> None:
        """Wrap a started engine; :meth:`open` starts one by settings. ``sampling_params`` is vLLM's class."""
        self.engine, self.tokenizer = engine, engine.get_tokenizer()
        self.name, self.batch, self.context, self._params = name, batch, context, sampling_params

    @classmethod
    def open(cls, settings: Vllm, recipe_dir: Path | None = None) -> VllmBackend:
        """Start the engine, a relative folder of weights seen from ``recipe_dir``.

        Raises :class:`WeightsError` when vLLM is missing or cannot have the weights."""
        try:
            from vllm import LLM, SamplingParams
        except ImportError as error:  # of the engine, or of a part that it needs
            raise WeightsError(
                f"kind: vllm needs vLLM, and {error.name} is not installed.",
                "Install it: pip install 'quipwright[vllm]'.",
            ) from None
        weights = weights_source(settings.weights, recipe_dir=recipe_dir)
        try:
            engine = LLM(
                model=weights, revision=settings.revision, trust_remote_code=False, max_logprobs=20,
                dtype="bfloat16" if settings.precision == "bf16" else "float32", max_model_len=settings.context,
                tensor_parallel_size=settings.gpus, gpu_memory_utilization=settings.memory, enable_prefix_caching=True,
            )  # fmt: skip
        except (ValueError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise WeightsError(
                f"vLLM could not load {settings.weights!r}: {reason}.", "Check name and GPU memory."
            ) from None
        return cls(engine, SamplingParams, settings.weights, settings.batch, settings.context)

    @property
    def capabilities(self) -> Capabilities:
        """Prompt log-probabilities give whole labels and texts exactly."""
        system = takes_system(self.tokenizer)
        return Capabilities(logprobs=20, prefill="plain", exact=True, score=True, system=system)

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """One reply a request."""
        prompts = [prompt_ids(self.tokenizer, render(self.tokenizer, request.messages)) for request in requests]
        outputs = self._generate(prompts, [self._sampling(request) for request in requests])
        return [_completion(output, request) for output, request in zip(outputs, requests, strict=True)]

    def label_nats(self, requests: Sequence[Request]) -> list[list[float]]:
        """Whole-continuation log-probabilities; the engine's prefix cache shares the prompt."""
        wanted = [labels_after(self.tokenizer, request.messages, request.options) for request in requests]
        nats = iter(self._nats([one for options in wanted for one in options]))
        return [[next(nats) for _ in options] for options in wanted]

    def score(self, texts: Sequence[tuple[str, str]]) -> list[Score]:
        """Summed log-probability of each text."""
        wanted = [text_after(self.tokenizer, before, text) for before, text in texts]
        nats = self._nats(wanted)
        return [Score(value, max(0, len(one.ids) - one.start)) for value, one in zip(nats, wanted, strict=True)]

    def _nats(self, wanted: Sequence[Continuation]) -> list[float]:
        params = self._params(max_tokens=1, temperature=0.0, prompt_logprobs=1)
        outputs = self._generate([list(one.ids) for one in wanted], [params] * len(wanted))
        return [
            sum(output.prompt_logprobs[i][one.ids[i]].logprob for i in range(one.start, len(one.ids)))
            for output, one in zip(outputs, wanted, strict=True)
        ]

    def _sampling(self, request: Request) -> Any:
        sampling = request.sampling
        if sampling.beams > 1:
            raise RecipeError(f"{self.name} as a teacher has no beam search.", "Set beams: 1 and a temperature.")
        return self._params(
            temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_tokens,
            seed=seed_of(sampling) if sampling.temperature > 0 else None, logprobs=request.logprobs or None,
        )  # fmt: skip

    def _generate(self, prompts: Sequence[Sequence[int]], params: Sequence[Any]) -> list[Any]:
        return list(
            self.engine.generate([{"prompt_token_ids": list(p)} for p in prompts], list(params), use_tqdm=False)
        )


def _completion(output: Any, request: Request) -> Completion:
    made = output.outputs[0]
    finish = "length" if made.finish_reason == "length" else "stop"
    tokens = None
    if request.logprobs and made.logprobs:
        tokens = tuple(_token(drawn, ranked) for drawn, ranked in zip(made.token_ids, made.logprobs, strict=True))
    return Completion(clean(made.text), finish, None, len(output.prompt_token_ids), len(made.token_ids), tokens)


def _token(drawn: int, ranked: dict[int, Any]) -> Token:
    """vLLM adds the drawn token where it is not among the likeliest; it counts as an alternative all the same."""
    top = sorted(((clean(one.decoded_token or ""), one.logprob) for one in ranked.values()), key=lambda pair: -pair[1])
    return Token(clean(ranked[drawn].decoded_token or ""), ranked[drawn].logprob, tuple(top))
