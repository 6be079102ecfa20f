"""The command ``serve``: what is ready before it listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from quipwright.data.task import Task
from quipwright.serving.writer import Writer


def test_the_engine_is_open_before_the_server_listens(
    quipwright: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    class Student:
        def settle(self) -> None:
            order.append("engine")

        def write(self, *_: Any) -> None:
            order.append("text")

    writer = Writer(cast(Any, Student()), Task.load())

    def load(*_: Any, settled: bool) -> Writer:
        if settled:
            writer.student.settle()
        return writer

    monkeypatch.setattr(Writer, "load", load)

    def run_server(app: Any, host: str, port: int, announce: Callable[[int], None]) -> None:
        order.append("server")
        announce(8123 if port == 0 else port)

    monkeypatch.setattr("quipwright.serving.http_server.run_server", run_server)
    code, out, _ = quipwright("serve", "--critic", "none", "--port", 0)
    assert (code, order) == (0, ["engine", "server"])
    assert "API base http://127.0.0.1:8123/v1, key any." in out
