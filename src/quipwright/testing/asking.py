"""Ready-made questions, pairs and settings for tests of models, critics and whatever asks them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from quipwright.core.records import Comparison, Pair, Sampling
from quipwright.llm.call_store import CallStore
from quipwright.llm.calls import Calls
from quipwright.llm.http_models import Chat
from quipwright.llm.model_settings import ModelSettings
from quipwright.llm.retry import Retry
from quipwright.llm.types import Completion, Failure, Message, Request
from quipwright.testing.faulty_server import FaultyServer

FAST = Retry(timeout=60, wait=0.01, longest_wait=0.05, deadline=600, cooldown=0.05)
"""Repeats come at once, but no attempt is ended by the clock: a busy machine must not make more of them."""


def requests(n: int, **sampling: Any) -> list[Request]:
    """``n`` questions q0, q1, …, sampled at 0.8 unless ``sampling`` says otherwise."""
    drawn = Sampling(**({"temperature": 0.8} | sampling))
    return [Request((Message("user", f"q{i}"),), drawn) for i in range(n)]


def ask(folder: Path, settings: ModelSettings, asked: list[Request], **options: Any) -> list[Completion | Failure]:
    """The answers of the model that ``settings`` build, through the store in ``folder``."""
    with Calls.open(folder, **options) as calls:
        return settings.build(calls).complete_many(asked)


def chat(server: FaultyServer, **fields: Any) -> Chat:
    """Settings of model m on ``server``."""
    return Chat(**({"model": "m", "base_url": server.url, "retry": FAST} | fields))


def comparison(a: str = "a joke", b: str = "another joke", literal: str = "It rained.") -> Comparison:
    """A pair to judge."""
    return Comparison(Pair(example_id=literal, a_id=a, b_id=b, selector="test"), literal, a, b)


_PROCESS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background would have it ignored
import subprocess
import sys
from pathlib import Path
from quipwright.testing.asking import FAST, Chat, ask, requests
settings = Chat(model="m", base_url=sys.argv[2], retry=FAST, concurrency=32)
answers = ask(Path(sys.argv[1]), settings, requests(int(sys.argv[3])))
assert all(hasattr(answer, "text") for answer in answers)
"""


def asking_process(folder: Path, url: str, n: int, **options: Any) -> subprocess.Popen[str]:
    """A process of its own that asks ``n`` questions through the store in ``folder``, 32 at a time."""
    command = [sys.executable, "-c", _PROCESS, str(folder), url, str(n)]
    process: subprocess.Popen[str] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
    return process


def stored_count(folder: Path) -> int:
    """How many answers the store in ``folder`` holds."""
    with CallStore.open(folder) as store:
        return store.ledger.calls
