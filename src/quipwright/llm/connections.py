"""Connections to the servers of one model, kept open for the run. Straight on httpcore, which costs half of what a full
HTTP client does per request: with hundreds of requests under way that is what limits how many answers come a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore2
import httpx2

_LONGEST_CONNECT = 15.0  # seconds
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Reply:
    """A server's whole response; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, response: httpx2.Response) -> Reply:
        """From an HTTP client that has decoded the body."""
        return cls(response.status_code, dict(response.headers), response.content)


class Connections:
    """Connections that are opened as they are needed and used again: no time limit ever ticks while a request queues."""

    def __init__(self, url: str, timeout: float, headers: Mapping[str, str]) -> None:
        """``url``: any of the servers' base URLs, which says whether a proxy of the environment is used. Whoever posts
        bounds the time; a connection that cannot be made is given up earlier."""
        self._context, self._proxy = httpx2.create_ssl_context(), _proxy(url)
        self._idle: dict[str, list[httpcore2.AsyncConnectionPool]] = {}
        self._all: list[httpcore2.AsyncConnectionPool] = []
        fixed = {"accept": "application/json", "user-agent": "quipwright", **headers}
        self._headers = [(name.encode(), value.encode()) for name, value in fixed.items()]
        self._extensions = {"timeout": {"connect": min(_LONGEST_CONNECT, timeout)}}

    async def post(self, url: str, content: bytes) -> Reply:
        """The response to ``content``. Raises the errors of httpcore, or ``ValueError`` for no address."""
        target = httpcore2.URL(url)
        port = b"" if target.port is None else b":%d" % target.port
        headers = [(b"host", target.host + port), (b"content-length", b"%d" % len(content)), *self._headers]
        idle = self._idle.setdefault(url, [])
        connection = idle.pop() if idle else self._opened()
        try:
            response = await connection.request(
                "POST", target, headers=headers, content=content, extensions=self._extensions
            )
        finally:
            idle.append(connection)
        return _reply(response)

    def _opened(self) -> httpcore2.AsyncConnectionPool:
        """A pool of one connection: one of many looks through all of them at every request."""
        pool = httpcore2.AsyncConnectionPool(self._context, self._proxy, max_connections=1, keepalive_expiry=5.0)
        self._all.append(pool)
        return pool

    async def close(self) -> None:
        """Close all of them."""
        for pool in self._all:
            await pool.aclose()


def _reply(response: httpcore2.Response) -> Reply:
    headers = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
    if "content-encoding" in headers:  # not asked for, but some gateways compress all the same
        return Reply.of(httpx2.Response(response.status, headers=response.headers, content=response.content))
    return Reply(response.status, headers, response.content)


def _proxy(url: str) -> httpcore2.Proxy | None:
    """The proxy that the environment names for ``url``; none for this machine."""
    parts = urlsplit(url)
    host, named = parts.hostname or "", getproxies()
    address = named.get(parts.scheme) or named.get("all")
    if not address or host in _LOCAL or proxy_bypass(host):
        return None
    proxy = urlsplit(address if "://" in address else f"http://{address}")
    auth = (unquote(proxy.username), unquote(proxy.password or "")) if proxy.username else None
    return httpcore2.Proxy(f"{proxy.scheme}://{proxy.hostname}:{proxy.port or 80}", auth=auth)
