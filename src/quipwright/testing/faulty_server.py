"""A real HTTP server in a thread that speaks the chat-completions API and fails on demand.

``answer(body)`` makes the reply's text, or the whole reply as a dict. ``fault(number, body)`` names what goes wrong
with the request of that arrival number (from 0), or ``None``. ``hold(number)`` says whether a request still has to wait;
after ``hang`` seconds none does.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

Fault = Callable[[int, dict[str, Any]], str | None]


def echo(body: dict[str, Any]) -> str:
    """The last message, as an answer."""
    return f"answer to {body['messages'][-1]['content']}"


class FaultyServer:
    """Use as a context manager; ``url`` is the base URL, ``bodies`` and ``heads`` are what arrived, in order."""

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], Any] = echo,
        fault: Fault = lambda number, body: None,
        *,
        latency: float = 0.0,
        hang: float = 5.0,
        retry_after: str = "0.02",
        tokens: int = 10,
    ) -> None:
        self.answer, self.fault, self.latency, self.hang = answer, fault, latency, hang
        self.hold: Callable[[int], bool] = lambda number: False
        self.retry_after, self.tokens = retry_after, tokens
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.faults: Counter[str] = Counter()
        self.under_way = self.most_under_way = 0

    def __enter__(self) -> FaultyServer:
        started = threading.Event()
        self._thread = threading.Thread(target=self._main, args=(started,), daemon=True)
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(timeout=5)

    def times(self) -> Counter[str]:
        """How often each last message arrived."""
        return Counter(body["messages"][-1]["content"] for body in self.bodies)

    def _main(self, started: threading.Event) -> None:
        async def serve() -> None:
            self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
            server = await asyncio.start_server(self._client, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            started.set()
            await self._stopped.wait()
            server.close()

        asyncio.run(serve())

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    (int(x.split(":")[1]) for x in head.split("\r\n") if x.lower().startswith("content-length")), 0
                )
                body = json.loads(await reader.readexactly(length) or b"{}")
                number = len(self.bodies)
                self.bodies.append(body)
                self.heads.append(head)
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                try:
                    await self._respond(writer, number, body, head)
                finally:
                    self.under_way -= 1
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _respond(self, writer: asyncio.StreamWriter, number: int, body: dict[str, Any], head: str) -> None:
        await asyncio.sleep(self.latency)
        held = 0.0
        while self.hold(number) and held < self.hang:
            await asyncio.sleep(0.01)
            held += 0.01
        fault = self.fault(number, body)
        self.faults[fault or "none"] += 1
        status, kind, text, more = 200, "application/json", "", ""
        if fault == "hang":
            await asyncio.sleep(self.hang)
        elif fault == "drop":
            writer.close()
            return
        elif fault == "html":
            kind, text = "text/html", "<html><body>502 Bad Gateway</body></html>"
        elif fault == "stream":
            kind, text = "text/event-stream", 'data: {"choices": [{"delta": {"content": "1. so"}}]}\n\ndata: [DONE]\n\n'
        elif fault == "empty":
            text = json.dumps({"choices": []})
        elif fault == "401":
            status, text = 401, json.dumps({"error": {"message": f"Incorrect key: {head}"}})
        elif fault == "echo400":
            status, text = 400, json.dumps({"error": {"message": f"bad request with {head}"}})
        elif fault == "quota":
            status, text = 429, json.dumps({"error": {"code": "insufficient_quota", "message": "pay first"}})
        elif fault and fault.isdigit():
            status, text = int(fault), json.dumps({"error": {"message": f"fault {fault}"}})
            more = f"Retry-After: {self.retry_after}\r\n" if fault == "429" else ""
        reply = text or json.dumps(self._reply(body))
        if fault == "torn":
            reply = reply[: len(reply) // 2]
        raw = reply.encode()
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(raw)}\r\n\r\n".encode() + raw
        )
        await writer.drain()

    def _reply(self, body: dict[str, Any]) -> dict[str, Any]:
        made = self.answer(body)
        if isinstance(made, dict):
            return made
        choice = {"message": {"role": "assistant", "content": made}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": self.tokens, "completion_tokens": self.tokens}}
