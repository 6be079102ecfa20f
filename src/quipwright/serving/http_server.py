"""The HTTP server under every page: it gives up on slow senders, bounds its connections and logs a storm as one line."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10.0
"""A request must have arrived whole by then, headers and body."""
MOST_CONNECTIONS = 128
QUIET_SECONDS = 60.0
"""The same message is logged once in that time."""


class BoundedProtocol(H11Protocol):
    """One connection. Where there are too many, the oldest that has sent no whole request makes room for the newest."""

    request_seconds = REQUEST_SECONDS
    most_connections = MOST_CONNECTIONS

    def __init__(self, *args: Any, **more: Any) -> None:
        """As uvicorn makes it."""
        super().__init__(*args, **more)
        self._late: asyncio.TimerHandle | None = None
        self._since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected: its time runs."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._watch()
        if len(self.connections) > self.most_connections:
            waiting = [c for c in self.connections if isinstance(c, BoundedProtocol) and c._late is not None]
            min(waiting, key=lambda c: c._since).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come; the time runs on until the request is whole."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and with it its time limit."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            if self._late is None:
                self._late = self.loop.call_later(self.request_seconds, self.transport.abort)
        else:
            self._forget()

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class OncePerStorm(logging.Filter):
    """Lets a message through once in ``QUIET_SECONDS``, told by its template: whoever floods us must not fill the log."""

    def __init__(self) -> None:
        """Nothing was logged yet."""
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` is shown."""
        template, now = str(record.msg)[:80], time.monotonic()
        seen = self._last.get(template)
        if seen is not None and now - seen < QUIET_SECONDS:
            return False
        self._last[template] = now
        record.exc_info = None
        return True


def make_server(app: Any, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Server:
    """A server of ``app``, not yet started."""
    for name in ("asyncio", "uvicorn.error"):
        logger = logging.getLogger(name)
        if not any(isinstance(one, OncePerStorm) for one in logger.filters):
            logger.addFilter(OncePerStorm())
    config = uvicorn.Config(
        app,
        host=host.strip("[]"),
        port=port,
        http=BoundedProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


class AnnouncedServer(uvicorn.Server):
    """A server that says where it listens once it does: the port may have been left to the system."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[int], None]) -> None:
        """``announce`` is called with the port."""
        super().__init__(config)
        self.announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind, and tell the port."""
        await super().startup(sockets)
        if self.started:
            self.announce(int(self.servers[0].sockets[0].getsockname()[1]))


def run_server(app: Any, host: str, port: int, announce: Callable[[int], None] = lambda port: None) -> None:
    """Serve until interrupted; ``announce`` is told the port once it is bound."""
    AnnouncedServer(make_server(app, host, port).config, announce).run()


def memory_used() -> str:
    """What this process holds in memory, in words; empty where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return ""
    return f"Memory: {pages * os.sysconf('SC_PAGE_SIZE') / 2**20:.0f} MB. "
