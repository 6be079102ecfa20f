"""A real model behind a real server: llama.cpp's, from ``llama-cpp-python[server]``, with the embedded GGUF."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_critics import comparison
from understudy.critic.mcp import MCP
from understudy.llm.calls import Calls
from understudy.llm.chat import Chat
from understudy.records import Example
from understudy.students.weights import embedded_gguf
from understudy.task import Task
from understudy.teacher import ModelTeacher

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python[server] is not installed"),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--model", str(embedded_gguf()), "--port", str(port), "--n_ctx", "2048", "--logits_all", "true"]
    process = subprocess.Popen([sys.executable, "-m", "llama_cpp.server", *options], stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{base}/models", timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        yield base
    finally:
        process.terminate()
        process.wait(10)


def test_teacher_and_critic_in_all_readings(url: str, tmp_path: Path) -> None:
    model = Chat(model="smollm2", base_url=url, concurrency=1)
    with Calls.open(tmp_path) as calls:
        print(model.open(calls).capabilities)
        teacher = ModelTeacher(model=model).open(calls, Task.load())
        teacher.teach([Example(text="The train was late again.")])
        assert teacher.counts.asked == 1
        for reading in ("answer_only", "reason_then_answer", "sampled"):
            critic = MCP(model=model, reading=reading, samples=2, reason_tokens=40).open(calls, Task.load())
            assert len(critic.judge([comparison("My socks now swim.", "It did rain.")])) == 2
