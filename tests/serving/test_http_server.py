"""The server under the pages, through real sockets: slow senders, storms of connections, malformed headers."""

from __future__ import annotations

import logging
import re
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from quipwright.serving.gate import Gate
from quipwright.serving.http_server import AnnouncedServer, BoundedProtocol, OncePerStorm, make_server, memory_used
from quipwright.testing.browser import served


async def hello(request: Request) -> PlainTextResponse:
    await request.body()
    return PlainTextResponse("hello")


APP = Gate(Starlette(routes=[Route("/", hello, methods=["GET", "POST"])]), None)


def opened(address: str, sent: bytes) -> socket.socket:
    parts = urlsplit(address)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=60)
    connection.sendall(sent)
    return connection


def closed(connection: socket.socket) -> bool:
    """Whether the server has ended the connection; waits for it to say something."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost: x", b"POST / HTTP/1.1\r\nHost: localhost\r\ncontent-length: 9\r\n\r\nab"]
)
def test_a_request_that_never_ends_is_given_up(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "request_seconds", 0.2)
    with served(APP) as address:
        assert closed(opened(address, sent))


def test_the_oldest_half_open_connection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "most_connections", 3)
    with served(APP) as address:
        held = [opened(address, b"GET / HTTP/1.1\r\nHost: x") for _ in range(4)]
        assert closed(held[0])
        assert httpx2.get(address).text == "hello"
        assert closed(held[1])  # the client above needed a place too
        held[3].sendall(b"\r\n\r\n")
        assert held[3].recv(60).split()[1] == b"421"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "[::1"}, 400),
        ({"host": "localhost:port"}, 400),
        ({"origin": "http://[::1"}, 400),
        ({"origin": "nonsense"}, 400),
        ({"origin": "http://evil.example"}, 403),
        ({"host": "evil.example"}, 421),
        ({}, 200),
    ],
)
def test_malformed_headers_are_errors_of_the_client(headers: dict[str, str], status: int) -> None:
    with served(APP) as address:
        assert httpx2.post(address, headers=headers).status_code == status


def test_a_storm_is_one_line_of_the_log() -> None:
    once = OncePerStorm()

    def record(message: str) -> logging.LogRecord:
        return logging.LogRecord("asyncio", logging.ERROR, "", 0, message, (), None)

    assert [once.filter(record("out of descriptors")) for _ in range(1000)].count(True) == 1
    assert once.filter(record("something else"))


def test_the_port_is_told_once_it_is_bound() -> None:
    ports = list[int]()

    async def page(scope: Any, receive: Any, send: Any) -> None: ...

    class Once(AnnouncedServer):
        async def main_loop(self) -> None: ...

    Once(make_server(page).config, ports.append).run()
    (port,) = ports
    assert port > 0
    assert re.fullmatch(r"Memory: \d+ MB\. |", memory_used())
