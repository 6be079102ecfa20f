"""A quantised GGUF file through llama-cpp-python (optional): a teacher on a laptop without a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from quipwright.core.errors import RecipeError, WeightsError
from quipwright.core.paths import resolve
from quipwright.llm.calls import Calls
from quipwright.llm.in_process import InProcessModel
from quipwright.llm.model_settings import ModelSettings
from quipwright.llm.openai_api import clean, seed_of
from quipwright.llm.prompts import Continuation, labels_after, prompt_ids, render, takes_system, text_after
from quipwright.llm.recorder import recorded
from quipwright.llm.types import Capabilities, ChatModel, Completion, Request, Score, Token
from quipwright.students.weights import EMBEDDED, GGUF_SHA256, embedded_gguf, known_sha256


class Gguf(ModelSettings):
    """A GGUF file. ``path``: the file, or ``embedded``. ``context``: tokens of a prompt and its answer.

    ``gpu_layers``: how many layers go to the GPU (-1: all). ``revision`` is a note of yours.
    """

    in_process: ClassVar[bool] = True
    kind: Literal["gguf"] = "gguf"
    path: str = EMBEDDED
    revision: str | None = None
    context: int = Field(2048, ge=64)
    gpu_layers: int = Field(0, ge=-1)
    threads: int | None = Field(None, ge=1)
    record: str | None = None

    def identity(self) -> dict[str, Any]:
        """What of these settings changes an answer."""
        return {"kind": self.kind, "file": Path(self.path).name, "revision": self.revision}

    def content(self, recipe_dir: Path | None) -> str:
        """The content of the file. Raises :class:`WeightsError` where it is not there."""
        return GGUF_SHA256[:16] if self.path == EMBEDDED else known_sha256(self._file(recipe_dir))[:16]

    def _file(self, recipe_dir: Path | None) -> Path:
        path = embedded_gguf() if self.path == EMBEDDED else resolve(self.path, "GGUF file", recipe_dir)
        if not path.is_file():
            raise WeightsError(f"GGUF file {path} does not exist.", "Check the path, or use path: embedded.")
        return path

    def build(self, calls: Calls) -> ChatModel:
        """The model, storing through ``calls``. Raises :class:`WeightsError` when the file is not there."""
        path = self._file(calls.base)
        identity = self.identity() | {"content": self.content(calls.base)}
        model = InProcessModel(path.stem, identity, lambda: GgufBackend.open(self, path), calls)
        return recorded(model, self.record, calls)


class GgufTokenizer:
    """llama.cpp's tokeniser and chat template behind the few methods of transformers' that rendering uses."""

    def __init__(self, llama: Any, formatter: Any, template: str | None) -> None:
        """``formatter(begin)`` renders turns; ``begin`` asks for the beginning of an answer behind them."""
        self._llama, self._formatter, self.chat_template = llama, formatter, template
        self.bos_token_id: int | None = llama.token_bos() if llama.token_bos() >= 0 else None

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        """Token ids; special tokens written in the text are read as such, because templates write them."""
        ids = self._llama.tokenize(text.encode("utf-8", "replace"), add_bos=add_special_tokens, special=True)
        return {"input_ids": list(ids)}

    def apply_chat_template(
        self, turns: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool, continue_final_message: bool
    ) -> str:
        """The conversation as text; a begun answer is simply continued."""
        begun = turns[-1]["content"] if continue_final_message else ""
        shown = turns[:-1] if continue_final_message else turns
        return str(self._formatter(add_generation_prompt or continue_final_message)(messages=shown).prompt) + begun


class GgufBackend:
    """A model of llama.cpp (see the ``Backend`` protocol); it answers one request at a time."""

    batch = 1

    def __init__(self, llama: Any, tokenizer: GgufTokenizer, name: str, context: int) -> None:
        """Wrap a loaded model that keeps the logits of all positions; :meth:`open` loads one by settings."""
        self.llama, self.tokenizer, self.name, self.context = llama, tokenizer, name, context

    @classmethod
    def open(cls, settings: Gguf, path: Path) -> GgufBackend:
        """Load the file. Raises :class:`WeightsError` when llama-cpp-python is missing or refuses the file."""
        try:
            from llama_cpp import Llama
            from llama_cpp.llama_chat_format import Jinja2ChatFormatter
        except ImportError as error:  # of the engine, or of a part that it needs
            raise WeightsError(
                f"kind: gguf needs llama-cpp-python, and {error.name} is not installed.",
                "Install it: pip install 'quipwright[gguf]'.",
            ) from None
        try:
            llama = Llama(
                model_path=str(path), n_ctx=settings.context, n_gpu_layers=settings.gpu_layers,
                n_threads=settings.threads, logits_all=True, verbose=False,
            )  # fmt: skip
        except (ValueError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())[:120]
            raise WeightsError(f"{path} could not be loaded: {reason}.", "Check that it is a GGUF file.") from None
        template = llama.metadata.get("tokenizer.chat_template")

        def formatter(begin: bool) -> Any:
            first, end = (llama.detokenize([i], special=True).decode() for i in (llama.token_bos(), llama.token_eos()))
            return Jinja2ChatFormatter(template, eos_token=end, bos_token=first, add_generation_prompt=begin)

        return cls(llama, GgufTokenizer(llama, formatter, template), path.stem, settings.context)

    @property
    def capabilities(self) -> Capabilities:
        """All there is: the full distribution is at hand."""
        system = takes_system(self.tokenizer)
        return Capabilities(logprobs=20, prefill="plain", exact=True, score=True, system=system)

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """One reply a request."""
        return [self._complete(request) for request in requests]

    def label_nats(self, requests: Sequence[Request]) -> list[list[float]]:
        """Whole-continuation log-probabilities."""
        wanted = [labels_after(self.tokenizer, request.messages, request.options) for request in requests]
        return [[self._nats(one) for one in options] for options in wanted]

    def score(self, texts: Sequence[tuple[str, str]]) -> list[Score]:
        """Summed log-probability of each text, in float64."""
        wanted = [text_after(self.tokenizer, before, text) for before, text in texts]
        return [Score(self._nats(one), max(0, len(one.ids) - one.start)) for one in wanted]

    def _complete(self, request: Request) -> Completion:
        prompt, sampling = prompt_ids(self.tokenizer, render(self.tokenizer, request.messages)), request.sampling
        if sampling.beams > 1:
            raise RecipeError(f"{self.name} has no beam search.", "Set beams: 1 and a temperature.")
        self.llama.reset()
        made = self.llama.create_completion(
            prompt, max_tokens=sampling.max_tokens, temperature=sampling.temperature, top_p=sampling.top_p, top_k=0,
            min_p=0.0, repeat_penalty=1.0, seed=seed_of(sampling), logprobs=request.logprobs or None,
        )  # fmt: skip
        choice, usage = made["choices"][0], made["usage"]
        finish = "length" if choice["finish_reason"] == "length" else "stop"
        tokens = _tokens(choice["logprobs"]) if request.logprobs and choice.get("logprobs") else None
        return Completion(
            clean(choice["text"]), finish, None, usage["prompt_tokens"], usage["completion_tokens"], tokens
        )

    def _nats(self, one: Continuation) -> float:
        targets = one.ids[one.start :]
        if not targets:
            return 0.0
        self.llama.reset()
        self.llama.eval(list(one.ids[:-1]))
        logits = np.asarray(self.llama.scores[one.start - 1 : len(one.ids) - 1], dtype=np.float64)
        logits -= logits.max(1, keepdims=True)
        nats = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return float(nats[np.arange(len(targets)), list(targets)].sum())


def _tokens(logprobs: dict[str, Any]) -> tuple[Token, ...]:
    """The old completions format: parallel lists of tokens, log-probabilities and alternatives."""
    columns = zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True)
    return tuple(
        Token(text, float(p or 0.0), tuple((t, float(q)) for t, q in (top or {}).items())) for text, p, top in columns
    )
