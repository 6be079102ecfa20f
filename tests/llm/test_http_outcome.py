"""Replies are judged by their content: errors inside a 200, streams, pages, numbers that are none, waits without end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.errors import BudgetError, ModelError
from quipwright.core.records import Sampling
from quipwright.llm.calls import Calls
from quipwright.llm.connections import Reply
from quipwright.llm.costs import Budget, Price
from quipwright.llm.http_outcome import judge_reply
from quipwright.llm.openai_api import ChatWire, nats_of
from quipwright.llm.types import Capabilities, Completion, Message, Request
from quipwright.testing.asking import FAST, ask, chat, requests
from quipwright.testing.faulty_server import FaultyServer

WIRE = ChatWire("m", "sk-secret")
ANSWER = {"choices": [{"message": {"content": "1"}, "finish_reason": "stop"}]}


def judged(body: Any, status: int = 200, **headers: str) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge_reply(Reply(status, headers, raw), WIRE)


def test_an_error_inside_a_200_counts_as_what_it_says_and_costs_nothing() -> None:
    cases = {
        402: ("always", True, False), 403: ("at_first", True, False), 404: ("at_first", True, False),
        429: ("", False, True), 400: ("", True, False), 500: ("", False, False),
    }  # fmt: skip
    for code, (fatal, permanent, overloaded) in cases.items():
        for body in (
            {"error": {"message": "so sk-secret it is", "code": code}},
            {"choices": None, "error": {"code": str(code)}},
        ):
            outcome = judged(body)
            assert (outcome.fatal, outcome.permanent, outcome.overloaded) == (fatal, permanent, overloaded), code
            assert (outcome.status, outcome.maybe_paid, outcome.answer) == (code, False, None)
            assert "sk-secret" not in outcome.reason
    plain = judged({"error": "the moon is full"})
    assert (plain.reason, plain.permanent) == ("an error inside status 200: the moon is full", False)
    assert judged(ANSWER | {"error": None}).answer is not None


def test_a_cap_on_money_does_not_count_errors_that_nobody_bills(tmp_path: Path) -> None:
    prices = {"m": Price(input=1.0, output=1000.0)}
    stops = pytest.raises(ModelError, match="does not answer: an error inside status 200: try again")
    with FaultyServer(lambda body: {"error": {"message": "try again"}}) as server, stops:
        ask(tmp_path, chat(server), requests(3), prices=prices, budget=Budget(money=0.1))


STREAM = b'data: {"choices": [{"delta": {"content": "1. so"}}]}\n\ndata: [DONE]\n\n'


def test_replies_that_are_no_json_are_named_for_what_they_are() -> None:
    assert judged(b"<html>").reason == "a web page instead of JSON"
    assert judged(b'{"choices": [').reason == "torn JSON"
    assert judged(b"\xff\xfe\xff").reason == "a reply that is not UTF-8"
    assert judged(b"[" * 100_000).answer is None
    for stream in (STREAM, b": ping\n\n" + STREAM):
        assert judged(stream).reason == "an event stream instead of one reply"


def test_a_server_that_streams_is_not_paid_for_it_again_and_again(tmp_path: Path) -> None:
    with FaultyServer(fault=lambda n, body: "stream") as server:
        with pytest.raises(ModelError, match=r"an event stream instead of one reply\. Take stream"):
            ask(tmp_path, chat(server), requests(50))
        assert len(server.bodies) <= 4  # as many as are sent before the first reply


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "x", True, 3.0])
def test_a_log_probability_that_is_none_is_left_out(value: Any) -> None:
    assert nats_of(value) is None
    top = [{"token": "1", "logprob": -0.1}, {"token": "2", "logprob": -2.4}, {"token": "x", "logprob": value}]
    content = [{"token": "1", "logprob": -0.1, "top_logprobs": top}]
    reply = {"choices": [ANSWER["choices"][0] | {"logprobs": {"content": content}}]}
    (token,) = judged(reply).answer.reply["tokens"]
    assert token == ["1", -0.1, [["1", -0.1], ["2", -2.4]]]


def test_log_probabilities_that_are_no_numbers_give_no_probability(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        top = [{"token": text, "logprob": math.nan} for text in ("1", "2")]
        choice = {"message": {"content": "so, 2 it is"}, "logprobs": {"content": [top[0] | {"top_logprobs": top}]}}
        return {"choices": [choice], "usage": {"prompt_tokens": math.nan, "completion_tokens": math.inf}}

    with FaultyServer(answer) as server, Calls.open(tmp_path) as calls:
        model = chat(server, capabilities=Capabilities(logprobs=5)).build(calls)
        (choice,) = model.choose_many([Request((Message("user", "1 or 2?"),), Sampling(), ("1", "2"))])
        assert choice.probabilities is None  # type: ignore[union-attr]
        assert calls.ledger.tokens_in == 0


def test_rounding_above_zero_is_zero() -> None:
    assert nats_of(1e-7) == 0.0
    assert nats_of(-1e-7) == -1e-7


def quiet(number: int, body: dict[str, Any]) -> str | None:
    return "429" if number >= 2 else None


@pytest.mark.parametrize("asked", ["86400", "86400.5", "99999999999999999999"])
def test_a_wait_beyond_the_deadline_ends_the_run_with_the_servers_words(asked: str, tmp_path: Path) -> None:
    retry = FAST.model_copy(update={"deadline": 30.0})
    with FaultyServer(fault=quiet, retry_after=asked) as server:
        with pytest.raises(
            ModelError,
            match=r"no question for \d+ s, longer than retry.deadline \(30 s\)\. It asks to be left alone: status 429",
        ):
            ask(tmp_path, chat(server, retry=retry), requests(40))
        assert len(server.bodies) <= 12
        server.fault = lambda number, body: None
        answers = ask(tmp_path, chat(server), requests(40))  # what was answered is not asked again
        assert all(isinstance(answer, Completion) for answer in answers)
        assert server.times().most_common(1)[0][1] <= 2


def test_a_rest_beyond_the_deadline_ends_the_run_with_what_was_wrong(tmp_path: Path) -> None:
    retry = FAST.model_copy(update={"deadline": 4.0, "cooldown": 60.0, "failure_threshold": 3})
    with FaultyServer(lambda body: {"choices": []}) as server:
        with pytest.raises(
            ModelError, match=r"\(4 s\)\. It failed 3 times in a row: a reply without choices"
        ) as stopped:
            ask(tmp_path, chat(server, retry=retry), requests(40))
        assert "asks to be" not in str(stopped.value)


@pytest.mark.parametrize("asked", ["nan", "inf", "1e9", "-5", "soon", "Wed, 99 Foo 2026"])
def test_a_wait_that_is_no_time_is_not_waited(asked: str, tmp_path: Path) -> None:
    with FaultyServer(fault=lambda n, body: "429" if n == 0 else None, retry_after=asked) as server:
        assert isinstance(ask(tmp_path, chat(server), requests(1))[0], Completion)


def test_another_replica_answers_while_one_asks_for_a_day(tmp_path: Path) -> None:
    with FaultyServer() as one, FaultyServer(fault=lambda n, body: "429", retry_after="86400") as two:
        answers = ask(tmp_path, chat(one, base_url=(one.url, two.url)), requests(60))
        assert (
            sum(isinstance(answer, Completion) for answer in answers) >= 56
        )  # all but what the second one had at once
        assert len(two.bodies) <= 4


def test_no_budget_is_passed_by_what_is_under_way_when_it_is_reached(tmp_path: Path) -> None:
    with FaultyServer() as server, pytest.raises(BudgetError):
        ask(tmp_path, chat(server, concurrency=16), requests(100), budget=Budget(calls=33))
    assert len(server.bodies) == 33
