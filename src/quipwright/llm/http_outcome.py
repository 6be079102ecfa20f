"""What a server's response means for the call: an answer, try again, give this one up, or give everything up."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import httpx2

from quipwright.llm.retry import retry_after

_RETRIED = {408, 409, 425, 429}
_KEY_REMEDY = "Check the key in the environment variable that key_env names."
_URL_REMEDY = "Check model and base_url (it usually ends in /v1)."


@dataclass(frozen=True)
class Answered:
    """A usable answer: the reply as JSON for the store, and the tokens it used (``None``: not said)."""

    reply: dict[str, Any]
    tokens_in: int | None
    tokens_out: int | None


@dataclass(frozen=True)
class Outcome:
    """One attempt's end. ``maybe_paid``: the server may have worked for us. ``fatal``: all other calls to this server
    would fail too, ``always`` or only as long as none was ever answered (``at_first``)."""

    answer: Answered | None = None
    reason: str = ""
    remedy: str = ""
    status: int | None = None
    permanent: bool = False
    overloaded: bool = False
    maybe_paid: bool = False
    fatal: Literal["", "always", "at_first"] = ""
    wait: float | None = None


class _Wire(Protocol):
    def secrets(self) -> tuple[str, ...]: ...

    def read(self, payload: Any) -> Answered: ...


def judge_error(error: Exception) -> Outcome:
    """No response came. Names the kind of error only: a message may hold what it should not."""
    if isinstance(error, TimeoutError | httpx2.ReadTimeout | httpx2.WriteTimeout):
        return Outcome(reason="no answer in time", maybe_paid=True)
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return Outcome(reason="no connection")
    if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        return Outcome(reason="base_url is no http address", permanent=True, fatal="always", remedy=_URL_REMEDY)
    return Outcome(reason=f"connection lost ({type(error).__name__})", maybe_paid=True)


def judge_response(response: httpx2.Response, wire: _Wire, *, as_text: bool = False) -> Outcome:
    """What ``response`` means; a 200 that cannot be read is a fault to be retried, never an answer.

    ``as_text``: the response is a file, not JSON; it is given to ``wire`` as ``{"text": …}``.
    """
    status = response.status_code
    if status == 200:
        try:
            content = {"text": response.content.decode()} if as_text else json.loads(response.content)
            return Outcome(wire.read(content), status=status)
        except UnicodeDecodeError:
            reason = "a reply that is not UTF-8"
        except json.JSONDecodeError:
            page = response.content[:200].lstrip()[:1] == b"<"
            reason = "a web page instead of JSON" if page else "torn JSON"
        except ValueError as error:
            reason = f"a reply without {error}"
        except (KeyError, TypeError, IndexError, AttributeError):
            reason = "a reply of an unknown shape"
        return Outcome(reason=reason, status=status, maybe_paid=True)
    if status == 401:  # its body may echo the key: it is not looked at
        return Outcome(
            reason="status 401, the key is wrong or missing",
            status=401,
            permanent=True,
            fatal="always",
            remedy=_KEY_REMEDY,
        )
    said = _said(response, wire.secrets())
    reason = f"status {status}{': ' + said if said else ''}"
    if "insufficient_quota" in said:
        return Outcome(reason=reason, status=status, permanent=True, fatal="always", remedy="Top up the account.")
    if status in _RETRIED or status >= 500:
        busy = status in (429, 503, 529)
        return Outcome(reason=reason, status=status, overloaded=busy, wait=retry_after(response.headers))
    if status == 403:
        return Outcome(reason=reason, status=status, permanent=True, fatal="at_first", remedy=_KEY_REMEDY)
    if status in (404, 405) or 300 <= status < 400:
        return Outcome(reason=reason, status=status, permanent=True, fatal="at_first", remedy=_URL_REMEDY)
    return Outcome(reason=reason, status=status, permanent=True)


def _said(response: httpx2.Response, secrets: tuple[str, ...]) -> str:
    """The server's own words in 200 characters of one line, without any secret it may echo."""
    text = response.text
    try:
        error = json.loads(text).get("error", {})
        parts = [error.get("code"), error.get("message")] if isinstance(error, dict) else [error]
        text = " ".join(str(part) for part in parts if part) or text
    except (ValueError, AttributeError):
        pass
    for secret in secrets:
        text = text.replace(secret, "[key]")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
