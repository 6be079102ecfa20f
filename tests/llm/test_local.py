"""Weights of one's own: random tiny Llamas, so that every number can be recomputed, and no download."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from quipwright.core.errors import ModelError, RecipeError
from quipwright.core.records import Sampling
from quipwright.critics.base import BuildContext
from quipwright.critics.cloze import Cloze, ClozeCritic
from quipwright.critics.multiple_choice import MultipleChoice, MultipleChoiceCritic
from quipwright.critics.reader import Reader
from quipwright.data.task import Task
from quipwright.llm.calls import Calls
from quipwright.llm.in_process import InProcessModel
from quipwright.llm.local import Local, TransformersBackend
from quipwright.llm.prompts import labels_after, text_after
from quipwright.llm.recorded import Recorded
from quipwright.llm.types import Completion, Failure, Message, Request, complete
from quipwright.testing.asking import comparison
from quipwright.testing.tiny_chat import TEMPLATE, asked, network, tokenizer


@pytest.fixture
def backend() -> TransformersBackend:
    return TransformersBackend(network(), tokenizer(), "tiny", batch=4)


def test_an_answer_does_not_depend_on_its_batch(backend: TransformersBackend) -> None:
    requests = [asked(text) for text in ("hi", "a much longer question than that", "hm?", "hi")]
    together = backend.complete(requests)
    alone = [backend.complete([request])[0] for request in requests]
    assert [a.text for a in together] == [a.text for a in alone]
    assert together[0].text == together[3].text
    other = backend.complete([asked("hi", sampling={"index": 1}), asked("hi", sampling={"seed": 1})])
    assert len({together[0].text, other[0].text, other[1].text}) == 3


def test_an_answer_matches_transformers_own_greedy_decoding(backend: TransformersBackend) -> None:
    (answer,) = backend.complete([asked("hello", sampling={"temperature": 0.0, "max_tokens": 8})])
    prompt = backend.tokenizer("<user>hello</><assistant>", return_tensors="pt", add_special_tokens=False)["input_ids"]
    made = backend.network.generate(prompt, max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert answer.text == backend.tokenizer.decode(made[0, prompt.shape[1] :], skip_special_tokens=True)
    assert (answer.tokens_in, answer.tokens_out, answer.finish) == (prompt.shape[1], 8, "length")


def test_log_probabilities_come_with_the_tokens(backend: TransformersBackend) -> None:
    (answer,) = backend.complete([asked("hello", logprobs=5)])
    assert answer.tokens is not None
    assert "".join(token.text for token in answer.tokens) == answer.text
    assert all(len(token.top) == 5 for token in answer.tokens)
    assert sum(math.exp(p) for _, p in answer.tokens[0].top) <= 1


def by_hand(model: Any, ids: list[int], start: int) -> float:
    """Sum of log-probabilities of ``ids[start:]``, one position after another, without padding or batching."""
    with torch.inference_mode():
        nats = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return sum(float(nats[i - 1, ids[i]]) for i in range(start, len(ids)))


def test_labels_are_scored_whole_behind_a_begun_answer(backend: TransformersBackend) -> None:
    messages = (Message("user", "which?"), Message("assistant", "Answer:"))
    one, two = labels_after(backend.tokenizer, messages, ("1", "2"))
    assert len(one.ids) - one.start == 2  # a blank and a digit
    expected = [by_hand(backend.network, list(c.ids), c.start) for c in (one, two)]
    requests = [Request(messages, Sampling(), ("1", "2")), asked("x", options=("1", "2"))]
    nats = backend.label_nats(requests)
    assert nats[0] == pytest.approx(expected, abs=1e-4)
    assert len(labels_after(backend.tokenizer, requests[1].messages, ("1",))[0].ids) > 0


def test_texts_are_scored_from_the_first_token_on(backend: TransformersBackend) -> None:
    texts = [("", "The cat sat."), ("The cat ", "sat on the mat."), ("x", "")]
    scores = backend.score(texts)
    whole = backend.tokenizer("The cat sat.", add_special_tokens=False)["input_ids"]
    assert scores[0].nats == pytest.approx(by_hand(backend.network, [0, *whole], 1), abs=1e-3)
    assert [score.tokens for score in scores] == [12, 15, 0]
    part = text_after(backend.tokenizer, "The cat ", "sat on the mat.")
    assert scores[1].nats == pytest.approx(by_hand(backend.network, list(part.ids), 9), abs=1e-3)


def test_half_precision_weights_still_tell_close_labels_apart() -> None:
    plain, half = network(), network().to(torch.bfloat16)
    requests = [Request((Message("user", "which?"), Message("assistant", "Answer:")), Sampling(), ("1", "2"))]
    exact, near = (TransformersBackend(n, tokenizer(), "t").label_nats(requests)[0] for n in (plain, half))
    assert near == pytest.approx(exact, abs=0.05)
    assert half.get_output_embeddings().weight.dtype == torch.float32
    assert half.get_input_embeddings().weight.dtype == torch.bfloat16
    hidden = TransformersBackend(half, tokenizer(), "t").score([("", "abc")])[0].nats
    assert hidden != float(torch.tensor(hidden, dtype=torch.bfloat16))


def test_a_template_that_refuses_system_messages_is_found_out() -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    assert not TransformersBackend(network(), tokenizer(strict), "t").capabilities.system
    assert TransformersBackend(network(), tokenizer(), "t").capabilities.system
    assert TransformersBackend(network(), tokenizer(None), "t").capabilities.system


def test_beams_are_refused(backend: TransformersBackend) -> None:
    with pytest.raises(RecipeError, match="no beam search"):
        backend.complete([asked("x", sampling={"beams": 4})])


def door(folder: Path, calls: Calls, count: list[int]) -> InProcessModel:
    def load() -> TransformersBackend:
        count.append(1)
        return TransformersBackend(network(), tokenizer(), "tiny", batch=4)

    return InProcessModel("tiny", {"kind": "local", "weights": "tiny"}, load, calls)


def test_what_is_too_long_fails_alone(tmp_path: Path) -> None:
    long, reason = "x" * 2050, r"takes 2\d\d\d tokens; the context is 2048"
    with Calls.open(tmp_path) as calls:
        model = door(tmp_path, calls, [])
        options = {"options": ("1", "2")}
        for answers in (
            model.complete_many([asked(text) for text in ("hi", long, "ho")]),
            model.choose_many([asked(text, **options) for text in ("hi", long, "ho")]),
            model.score_many([("", "hi"), ("ho", long), ("", "ho")]),
        ):
            assert [isinstance(answer, Failure) for answer in answers] == [False, True, False]
            assert re.fullmatch(reason, answers[1].reason)  # type: ignore[union-attr]
        assert all(re.fullmatch(reason, failed.reason) for failed in calls.store.failures())
        assert (calls.ledger.calls, calls.ledger.failures) == (4, 2)
        judged = ClozeCritic(model, Task.load()).judge([comparison(long, "a"), comparison("so wet", "dry as a joke")])
        assert judged[0].reason.startswith("takes 2")
        assert not judged[0].answered
        assert judged[1].p_a is not None
        with pytest.raises(ModelError, match="the context is 2048"):
            complete(model, [Message("user", long)])


def test_a_finished_run_is_read_back_without_loading_the_weights(tmp_path: Path) -> None:
    count: list[int] = []
    compared = [comparison("so wet", "dry as a joke"), comparison("a", "b")]
    judged = []
    for _ in range(2):
        with Calls.open(tmp_path) as calls:
            critic = MultipleChoiceCritic(door(tmp_path, calls, count), Task.load(), Reader(coverage=0.0))
            judged.append(critic.judge(compared))
            assert calls.ledger.calls == 4
    assert judged[0] == judged[1]
    assert [j.shown for j in judged[0]] == ["ab", "ba"] * 2
    assert all(j.p_a is not None and j.call_id for j in judged[0])
    assert count == [1]


def test_cloze_on_weights_recomputed_by_hand(tmp_path: Path) -> None:
    with Calls.open(tmp_path) as calls:
        model = door(tmp_path, calls, [])
        for scope in ("full", "paraphrase"):
            critic = ClozeCritic(model, Task.load(), Cloze(model=Local(), scope=scope))  # type: ignore[arg-type]
            (judgment,) = critic.judge([comparison("so wet", "raining cats")])
            logs = []
            for text in ("so wet", "raining cats"):
                before = "" if scope == "full" else "The funny paraphrase of It rained. is "
                rest = text if before else f"The funny paraphrase of It rained. is {text}"
                one = text_after(tokenizer(), before, rest)
                logs.append(-by_hand(network(), list(one.ids), one.start) / (len(one.ids) - one.start))
            assert judgment.p_a == pytest.approx(1 / (1 + math.exp(logs[0] - logs[1])), abs=1e-4)


def test_a_recording_answers_for_the_model_it_was_made_with(tmp_path: Path) -> None:
    from quipwright.llm.recorder import recorded

    compared, task = [comparison("so wet", "dry as a joke")], Task.load()
    with Calls.open(tmp_path / "live") as calls:
        live = recorded(door(tmp_path, calls, []), "answers.jsonl", calls)
        judged = MultipleChoiceCritic(live, task, Reader(coverage=0.0)).judge(compared)
        cloze = ClozeCritic(live, task).judge(compared)
        reply = complete(live, [Message("user", "hi")], Sampling(max_tokens=4))
    path = tmp_path / "live" / "recordings" / "answers.jsonl"
    path.write_bytes(path.read_bytes() + b'{"kind": "compl')  # a kill tore the last line
    with Calls.open(tmp_path / "again", base=path.parent) as calls:
        replay = Recorded(path="answers.jsonl").build(calls)
        assert [j.p_a for j in MultipleChoiceCritic(replay, task, Reader(coverage=0.0)).judge(compared)] == [
            j.p_a for j in judged
        ]
        assert ClozeCritic(replay, task).judge(compared)[0].p_a == cloze[0].p_a
        assert complete(replay, [Message("user", "hi")], Sampling(max_tokens=4)).text == reply.text
        failed = replay.complete_many([asked("never asked")])[0]
        assert failed.reason == "not in the recording: 'never asked'"
    with Calls.open(tmp_path / "live") as calls:  # recording goes on behind the torn line, and repeats nothing
        live = recorded(door(tmp_path, calls, []), "answers.jsonl", calls)
        before = path.read_bytes().rindex(b"\n") + 1
        complete(live, [Message("user", "hi")], Sampling(max_tokens=4))
        assert len(path.read_bytes()) == before


@pytest.mark.slow
def test_the_embedded_weights_judge_and_score(tmp_path: Path) -> None:
    with Calls.open(tmp_path) as calls:
        judged = (
            MultipleChoice(model=Local(batch=4))
            .open(calls, Task.load())
            .judge([comparison("Rain again: my socks now swim.", "It did rain.")])
        )
        assert all("coverage" in j.reason for j in judged)
        assert (
            MultipleChoiceCritic(
                Local().build(calls), Task.load(), Reader(reading="reason_then_answer", reason_tokens=40)
            ).judge([])
            == []
        )
        (score,) = Local().build(calls).score_many([("", "The funny paraphrase of It rained. is It rained.")])
        assert score.nats < 0


def test_weights_are_known_by_content_and_seen_from_the_recipe(tmp_path: Path, tiny_weights: Path) -> None:
    recipes = tmp_path / "recipes"
    shutil.copytree(tiny_weights, recipes / "judge")
    local = Local(weights="judge", precision="fp32")
    context = BuildContext(recipes, Task.load())
    keys = {kind: kind(model=local).identity(context) for kind in (MultipleChoice, Cloze)}
    (reader,) = MultipleChoice(model=local).readers(context)
    assert [reader] == Cloze(model=local.model_copy(update={"weights": str(tiny_weights)})).readers(context)
    with Calls.open(tmp_path / "run", base=recipes) as calls:
        model = local.build(calls)
        (before,) = model.complete_many([asked("hello", sampling={"temperature": 0.0, "max_tokens": 4})])
        tensors = load_file(recipes / "judge" / "model.safetensors")
        for name in tensors:
            tensors[name] = -tensors[name] if "norm" not in name else tensors[name]
        save_file(tensors, recipes / "judge" / "model.safetensors", metadata={"format": "pt"})
        (after,) = local.build(calls).complete_many([asked("hello", sampling={"temperature": 0.0, "max_tokens": 4})])
    assert isinstance(before, Completion)
    assert isinstance(after, Completion)
    assert before.call_id != after.call_id, "other weights answer anew"
    assert all(kind(model=local).identity(context) != key for kind, key in keys.items())
