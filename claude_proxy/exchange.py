"""What every HTTP exchange gets, whatever its route: an id, a key check, headers, one log line.

Pure ASGI middleware: nothing is buffered and context variables hold.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from claude_proxy.api_key import ApiKey
from claude_proxy.current import Current
from claude_proxy.errors import NO_LONGER, InvalidApiKey, ProxyError, ShuttingDown, openai_body

log = structlog.get_logger()

# Any other word is one of the client's, and is not logged.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OPENAI_VERSION = "2020-10-01"
SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
OPEN_PATHS = frozenset({"/health", "/v1/health"})


class Exchange:
    """One request and its response. ``fields`` is what the log line says beyond the common."""

    def __init__(self, headers: Headers) -> None:
        given = headers.get("x-request-id", "")
        self.request_id = given if SANE_ID.fullmatch(given) else f"req_{secrets.token_hex(16)}"
        self.started = time.perf_counter()
        self.status: int | None = None
        self.route = "unknown"
        self.fields: dict[str, Any] = {}
        # What the client's dialect calls the parameters that an error may name.
        self.params: Mapping[str, str] = {}

    @property
    def milliseconds(self) -> float:
        return round((time.perf_counter() - self.started) * 1_000, 1)


def exchange_of(request: Request) -> Exchange:
    exchange = request.scope["claude_proxy.exchange"]
    assert isinstance(exchange, Exchange)  # noqa: S101 - Front put it there
    return exchange


def error_response(error: ProxyError) -> Response:
    return Response(
        openai_body(error),
        status_code=error.status,
        headers=error.headers(),
        media_type="application/json",
    )


def authorise(key: ApiKey, headers: Headers) -> None:
    """Takes ``Authorization: Bearer KEY`` or ``x-api-key: KEY``. Raises InvalidApiKey."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    candidates = [bearer.strip()] if scheme.lower() == "bearer" else []
    candidates += [headers["x-api-key"].strip()] if "x-api-key" in headers else []
    if not candidates:
        raise InvalidApiKey(
            "No API key was sent: expected `Authorization: Bearer KEY` or `x-api-key: KEY`. "
            "`claude-proxy key` prints the key."
        )
    if not any(key.matches(candidate.encode("latin-1")) for candidate in candidates):
        raise InvalidApiKey(
            "Incorrect API key provided: it is not this proxy's, which is the one that it was "
            "started with, or else the one that `claude-proxy key` prints."
        )


class Front:
    """The outermost ASGI application around the routes."""

    def __init__(self, app: ASGIApp, current: Current) -> None:
        self._app = app
        self._current = current

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        exchange = Exchange(headers)
        scope["claude_proxy.exchange"] = exchange

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                added = MutableHeaders(scope=message)
                added["x-request-id"] = exchange.request_id
                added["openai-processing-ms"] = str(round(exchange.milliseconds))
                added["openai-version"] = OPENAI_VERSION
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            try:
                await self._answer(scope, receive, send_with_headers, headers)
            finally:
                self._log(scope, exchange)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        try:
            if scope["path"] not in OPEN_PATHS:
                authorise(self._current.key, headers)
            await self._app(scope, receive, send)
        except ProxyError as error:
            await error_response(error)(scope, receive, send)
        except asyncio.CancelledError:
            # uvicorn does this at its end to what could not be ended in time.
            exchange = scope["claude_proxy.exchange"]
            exchange.fields["error"] = "cancelled"
            if exchange.status is None:
                await error_response(ShuttingDown(NO_LONGER))(scope, receive, send)
        except Exception:
            # The client has its answer, or a connection that uvicorn closes in mid-answer.
            log.exception("request.crashed")

    def _log(self, scope: Scope, exchange: Exchange) -> None:
        quiet = scope["path"] in OPEN_PATHS
        (log.debug if quiet else log.info)(
            "request.done",
            method=scope["method"] if scope["method"] in METHODS else "other",
            route=exchange.route,
            status=exchange.status,
            duration_ms=exchange.milliseconds,
            **exchange.fields,
        )
