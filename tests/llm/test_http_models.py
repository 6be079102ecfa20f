"""Servers that differ: what the probe finds, what is asked of each, and what is read from it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.config_files import validate
from quipwright.core.errors import DataError, ModelError, RecipeError, RunError
from quipwright.core.records import Example, Sampling, content_hash
from quipwright.core.settings import identity_of
from quipwright.critics.base import BuildContext
from quipwright.critics.config import Panel
from quipwright.critics.multiple_choice import MultipleChoice
from quipwright.data.task import Task
from quipwright.data.teacher import ModelTeacher
from quipwright.llm.batch_api import Batch
from quipwright.llm.calls import Calls
from quipwright.llm.costs import Budget
from quipwright.llm.http_models import Anthropic, Chat
from quipwright.llm.recorded import Recorded
from quipwright.llm.retry import Retry
from quipwright.llm.types import Capabilities, Completion, Message, Request, complete
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.stages.teach import teach, unanswered
from quipwright.testing.asking import FAST, ask, chat, comparison, requests
from quipwright.testing.faulty_server import FaultyServer
from quipwright.testing.runs import judge_pairs, run_context
from quipwright.training.preference.pairs import Diverse


class Kind:
    """A stand-in server with the ways of a real one."""

    def __init__(
        self,
        prefill: str = "none",
        most: int = 20,
        *,
        cooled: bool = False,
        system: bool = True,
        echoes: bool = False,
    ) -> None:
        self.prefill, self.most, self.cooled, self.system = prefill, most, cooled, system
        self.echoes = echoes

    def fault(self, number: int, body: dict[str, Any]) -> str | None:
        if not self.system and body["messages"][0]["role"] == "system":
            return "400"
        return "400" if body.get("top_logprobs", 0) > self.most or ("logprobs" in body and not self.most) else None

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        last = body["messages"][-1]
        continues = self.prefill == "plain" or (self.prefill == "continue" and body.get("continue_final_message"))
        text = "1"
        if "zebra" in body["messages"][0]["content"]:
            text = " lantern" if last["role"] == "assistant" and continues else "zebra quartz"
        elif last["role"] == "assistant":
            text = " 2" if continues else "The answer is 2"
        if self.echoes and last["role"] == "assistant":
            text = last["content"] + text
        choice: dict[str, Any] = {"message": {"content": text}, "finish_reason": "stop"}
        if body.get("logprobs"):
            heat = (body["temperature"] or 0.01) if self.cooled else 1.0
            weights = {"1": 0.6 ** (1 / heat), "2": 0.2 ** (1 / heat)} | {
                f"w{i}": 0.01 for i in range(body["top_logprobs"] - 2)
            }
            whole = sum(weights.values()) if self.cooled else 1.0
            top = [{"token": t, "logprob": math.log(max(w / whole, 1e-30))} for t, w in weights.items()]
            choice["logprobs"] = {"content": [{"token": "1", "logprob": top[0]["logprob"], "top_logprobs": top}]}
        return {"choices": [choice], "usage": {"prompt_tokens": 9}}


KINDS = [
    (Kind(), Capabilities(logprobs=20)),
    (Kind("continue"), Capabilities(logprobs=20, prefill="continue")),
    (Kind("plain"), Capabilities(logprobs=20, prefill="plain")),
    (Kind("plain", echoes=True), Capabilities(logprobs=20, prefill="plain", echoes=True)),
    (Kind(most=5, system=False), Capabilities(logprobs=5, system=False)),
    (Kind(most=0), Capabilities()),
    (Kind(cooled=True), Capabilities(logprobs=20, raw_logprobs=False)),
]


@pytest.mark.parametrize(("kind", "found"), KINDS)
def test_the_probe_finds_out_once_what_a_server_can_do(kind: Kind, found: Capabilities, tmp_path: Path) -> None:
    with FaultyServer(kind.answer, kind.fault) as server:
        with Calls.open(tmp_path) as calls:
            assert chat(server).build(calls).capabilities == found
        sent = len(server.bodies)
        assert sent <= 8
        with Calls.open(tmp_path) as calls:
            assert chat(server).build(calls).capabilities == found
        assert len(server.bodies) == sent


@pytest.mark.parametrize("status", ["408", "409", "425", "429", "503", "529"])
def test_a_server_that_is_busy_while_it_is_probed_is_asked_again_later(status: str, tmp_path: Path) -> None:
    kind = Kind()
    with FaultyServer(kind.answer, lambda n, body: status if body.get("logprobs") else None) as server:
        retry = FAST.model_copy(update={"attempts": 2})
        with (
            Calls.open(tmp_path) as calls,
            pytest.raises(ModelError, match=f"while it was probed: status {status}: fault {status}.*again later"),
        ):
            _ = chat(server, retry=retry).build(calls).capabilities
        server.fault = kind.fault
        with Calls.open(tmp_path) as calls:
            assert chat(server, retry=retry).build(calls).capabilities.logprobs == 20


def test_log_probabilities_that_move_with_temperature_are_read_at_one(tmp_path: Path) -> None:
    kind = Kind(cooled=True)
    with FaultyServer(kind.answer, kind.fault) as server, Calls.open(tmp_path) as calls:
        asked = Request((Message("user", "1 or 2?"),), Sampling(), ("1", "2"))
        (choice,) = chat(server).build(calls).choose_many([asked])
        assert choice.probabilities == pytest.approx((0.75, 0.25))
        assert server.bodies[-1]["temperature"] == 1.0


def test_a_beginning_that_comes_back_is_not_read_twice(tmp_path: Path) -> None:
    begun = (Message("user", "1 or 2?"), Message("assistant", "Answer:"))
    with FaultyServer(Kind("plain", echoes=True).answer) as server, Calls.open(tmp_path) as calls:
        door = chat(server).build(calls)
        assert complete(door, begun, Sampling()).text == " 2"
        assert door.choose_many([Request(begun, Sampling(), ("1", "2"))])[0].text == " 2"


def test_a_critic_over_http_in_all_readings(tmp_path: Path) -> None:
    for kind, reading, p in (
        (Kind("continue"), "answer_only", 0.75),
        (Kind(), "reason_then_answer", 0.75),
        (Kind(), "sampled", 8.5 / 9),
    ):
        with FaultyServer(kind.answer, kind.fault) as server, Calls.open(tmp_path / reading) as calls:
            critic = MultipleChoice(model=chat(server), reading=reading).build(BuildContext(None, Task.load(), calls))
            ab, ba = critic.judge([comparison()])
            assert (ab.p_a, ba.p_a) == pytest.approx((p, 1 - p))
            assert ab.judge == f"multiple_choice-{reading}:m"
            if reading == "answer_only":
                assert server.bodies[-1]["continue_final_message"] is True
                assert server.bodies[-1]["messages"][-1] == {"role": "assistant", "content": "Answer:"}


def spoken(*tokens: str, label: float = 0.9) -> dict[str, Any]:
    """A chat completion in ``tokens``; where one is a digit, the other label has what ``label`` leaves."""
    content = []
    for text in tokens:
        other = {"1": "2", "2": "1"}.get(text, "So")
        top = [{"token": text, "logprob": math.log(label)}, {"token": other, "logprob": math.log(1 - label)}]
        content.append({**top[0], "top_logprobs": top})
    choice = {"message": {"content": "".join(tokens)}, "finish_reason": "stop", "logprobs": {"content": content}}
    return {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": len(tokens)}}


@pytest.mark.parametrize("said", [("Answer", ":", " ", "1"), ("**", "Answer", ":**", " ", "1"), ("1",)])
def test_a_label_behind_words_is_read_where_it_stands_at_one_request_a_showing(
    said: tuple[str, ...], tmp_path: Path
) -> None:
    compared = [comparison(f"joke {i}", f"pun {i}") for i in range(10)]
    with FaultyServer(lambda body: spoken(*said)) as server, Calls.open(tmp_path) as calls:
        door = chat(server, capabilities=Capabilities(logprobs=20), retry=Retry())
        judged = MultipleChoice(model=door).build(BuildContext(None, Task.load(), calls)).judge(compared)
        assert len(server.bodies) == len(judged) == 20
        assert [j.p_a for j in judged] == [pytest.approx(p) for _ in compared for p in (0.9, 0.1)]
        asked = server.bodies[0]["messages"][-1]
    assert asked["role"] == "user"
    assert asked["content"].endswith(Task.load().critic.again)


def test_log_probabilities_without_a_label_are_said_to_be_and_never_become_a_verdict(tmp_path: Path) -> None:
    with FaultyServer(lambda body: spoken("Both", " are", " fine")) as server, Calls.open(tmp_path) as calls:
        door = chat(server, capabilities=Capabilities(logprobs=20), retry=Retry())
        critic = MultipleChoice(model=door).build(BuildContext(None, Task.load(), calls))
        judged = critic.judge([comparison()])
        assert len(server.bodies) == 2
    assert [(j.p_a, j.verdict) for j in judged] == [(None, "unparsed")] * 2
    assert judged[0].reason == "no label among the log-probabilities: Both are fine"


def test_a_teacher_over_http_recorded_and_replayed(tmp_path: Path) -> None:
    reply = "1. My train collects stamps at every stop.\n2. The train took a gap year.\n3. The train was late again."
    examples = [Example(text="The train was late again."), Example(text="It is raining hard today.")]
    with FaultyServer(lambda body: reply) as server, Calls.open(tmp_path / "a") as calls:
        live = ModelTeacher(model=chat(server, record="t.jsonl")).build(calls, Task.load())
        taught = live.teach(examples)
        assert len(server.bodies) == 2
        assert server.bodies[0]["temperature"] == 0.8
    assert taught.counts.line().startswith("asked 2, answered 2, refused 0")
    path = tmp_path / "a" / "recordings" / "t.jsonl"
    with Calls.open(tmp_path / "b") as calls:
        replay = ModelTeacher(model=Recorded(path=str(path))).build(calls, Task.load())
        again = replay.teach(examples)
    assert [r.text for r in again.responses] == [r.text for r in taught.responses]
    assert again.responses[0].author == "teacher:m"


def test_anthropics_messages_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIPWRIGHT_TEST_KEY", "sk-test")

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        usage = {"input_tokens": 7, "cache_read_input_tokens": 3, "output_tokens": 2}
        return {"content": [{"type": "text", "text": "Hello."}], "stop_reason": "max_tokens", "usage": usage}

    with FaultyServer(answer) as server:
        door = Anthropic(model="c", base_url=server.url, key_env="QUIPWRIGHT_TEST_KEY", retry=FAST)
        messages = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Well: "))
        states = door.model_copy(update={"capabilities": Capabilities(prefill="plain")})
        (reply,) = ask(tmp_path, states, [Request(messages, Sampling(temperature=0.8))])
        assert reply == Completion("Hello.", "length", reply.call_id, 10, 2)
        body, head = server.bodies[0], server.heads[0]
    assert head.startswith("POST /v1/messages ")
    assert "x-api-key: sk-test" in head.lower()
    assert body["system"] == "Be brief."
    assert body["messages"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well:"}]
    assert "top_p" not in body
    assert "seed" not in body


REPLIES = [
    ({"choices": [{"message": {"content": "x"}, "finish_reason": "length"}]}, "x", "length"),
    ({"choices": [{"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}]}, "No.", "refused"),
    ({"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}, "", "refused"),
    ({"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}}]}, "ab", "stop"),
    (
        {"choices": [{"message": {"content": "\ud83d\ude00 \ud83d"}}], "usage": {"prompt_tokens": "many"}},
        "😀 \ufffd",
        "stop",
    ),
]


@pytest.mark.parametrize(("reply", "text", "finish"), REPLIES)
def test_replies_of_every_shape_are_read_and_stored(reply: Any, text: str, finish: str, tmp_path: Path) -> None:
    with FaultyServer(lambda body: reply) as server:
        for _ in range(2):
            (answer,) = ask(tmp_path, chat(server), requests(1))
            assert (answer.text, answer.finish, answer.tokens_in) == (text, finish, None)  # type: ignore[union-attr]
        assert len(server.bodies) == 1  # a cut-off or refused answer is an outcome: it is not paid again


def test_a_question_that_cannot_be_written_stops_no_other(tmp_path: Path) -> None:
    with FaultyServer() as server:
        asked = [*requests(2), Request((Message("user", "nul \x00 and \u2028"),), Sampling())]
        assert all(isinstance(answer, Completion) for answer in ask(tmp_path, chat(server), asked))


WRONG = [
    ({"base_url": "localhost:8000"}, "is no http address"),
    ({"base_url": "file:///etc/passwd"}, "is no http address"),
    ({"base_url": ()}, "at least one address"),
    ({"base_url": "http://localhost:abc/v1"}, "'http://localhost:abc/v1' is no http address"),
    ({"base_url": "http://localhost:99999/v1"}, "is no http address"),
    ({"base_url": ("http://a/v1", "http://[::1/v1")}, "is no http address"),
    ({"concurrency": 0}, "greater than or equal to 1"),
    ({"retry": {"attempts": 9}}, "less than or equal to 8"),
    ({"api_key": "sk-1"}, "Extra inputs"),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_wrong_settings_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Chat.model_validate({"model": "m"} | change)


HOLDS_A_KEY: list[dict[str, Any]] = [
    {"base_url": "http://localhost/v1?api_key=sk-canary"},
    {"base_url": "http://localhost/v1#sk-canary"},
    {"base_url": "http://user:sk-canary@localhost:abc/v1"},
    {"base_url": "user:sk-canary@localhost"},
    {"key_env": "sk-canary"},
    {"key_env": ["sk-canary"]},
]


@pytest.mark.parametrize("fields", HOLDS_A_KEY)
@pytest.mark.parametrize("kind", ["chat", "anthropic", "batch"])
def test_a_key_in_the_wrong_field_is_refused_and_not_shown(kind: str, fields: dict[str, Any]) -> None:
    model = {"kind": kind, "model": "m"} | fields
    recipe = {"name": "x", "teacher": {"kind": "model", "model": model}}
    with pytest.raises(RecipeError, match=r"base_url: must|key_env: must be the name of an environment") as told:
        validate(Recipe, recipe, "recipe")
    with pytest.raises(ValueError, match="must") as direct:
        {"chat": Chat, "anthropic": Anthropic, "batch": Batch}[kind].model_validate(model)
    assert "canary" not in f"{told.value} {direct.value}"


def test_a_recording_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    with FaultyServer() as server:
        for content in (b"garbage\n{}\n", b"\xff\n"):
            (tmp_path / "recordings" / "t.jsonl").write_bytes(content)
            with pytest.raises(DataError, match=r"recording .*t\.jsonl(: line 1 is not a rec| is not UTF-8)"):
                ask(tmp_path, chat(server, record="t.jsonl"), requests(1))
        assert not server.bodies


@pytest.mark.parametrize(("status", "words"), [("404", "status 404"), ("301", "status 301"), ("405", "status 405")])
def test_a_wrong_server_stops_at_once(status: str, words: str, tmp_path: Path) -> None:
    with FaultyServer(fault=lambda n, body: status) as server, pytest.raises(ModelError, match=words):
        ask(tmp_path, chat(server), requests(100))
    assert len(server.bodies) <= 8


def test_beams_are_refused(tmp_path: Path) -> None:
    with FaultyServer() as server, pytest.raises(RecipeError, match="no beam search"):
        ask(tmp_path, chat(server), requests(1, beams=5))


def test_an_empty_account_is_not_asked_again(tmp_path: Path) -> None:
    with FaultyServer(fault=lambda n, body: "quota") as server, pytest.raises(ModelError, match="Top up the account"):
        ask(tmp_path, chat(server), requests(100))
    assert len(server.bodies) <= 8


def test_an_arrow_without_a_single_answer_is_not_kept_and_asked_again(tmp_path: Path) -> None:
    examples = [Example(text=f"It rained {i} times.") for i in range(3)]
    compared = [comparison("so wet", "dry as a joke")]
    with FaultyServer(lambda body: "1. A wet joke.", lambda n, body: "400") as server:
        model = chat(server, capabilities=Capabilities())
        critic = MultipleChoice(model=model, reading="sampled", samples=3)
        recipe = Recipe(name="x", teacher=ModelTeacher(model=model), select=Diverse(), critic=critic)
        with run_context(recipe, tmp_path, tmp_path) as ctx:
            for _ in range(2):
                sent = len(server.bodies)
                with pytest.raises(ModelError, match=r"None of 3 questions was answered; .* failed: status 400"):
                    teach(ctx, recipe.teacher, examples)
                assert len(server.bodies) == sent + 3
            with pytest.raises(ModelError, match="None of 2 questions was answered"):
                judge_pairs(ctx, recipe, compared)
            server.fault = lambda n, body: "400" if "0 times" in body["messages"][-1]["content"] else None
            output = teach(ctx, recipe.teacher, examples)
            assert len(output.responses) == 2
            assert unanswered(output.rows) == 1
            assert len(judge_pairs(ctx, recipe, compared)) == 2


def test_how_a_model_is_reached_redoes_nothing_and_another_model_does(tmp_path: Path) -> None:
    examples = [Example(text="The train was late again."), Example(text="It is raining hard today.")]

    def taught(budget: int, **fields: object) -> int:
        """How many requests one run of the teacher costs."""
        model = chat(server, **({"capabilities": Capabilities()} | fields))
        recipe = Recipe(name="x", teacher=ModelTeacher(model=model), budget=Budget(calls=budget))
        sent = len(server.bodies)
        with run_context(recipe, tmp_path, tmp_path) as ctx:
            assert len(teach(ctx, recipe.teacher, examples).responses) == 2
        return len(server.bodies) - sent

    with FaultyServer(lambda body: "1. My train collects stamps.") as server:
        assert taught(2) == 2
        assert taught(1) == 0
        assert taught(2, concurrency=3, retry=FAST.model_copy(update={"timeout": 9.0})) == 0
        assert taught(2, base_url=(server.url, "http://127.0.0.1:9/v1")) == 0
        for change in ({"model": "other"}, {"extra": {"top_k": 0}}, {"capabilities": Capabilities(system=False)}):
            with pytest.raises(RunError, match="another recipe"):
                taught(9, **change)


def test_what_the_probe_found_is_in_the_manifest_and_identifies_nothing(tmp_path: Path) -> None:
    kind = Kind("continue")
    with FaultyServer(kind.answer, kind.fault) as server:
        critic = MultipleChoice(model=chat(server, retry=Retry()))
        recipe = Recipe(name="x", teacher=ModelTeacher(model=critic.model), select=Diverse(), critic=critic)
        for _ in range(2):
            with run_context(recipe, tmp_path, tmp_path) as ctx:
                judge_pairs(ctx, recipe, [comparison("a joke about it", "another pun")])
                models = ctx.calls.capabilities()
            assert models == dict.fromkeys(
                ("teacher m", "critic m"), Capabilities(logprobs=20, prefill="continue").model_dump()
            )


def test_an_arrow_is_keyed_by_the_model_not_by_how_it_is_reached() -> None:
    def key(model: str = "m", **fields: object) -> object:
        return identity_of(MultipleChoice(model=Chat(**{"model": model, "base_url": "http://a/v1", **fields})))  # type: ignore[arg-type]

    assert key() == key(concurrency=2) == key(base_url=("http://a/v1", "http://b/v1")) == key(record="x")
    assert len({content_hash(k) for k in (key(), key("other"), key(omit=("seed",)), key(revision="2"))}) == 4
    members = [MultipleChoice(model=Chat(model="m", concurrency=n)) for n in (1, 2)]
    assert identity_of(Panel(critics=(members[0],) * 2)) == identity_of(Panel(critics=(members[1],) * 2))
