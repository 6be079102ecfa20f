"""What stands before every page we serve: host, origin, token and size are checked, and headers forbid the rest."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

HERE = Path(__file__).parent
STYLE = (HERE / "style.css").read_text(encoding="utf-8")
KEYS = (HERE / "keys.js").read_text(encoding="utf-8")
LIMIT = 64 * 1024
FIELDS = 20  # of a form
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


HEALTH = "/health"
"""Answers without a token, for those who watch the server."""


@dataclass(frozen=True)
class Admitted:
    """Who may enter beside this machine's own pages: ``hosts`` by which the server may be called, ``origins`` of pages
    whose scripts may ask it (``https://app.example``; ``*`` is every page)."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    def origin(self, origin: str | None) -> bool:
        """Whether scripts of ``origin`` may ask."""
        return origin is not None and bool(self.origins & {origin, "*"})


NOBODY = Admitted()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(KEYS)}; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def pages() -> Environment:
    """Templates, with escaping on for every file name: model text is hostile."""
    env = Environment(
        loader=PackageLoader("quipwright.serving", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    env.globals.update(style=STYLE, keys=KEYS)
    return env


def is_loopback(host: str) -> bool:
    """Whether ``host`` names this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def new_token(host: str) -> str | None:
    """A token for everyone who may enter, needed as soon as others can reach the page."""
    return None if is_loopback(host) else secrets.token_urlsafe(16)


def address(host: str, port: int) -> str:
    """What to type into a browser for a server that listens on ``host``: this machine's own address for all of them."""
    bare = host.strip("[]")
    if bare in ("0.0.0.0", "::"):
        bare = _outward(bare)
    return f"http://[{bare}]:{port}" if ":" in bare else f"http://{bare}:{port}"


def _outward(wildcard: str) -> str:
    """The address that this machine has in its network, or its name; nothing is sent to find out."""
    family, beyond = (socket.AF_INET6, "2001:db8::1") if ":" in wildcard else (socket.AF_INET, "192.0.2.1")
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((beyond, 9))
            ip = str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
    return socket.gethostname() if ipaddress.ip_address(ip).is_unspecified else ip


def host_name(host: str) -> str | None:
    """The name or address in the header ``Host``, without its port; ``None`` where it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        whole = parts.hostname and parts.netloc == host and (parts.port is None or parts.port >= 0)
    except ValueError:
        return None
    return parts.hostname if whole and _HOST.fullmatch(host) else None


def origin_host(origin: str) -> str | None:
    """Name and port in the header ``Origin``, ``null`` where a browser hides it; ``None`` where it is malformed."""
    if origin == "null":
        return origin
    scheme, separator, host = origin.partition("://")
    return host if separator and scheme.isalnum() and host_name(host) is not None else None


class Gate:
    """ASGI middleware around one application.

    Without a token only requests addressed to this machine by name pass, so that no other site's domain can be pointed
    here. With one, it is needed as ``?token=`` once (then a cookie) or as a bearer. Requests that change something must
    come from our own pages or from an origin that is ``admitted``, whose scripts may then read the answers (CORS).
    """

    def __init__(
        self, app: Callable[..., Any], token: str | None, limit: int = LIMIT, admitted: Admitted = NOBODY
    ) -> None:
        """``limit``: bytes of a request's body."""
        self.app, self.token, self.limit, self.admitted = app, token, limit, admitted

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, read = Request(scope), 0

        async def bounded() -> Any:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.limit:
                raise HTTPException(413, f"More than {self.limit} bytes.")
            return message

        async def dressed(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in (HEADERS | self._shared(request)).items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        answer = self._refusal(request) or self._preflight(request) or self._entrance(request)
        await (answer or self.app)(scope, bounded, dressed)

    def _refusal(self, request: Request) -> Response | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        name, sender = host_name(host), None if origin is None else origin_host(origin)
        if name is None or (origin is not None and sender is None):
            return PlainTextResponse("The header Host or Origin is malformed.", 400)
        if self.token is None and not is_loopback(name) and name not in self.admitted.hosts:
            return PlainTextResponse(
                "This page answers to this machine's own name only, and to those of --allow-host.", 421
            )
        if self.admitted.origin(origin):
            open_to = request.method == "OPTIONS" or self.token is None or self._known(request)
            return None if open_to else PlainTextResponse("This server needs its token.", 401)
        foreign = sender not in (None, host) or request.headers.get("sec-fetch-site", "none") not in (
            "same-origin",
            "none",
        )
        if foreign and request.method not in ("GET", "HEAD"):
            return PlainTextResponse("Requests from other sites are refused.", 403)
        if self.token is not None and request.url.path != HEALTH and not self._known(request):
            return PlainTextResponse("This page needs its token: open the address that was printed at the start.", 401)
        return None

    def _shared(self, request: Request) -> dict[str, str]:
        """The headers by which a browser lets scripts of an admitted origin read the answer."""
        origin = request.headers.get("origin", "")
        if not self.admitted.origin(origin):
            return {}
        return {
            "access-control-allow-origin": origin, "vary": "Origin", "cross-origin-resource-policy": "cross-origin",
            "access-control-allow-headers": "authorization, content-type",
            "access-control-allow-methods": "GET, POST, OPTIONS", "access-control-max-age": "600",
        }  # fmt: skip

    def _preflight(self, request: Request) -> Response | None:
        asks = request.method == "OPTIONS" and "access-control-request-method" in request.headers
        return Response(status_code=204) if asks and self._shared(request) else None

    def _entrance(self, request: Request) -> Response | None:
        """The token moves from the address to a cookie, where no history or referrer can show it.

        The cookie is lax: a strict one would not come along when the address is followed from a mail or a chat. What
        changes something is refused from elsewhere all the same.
        """
        if self.token is None or "token" not in request.query_params or request.method != "GET":
            return None
        answer = RedirectResponse(request.url.path, 303)
        answer.set_cookie(self._cookie(request), self.token, httponly=True, samesite="lax")
        return answer

    def _known(self, request: Request) -> bool:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        given = (request.query_params.get("token"), request.cookies.get(self._cookie(request)), bearer)
        return any(hmac.compare_digest((g or "").encode(), (self.token or "").encode()) for g in given)

    @staticmethod
    def _cookie(request: Request) -> str:
        return f"quipwright-token-{request.url.port or 80}"


async def form(request: Request) -> dict[str, str]:
    """The fields of a plain form, each once; bytes that are no UTF-8 become question marks. 400 for too many."""
    text = (await request.body()).decode("utf-8", errors="replace")
    try:
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError:
        raise HTTPException(400, f"More than {FIELDS} fields.") from None
    return {name: values[0] for name, values in fields.items()}
