"""The key of a call is all that changes its answer and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from quipwright.core.records import Sampling
from quipwright.llm.http_models import Chat
from quipwright.llm.retry import Retry
from quipwright.llm.types import Message, Request
from quipwright.testing.asking import ask, chat, requests, stored_count
from quipwright.testing.faulty_server import FaultyServer


def test_all_that_changes_the_answer_is_in_the_key_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyServer() as server, FaultyServer() as other:
        base = chat(server)
        drawn = Sampling(temperature=0.8)
        asked = [Request((Message("user", "q"),), drawn)]
        ask(tmp_path, base, asked)

        def sent(settings: Chat, request: Request) -> int:
            before = len(server.bodies) + len(other.bodies)
            ask(tmp_path, settings, [request])
            return len(server.bodies) + len(other.bodies) - before

        for change in (
            {"model": "n"},
            {"revision": "r"},
            {"base_url": other.url},
            {"extra": {"top_k": 5}},
            {"omit": ("seed",)},
        ):
            assert sent(base.model_copy(update=change), asked[0]) == 1, change
        for field, value in {"temperature": 0.7, "top_p": 0.9, "seed": 1, "max_tokens": 65, "index": 1}.items():
            assert sent(base, Request(asked[0].messages, drawn.model_copy(update={field: value}))) == 1, field
        assert sent(base, Request((Message("user", "q "),), drawn)) == 1
        assert sent(base, Request((Message("system", "s"), *asked[0].messages), drawn)) == 1
        assert sent(base, Request(asked[0].messages, drawn, logprobs=5)) == 1
        monkeypatch.setenv("QUIPWRIGHT_TEST_KEY", "sk-other")
        slow = base.model_copy(update={"retry": Retry(timeout=9), "concurrency": 3, "key_env": "QUIPWRIGHT_TEST_KEY"})
        pool = base.model_copy(update={"base_url": (server.url, other.url)})
        assert sent(slow, asked[0]) == sent(pool, asked[0]) == 0


def test_five_samples_are_five_rows_and_a_repeated_question_is_paid_once(tmp_path: Path) -> None:
    with FaultyServer() as server:
        five = [requests(1, index=i)[0] for i in range(5)]
        ask(tmp_path, chat(server), [*five, *five])
        assert len(server.bodies) == 5 == stored_count(tmp_path)
        assert len({body["seed"] for body in server.bodies}) == 5
