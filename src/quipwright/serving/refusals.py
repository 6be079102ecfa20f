"""What clients are told when a request cannot be answered."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from quipwright.core.errors import QuipwrightError
from quipwright.serving.bad_request import BadRequestError
from quipwright.serving.batcher import BusyError
from quipwright.serving.chat_api import error


async def _refused(request: Request, wrong: BadRequestError) -> Response:
    kind = "invalid_request_error" if wrong.status < 500 else "server_error"
    return JSONResponse(error(wrong.message, kind, wrong.param, wrong.code), wrong.status)


async def _unusable(request: Request, wrong: QuipwrightError) -> Response:
    return JSONResponse(error(str(wrong), param="messages"), 400)


async def _busy(request: Request, wrong: BusyError) -> Response:
    body = error("Too many requests wait; try again in a moment.", "rate_limit_error", code="rate_limit_exceeded")
    return JSONResponse(body, 429, {"retry-after": "1"})


async def _http(request: Request, wrong: HTTPException) -> Response:
    return JSONResponse(error(str(wrong.detail)), wrong.status_code, wrong.headers)


async def _broken(request: Request, wrong: Exception) -> Response:
    """What nobody foresaw: the console of the server shows it, the client is told nothing of the inside."""
    return JSONResponse(error("The server failed on this request.", "server_error"), 500)


async def _gone(request: Request, wrong: ClientDisconnect) -> Response:
    return Response(status_code=499)


HANDLERS: dict[Any, Any] = {
    BadRequestError: _refused,
    QuipwrightError: _unusable,
    BusyError: _busy,
    HTTPException: _http,
    ClientDisconnect: _gone,
    Exception: _broken,
}
"""By the kind of error, as Starlette takes them."""
