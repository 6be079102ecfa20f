"""What a server's reply means for the call: an answer, try again, give this one up, or give everything up.

A reply is judged by its content, not by its status alone: gateways put errors inside a 200, and streams where none was
asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import httpcore2
import httpx2

from quipwright.llm.connections import Reply
from quipwright.llm.retry import retry_after

_RETRIED = {408, 409, 425, 429}
_BUSY = {429, 503, 529}
_KEY_REMEDY = "Check the key in the environment variable that key_env names."
_MODEL_REMEDY = "Check that the key in the environment variable that key_env names may use this model."
_URL_REMEDY = "Check model and base_url (it usually ends in /v1)."
_NO_REPLY = (httpx2.HTTPError, httpx2.InvalidURL, httpcore2.TimeoutException, httpcore2.NetworkError)
NETWORK_ERRORS = (*_NO_REPLY, httpcore2.ProtocolError, httpcore2.ProxyError, httpcore2.UnsupportedProtocol, OSError)
"""What sending a request may raise (time-outs are among them)."""


@dataclass(frozen=True)
class Answered:
    """A usable answer: the reply as JSON for the store, and the tokens it used (``None``: not said)."""

    reply: dict[str, Any]
    tokens_in: int | None
    tokens_out: int | None


@dataclass(frozen=True)
class Outcome:
    """One attempt's end. ``maybe_paid``: the server may have worked for us. ``fatal``: all other calls to this server
    would fail too, ``always`` or only as long as none was ever answered (``at_first``). ``wait``: seconds the server asks
    us to wait."""

    answer: Answered | None = None
    reason: str = ""
    remedy: str = ""
    status: int | None = None
    permanent: bool = False
    overloaded: bool = False
    maybe_paid: bool = False
    fatal: Literal["", "always", "at_first"] = ""
    wait: float | None = None


class Reader(Protocol):
    """Reads the replies of one API."""

    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""

    def read(self, payload: dict[str, Any]) -> Answered:
        """The answer in a reply's JSON.

        Raises :class:`Unusable` where the server answered with nothing to use, ``ValueError`` naming what is missing.
        """


class Unusable(Exception):  # noqa: N818 - it is an outcome, not a fault of ours
    """The server did its work, and nothing can be done with what came: asking again would cost the same again."""


def judge_error(error: Exception) -> Outcome:
    """No reply came. Names the kind of error only: a message may hold what it should not."""
    if isinstance(
        error, httpx2.ConnectError | httpx2.ConnectTimeout | httpcore2.ConnectError | httpcore2.ConnectTimeout
    ):
        return Outcome(reason="no connection")
    if isinstance(error, TimeoutError | httpx2.TimeoutException | httpcore2.TimeoutException):
        return Outcome(reason="no answer in time", maybe_paid=True)
    if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol | httpcore2.UnsupportedProtocol):
        return Outcome(reason="base_url is no http address", permanent=True, fatal="always", remedy=_URL_REMEDY)
    return Outcome(reason=f"connection lost ({type(error).__name__})", maybe_paid=True)


def judge_reply(reply: Reply, reader: Reader) -> Outcome:
    """What ``reply`` means; a 200 that cannot be read is a fault to be retried, never an answer."""
    if reply.status != 200:
        return _refusal(reply.status, _said(reply.body, reader.secrets()), retry_after(reply.headers))
    try:
        payload = parse(reply.body)
    except UnicodeDecodeError:
        return Outcome(reason="a reply that is not UTF-8", status=200, maybe_paid=True)
    except (ValueError, RecursionError):
        return _not_json(reply)
    return judge_payload(payload, reader, retry_after(reply.headers))


def parse(text: bytes | str) -> Any:
    """JSON as servers write it. No number that is none gets in, as a log-probability or a count of tokens: ``NaN`` and
    ``Infinity`` become ``None``."""
    return json.loads(text, parse_constant=lambda name: None)


def judge_payload(payload: Any, reader: Reader, wait: float | None = None) -> Outcome:
    """What the JSON of a reply with status 200 means."""
    try:
        if isinstance(payload, dict) and payload.get("error") and not payload.get("choices"):
            return _error_inside(payload["error"], _said(json.dumps(payload).encode(), reader.secrets()), wait)
        return Outcome(reader.read(payload), status=200)
    except Unusable as unusable:
        return Outcome(reason=str(unusable), status=200, permanent=True, maybe_paid=True)
    except ValueError as error:
        reason = f"a reply without {error}"
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError):
        reason = "a reply of an unknown shape"
    return Outcome(reason=reason, status=200, maybe_paid=True)


def _not_json(reply: Reply) -> Outcome:
    start = reply.body[:200].lstrip()
    if start.startswith((b"data:", b"event:", b": ")) or "event-stream" in reply.headers.get("content-type", ""):
        reason, remedy = "an event stream instead of one reply", "Take stream out of extra, or turn streaming off."
        return Outcome(reason=reason, status=200, maybe_paid=True, permanent=True, fatal="at_first", remedy=remedy)
    reason = "a web page instead of JSON" if start.startswith(b"<") else "torn JSON"
    return Outcome(reason=reason, status=200, maybe_paid=True)


def _error_inside(error: Any, said: str, wait: float | None) -> Outcome:
    """An error object inside a 200, with a status of its own or none. Nothing was generated: it costs nothing."""
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    number = int(str(code)) if str(code).isdecimal() else 0
    if 400 <= number <= 599:
        return _refusal(number, said, wait)
    return Outcome(reason=f"an error inside status 200: {said}", status=200, wait=wait)


def _refusal(status: int, said: str, wait: float | None) -> Outcome:
    if status == 401:  # its body may echo the key: it is not shown
        said = "the key is wrong or missing"
        return Outcome(reason=f"status 401, {said}", status=401, permanent=True, fatal="always", remedy=_KEY_REMEDY)
    reason = f"status {status}{': ' + said if said else ''}"
    if "insufficient_quota" in said or status == 402:
        return Outcome(reason=reason, status=status, permanent=True, fatal="always", remedy="Top up the account.")
    if status in _RETRIED or status >= 500:
        return Outcome(reason=reason, status=status, overloaded=status in _BUSY, wait=wait)
    if status == 403:
        return Outcome(reason=reason, status=status, permanent=True, fatal="at_first", remedy=_MODEL_REMEDY)
    if status in (404, 405) or 300 <= status < 400:
        return Outcome(reason=reason, status=status, permanent=True, fatal="at_first", remedy=_URL_REMEDY)
    return Outcome(reason=reason, status=status, permanent=True)


def _said(body: bytes, secrets: tuple[str, ...]) -> str:
    """The server's own words in 200 characters of one line, without any secret it may echo."""
    text = body.decode("utf-8", "replace")
    try:
        content = json.loads(text)
        content = content[0] if isinstance(content, list) and content else content
        error = content.get("error", content)
        parts = [error.get("code"), error.get("message")] if isinstance(error, dict) else [error]
        text = " ".join(str(part) for part in parts if part) or text
    except (ValueError, AttributeError, RecursionError):
        pass
    for secret in secrets:
        text = text.replace(secret, "[key]")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
