"""What asking costs: a server that answers after 50 ms, asked by a teacher's stage (every answer read and stored) and by
others (none).

The stage takes the pipeline's way: teacher, request batching, model, engine, store. Beside it stand ``openai``, ``httpx2``
alone, and sockets without any HTTP library: what this machine leaves of the ideal before a client has done anything.

``python -m benchmarks.calls`` writes ``benchmarks/results/calls.md``. Server and client are processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from quipwright.core.records import Example, Response
from quipwright.data.task import Task
from quipwright.data.teacher import ModelTeacher
from quipwright.llm.call_rows import Stored
from quipwright.llm.call_store import CallStore
from quipwright.llm.calls import Calls
from quipwright.llm.http_models import Chat
from quipwright.llm.request_batching import asked_at_once, chunks
from quipwright.llm.types import Capabilities

T = TypeVar("T")

LATENCY = 0.05
LOADS = {64: 8000, 512: 12000}  # requests under way: calls in all
RESULTS = Path(__file__).parent / "results" / "calls.md"
TEXT = "1. Noah rang to ask for his boat back.\n2. The ducks have hired a lawyer."
REPLY = json.dumps(
    {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }
).encode()  # fmt: skip
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(REPLY), REPLY)


class _Server(asyncio.Protocol):
    """As little work a request as Python allows, so that the client is what is measured."""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            asyncio.get_running_loop().call_later(LATENCY, self._answer)

    def _answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


def _serve(port: Any) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0, backlog=1024)
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    asyncio.run(main())


def _stage(url: str, concurrency: int, calls: int) -> None:
    examples = [
        Example(text=f"It rained for {i} days, and nobody in the village was surprised by it.") for i in range(calls)
    ]
    settings = ModelTeacher(model=Chat(model="m", base_url=url, concurrency=concurrency, capabilities=Capabilities()))

    def ask(part: Sequence[Example]) -> list[Response]:
        return list(teacher.teach(part).responses)

    with tempfile.TemporaryDirectory() as folder, Calls.open(Path(folder)) as opened:
        teacher = settings.build(opened, Task.load())
        window, step = asked_at_once(settings), lambda units=1, note="": None
        rows = _timed(lambda: list(chunks(examples, 0, ask, lambda e: e.id, lambda r: r.example_id, step, window)))
        assert opened.ledger.calls == calls
        assert sum(map(len, rows)) == 2 * calls


def _theirs(url: str, concurrency: int, calls: int) -> None:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    async def main() -> None:
        limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        client = AsyncOpenAI(base_url=url, api_key="none", http_client=DefaultAsyncHttpxClient(limits=limits))
        gate = asyncio.Semaphore(concurrency)

        async def one(i: int) -> str | None:
            async with gate:
                made = await client.chat.completions.create(**_body(i))
                text: str | None = made.choices[0].message.content
                return text

        assert len(await asyncio.gather(*(one(i) for i in range(calls)))) == calls
        await client.close()

    _timed(lambda: asyncio.run(main()))


def _library(url: str, concurrency: int, calls: int) -> None:
    async def main() -> None:
        limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        left = iter(range(calls))
        async with httpx2.AsyncClient(limits=limits, trust_env=False, timeout=60) as client:

            async def worker() -> None:
                for i in left:
                    reply = await client.post(f"{url}/chat/completions", json=_body(i))
                    assert reply.json()["choices"]

            await asyncio.gather(*(worker() for _ in range(concurrency)))

    _timed(lambda: asyncio.run(main()))


def _sockets(url: str, concurrency: int, calls: int) -> None:
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")

    async def main() -> None:
        left = iter(range(calls))

        async def worker() -> None:
            reader, writer = await asyncio.open_connection(host, int(port))
            for i in left:
                body = json.dumps(_body(i)).encode()
                writer.write(b"POST /v1 HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                await reader.readexactly(len(ANSWER))
            writer.close()

        await asyncio.gather(*(worker() for _ in range(concurrency)))

    _timed(lambda: asyncio.run(main()))


def _body(i: int) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"question {i} " + "x" * 300}]
    return {"model": "m", "messages": turns, "temperature": 0.8, "max_tokens": 64}


def _timed(work: Callable[[], T]) -> T:
    cpu, began = time.process_time(), time.perf_counter()
    result = work()
    _FIGURES.put((time.perf_counter() - began, time.process_time() - cpu))
    return result


_FIGURES: Any = multiprocessing.SimpleQueue()


def _run(client: Callable[[str, int, int], None], url: str, concurrency: int, calls: int) -> tuple[float, float]:
    process = multiprocessing.Process(target=client, args=(url, concurrency, calls))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{client.__name__} failed")
    figures: tuple[float, float] = _FIGURES.get()
    return figures


def _resume(folder: Path) -> tuple[float, float]:
    """Seconds to open a store of 100,000 calls and look all of them up, and the growth of peak memory in MB."""
    with CallStore.open(folder) as store:
        for start in range(0, 100_000, 10_000):
            content = {"messages": [["user", "q" * 400]]}
            store.put([Stored(f"k{i}", "m", content, {"text": "a" * 200}) for i in range(start, start + 10_000)])
    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with CallStore.open(folder) as store:
        for start in range(0, 100_000, 1000):
            assert len(store.find([f"k{i}" for i in range(start, start + 1000)])) == 1000
    return time.perf_counter() - began, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024


CLIENTS = {
    "quipwright, a teacher's stage": _stage,
    "openai, not stored": _theirs,
    "httpx2 alone": _library,
    "sockets alone": _sockets,
}


def main() -> None:
    """Run everything, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    output = parser.parse_args().output
    port = multiprocessing.Value("i", 0)
    server = multiprocessing.Process(target=_serve, args=(port,), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{port.value}/v1"
    rows = []
    for concurrency, calls in LOADS.items():
        ideal = concurrency / LATENCY
        for name, client in CLIENTS.items():
            wall, cpu = _run(client, url, concurrency, calls)
            share = f"{calls / wall:,.0f} | {calls / wall / ideal:.0%}"
            rows.append(f"| {concurrency} | {name} | {calls:,} | {share} | {cpu / calls * 1000:.2f} |")
    server.terminate()
    with tempfile.TemporaryDirectory() as folder:
        seconds, memory = _resume(Path(folder))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    text = f"""# Client overhead

`python -m benchmarks.calls` on {machine}, {versions}.
The server (a process of its own, on the same cores) answers after {LATENCY * 1000:.0f} ms; the ideal is requests under
way / latency. Ours is the pipeline's way: a teacher's stage in chunks, which starts at four requests under way and grows;
every answer is read and stored. The last two rows do nothing but ask: they show what the machine and an HTTP library leave
of the ideal.

| under way | client | calls | calls/s | of ideal | CPU ms a call |
|--:|---|--:|--:|--:|--:|
{chr(10).join(rows)}

100,000 stored calls: opened, checked and looked up in {seconds:.1f} s; peak memory grew by {memory:.0f} MB.
"""
    output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
