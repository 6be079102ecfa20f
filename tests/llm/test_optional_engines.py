"""The optional engines: what we ask of them and read from them, at their own boundary with a tiny Llama behind it, and the
real ones where installed."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quipwright.core.errors import WeightsError
from quipwright.core.records import Sampling
from quipwright.critics.base import BuildContext
from quipwright.critics.multiple_choice import MultipleChoice, MultipleChoiceCritic
from quipwright.critics.reader import Reader
from quipwright.data.task import Task
from quipwright.llm.calls import Calls
from quipwright.llm.gguf import Gguf, GgufBackend, GgufTokenizer
from quipwright.llm.in_process import Backend, InProcessModel
from quipwright.llm.local import Local, TransformersBackend
from quipwright.llm.types import Failure, Message, Request, complete
from quipwright.llm.vllm import Vllm, VllmBackend
from quipwright.testing.asking import comparison
from quipwright.testing.tiny_chat import asked, network, tokenizer


class FakeLlama:
    """What :mod:`quipwright.llm.gguf` uses of ``llama_cpp.Llama``."""

    def __init__(self, n_ctx: int) -> None:
        self.model, self.tok = network(), tokenizer()
        self.scores = np.zeros((n_ctx, 98), dtype=np.float32)

    def token_bos(self) -> int:
        return 0

    def tokenize(self, text: bytes, add_bos: bool, special: bool) -> list[int]:
        return self.tok(text.decode(), add_special_tokens=False)["input_ids"]  # type: ignore[no-any-return]

    def reset(self) -> None:
        self.scores[:] = 0

    def eval(self, ids: list[int]) -> None:
        with torch.inference_mode():
            self.scores[: len(ids)] = self.model(torch.tensor([ids])).logits[0].numpy()

    def create_completion(self, prompt: list[int], max_tokens: int, **options: Any) -> dict[str, Any]:
        made = self.model.generate(torch.tensor([prompt]), max_new_tokens=max_tokens, do_sample=False, pad_token_id=0)
        ids = made[0, len(prompt) :].tolist()
        names = [self.tok.decode([i]) for i in ids]
        logprobs = {"tokens": names, "token_logprobs": [-0.5] * len(ids), "top_logprobs": [{n: -0.5} for n in names]}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(ids)}
        return {"choices": [{"text": "".join(names), "finish_reason": "length", "logprobs": logprobs}], "usage": usage}


def formatter(begin: bool) -> Any:
    """What renders a conversation in llama-cpp-python."""

    def render(messages: list[dict[str, str]]) -> Any:
        text = tokenizer().apply_chat_template(messages, tokenize=False, add_generation_prompt=begin)
        return types.SimpleNamespace(prompt=text)

    return render


class FakeEngine:
    """What :mod:`quipwright.llm.vllm` uses of ``vllm.LLM``."""

    def __init__(self) -> None:
        self.model = network()

    def get_tokenizer(self) -> Any:
        return tokenizer()

    def generate(self, prompts: list[dict[str, list[int]]], params: list[Any], use_tqdm: bool) -> list[Any]:
        return [self._one(prompt["prompt_token_ids"], wanted) for prompt, wanted in zip(prompts, params, strict=True)]

    def _one(self, ids: list[int], params: Any) -> Any:
        tok = tokenizer()
        with torch.inference_mode():
            nats = self.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        made = self.model.generate(
            torch.tensor([ids]), max_new_tokens=params.max_tokens, do_sample=False, pad_token_id=0
        )
        new = made[0, len(ids) :].tolist()

        def entry(i: int, value: float) -> dict[int, Any]:
            return {i: types.SimpleNamespace(logprob=value, decoded_token=tok.decode([i]))}

        seen = [None, *(entry(ids[i], float(nats[i - 1, ids[i]])) for i in range(1, len(ids)))]
        logprobs = [entry(i, -0.5) for i in new] if getattr(params, "logprobs", None) else None
        text = tok.decode(new)
        output = types.SimpleNamespace(text=text, token_ids=new, finish_reason="length", logprobs=logprobs)
        return types.SimpleNamespace(outputs=[output], prompt_token_ids=ids, prompt_logprobs=seen)


def backend(kind: str, context: int = 2048) -> Backend:
    """Ours on top of theirs."""
    if kind == "vllm":
        return VllmBackend(FakeEngine(), types.SimpleNamespace, "tiny", 8, context)
    llama = FakeLlama(context)
    return GgufBackend(llama, GgufTokenizer(llama, formatter, llama.tok.chat_template), "tiny", context)


@pytest.fixture(params=["gguf", "vllm"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def model(kind: str, calls: Calls, context: int = 2048) -> InProcessModel:
    return InProcessModel("tiny", {"kind": kind, "context": context}, lambda: backend(kind, context), calls)


def test_an_engine_reads_as_the_same_weights_do_in_transformers(kind: str, tmp_path: Path) -> None:
    plain = TransformersBackend(network(), tokenizer(), "tiny")
    begun = (Message("user", "which?"), Message("assistant", "Answer:"))
    requests = [Request(begun, Sampling(), ("1", "2")), asked("x", options=("1", "2"))]
    texts = [("", "The cat sat."), ("The cat ", "sat.")]
    greedy = asked("hello", sampling={"temperature": 0.0}, logprobs=3)
    with Calls.open(tmp_path / "run") as calls:
        door = model(kind, calls)
        able = door.capabilities
        assert (able.exact, able.score, able.system, able.prefill) == (True, True, True, "plain")
        nats = plain.label_nats(requests)
        for choice, own in zip(door.choose_many(requests), nats, strict=True):
            assert choice.probabilities[0] / choice.probabilities[1] == pytest.approx(np.exp(own[0] - own[1]), rel=1e-3)
        for mine, theirs in zip(door.score_many(texts), plain.score(texts), strict=True):
            assert (mine.nats, mine.tokens) == (pytest.approx(theirs.nats, abs=1e-3), theirs.tokens)
        answer, expected = door.complete_many([greedy])[0], plain.complete([greedy])[0]
        assert (answer.text, answer.tokens_in, answer.tokens_out) == (
            expected.text,
            expected.tokens_in,
            expected.tokens_out,
        )
        assert "".join(token.text for token in answer.tokens) == answer.text
        critic = MultipleChoiceCritic(door, Task.load(), Reader(coverage=0.0))
        assert len(critic.judge([comparison()])) == 2


def test_what_is_too_long_fails_alone(kind: str, tmp_path: Path) -> None:
    long, options = "x" * 60, {"options": ("1", "2")}
    with Calls.open(tmp_path / "run") as calls:
        door = model(kind, calls, context=64)
        for answers in (
            door.complete_many([asked(text) for text in (long, "hi")]),
            door.choose_many([asked(text, **options) for text in (long, "hi")]),
            door.score_many([("", long + long), ("", "hi")]),
        ):
            assert [isinstance(answer, Failure) for answer in answers] == [True, False]
            assert "tokens; the context is 64" in answers[0].reason


def test_vllm_is_started_without_code_of_strangers_and_says_why_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, Any] = {}

    def start(**options: Any) -> None:
        started.update(options)
        raise ValueError("no GPU\nwas found")

    monkeypatch.setitem(sys.modules, "vllm", types.SimpleNamespace(LLM=start, SamplingParams=None))
    with Calls.open(tmp_path) as calls, pytest.raises(WeightsError, match="could not load 'w': no GPU was found"):
        complete(Vllm(weights="w", gpus=2, context=128).build(calls), [Message("user", "hi")])
    assert started["trust_remote_code"] is False
    assert (started["model"], started["tensor_parallel_size"], started["max_model_len"]) == ("w", 2, 128)


@pytest.mark.parametrize(("door", "package"), [(Gguf(), "llama_cpp"), (Vllm(weights="x"), "vllm")])
def test_a_missing_engine_is_one_line(door: Any, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    if package == "llama_cpp":
        (tmp_path / "x.gguf").write_bytes(b"GGUF")
        door = Gguf(path=str(tmp_path / "x.gguf"))
    with (
        Calls.open(tmp_path / "run") as calls,
        pytest.raises(WeightsError, match=r"is not installed.*pip install 'quipwright\["),
    ):
        complete(door.build(calls), [Message("user", "hi")], Sampling())


def test_a_missing_gguf_file_is_one_line(tmp_path: Path) -> None:
    with Calls.open(tmp_path) as calls, pytest.raises(WeightsError, match="does not exist"):
        Gguf(path="nowhere.gguf").build(calls)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed")
def test_the_embedded_gguf_answers_and_judges(tmp_path: Path) -> None:
    with Calls.open(tmp_path) as calls:
        door = Gguf().build(calls)
        assert complete(door, [Message("user", "Say hello.")], Sampling(max_tokens=8)).text.strip()
        critic = MultipleChoice(model=Gguf()).build(BuildContext(None, Task.load(), calls))
        judged = critic.judge([comparison("My socks now swim.", "It did rain.")])
        assert all("coverage" in judgment.reason for judgment in judged)
        begun = (
            Message("user", "Which is larger, 7 or 3? Reply with Answer: 1 or Answer: 2."),
            Message("assistant", "Answer:"),
        )
        asked_of = Request(begun, Sampling(max_tokens=4), ("1", "2"))
        other = Local(weights="embedded").build(calls)  # the same file, dequantised: only the rounding differs
        (here,), (there,) = door.choose_many([asked_of]), other.choose_many([asked_of])
        assert not isinstance(here, Failure)
        assert not isinstance(there, Failure)
        assert here.probabilities[0] == pytest.approx(there.probabilities[0], abs=0.05)
        text = "The cat sat on the mat."
        (mine,), (theirs,) = door.score_many([("", text)]), other.score_many([("", text)])
        assert mine.nats == pytest.approx(theirs.nats, rel=0.05)
