"""What every HTTP exchange gets, whatever its route: an id, a key check, headers, one log line.

Pure ASGI middleware: nothing is buffered and context variables hold.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from claude_proxy.clients import Client
from claude_proxy.current import Current
from claude_proxy.errors import (
    NO_LONGER,
    InvalidApiKey,
    PermissionDenied,
    ProxyError,
    ShuttingDown,
    anthropic_body,
    anthropic_status,
    openai_body,
)
from claude_proxy.http import gate
from claude_proxy.http.authentication import Authentication

log = structlog.get_logger()

# Any other word is one of the client's, and is not logged.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OPENAI_VERSION = "2020-10-01"
# Whose dialect is clear, whatever the headers say.
OPENAIS = ("/chat/", "/completions", "/responses")
SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Without a key: whoever asks whether it lives, and be it every second.
OPEN_PATHS = frozenset({"/health", "/v1/health", "/ready", "/v1/ready"})
# Of pages that are kept out, one line in so many seconds.
GATE_INTERVAL = 60.0


class Exchange:
    """One request and its response.

    ``fields`` is what the log line says beyond the common, ``headers`` are the answer's.
    """

    def __init__(self, headers: Headers) -> None:
        given = headers.get("x-request-id", "")
        self.request_id = given if SANE_ID.fullmatch(given) else f"req_{secrets.token_hex(16)}"
        self.started = time.perf_counter()
        self.status: int | None = None
        self.route = "unknown"
        self.client: Client | None = None
        self.fields: dict[str, Any] = {}
        self.headers: dict[str, str] = {}
        # Whether the log line is for those only who look closely.
        self.quiet = False
        # What the client's dialect calls the parameters that an error may name.
        self.params: Mapping[str, str] = {}
        # Whether it is Anthropic's; else it is OpenAI's.
        self.is_anthropics = False

    @property
    def client_name(self) -> str:
        return self.client.name if self.client else ""

    @property
    def milliseconds(self) -> float:
        return round((time.perf_counter() - self.started) * 1_000, 1)


def exchange_of(request: Request) -> Exchange:
    exchange = request.scope["claude_proxy.exchange"]
    assert isinstance(exchange, Exchange)  # noqa: S101 - Front put it there
    return exchange


def error_response(error: ProxyError, exchange: Exchange) -> Response:
    """In the dialect of the exchange."""
    if exchange.is_anthropics:
        body, status = anthropic_body(error, exchange.request_id), anthropic_status(error)
    else:
        body, status = openai_body(error), error.status
    return Response(body, status, error.headers(), "application/json")


def is_anthropics(path: str, headers: Headers) -> bool:
    """Every request of Anthropic's SDKs names a version, also one for a path that is not there."""
    bare = path.removeprefix("/v1")
    if bare == "/messages" or bare.startswith("/messages/"):
        return True
    return "anthropic-version" in headers and not bare.startswith(OPENAIS)


class Front:
    """The outermost ASGI application around the routes."""

    def __init__(
        self,
        app: ASGIApp,
        current: Current,
        on_done: Callable[[str, Exchange], None] = lambda _, __: None,
        open_paths: frozenset[str] = frozenset(),
    ) -> None:
        """``on_done`` hears of every request, with its method, when it is over. ``open_paths``
        need no key either.
        """
        self._app = app
        self._current = current
        self._authentication = Authentication(current)
        self._on_done = on_done
        self._open_paths = OPEN_PATHS | open_paths
        self._gate_told_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        exchange = Exchange(headers)
        exchange.quiet = scope["path"] in self._open_paths
        exchange.is_anthropics = is_anthropics(scope["path"], headers)
        scope["claude_proxy.exchange"] = exchange

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                added = MutableHeaders(scope=message)
                added["x-request-id"] = exchange.request_id
                if exchange.is_anthropics:
                    added["request-id"] = exchange.request_id
                else:
                    added["openai-processing-ms"] = str(round(exchange.milliseconds))
                    added["openai-version"] = OPENAI_VERSION
                added.update(exchange.headers)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            try:
                await self._answer(scope, receive, send_with_headers, headers)
            finally:
                self._on_done(scope["method"], exchange)
                self._log(scope, exchange)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        exchange: Exchange = scope["claude_proxy.exchange"]
        try:
            if self._pass_gate(scope, headers, exchange):
                await gate.preflight(headers)(scope, receive, send)
                return
            if scope["path"] not in self._open_paths:
                exchange.client = await self._authentication.client(headers)
                exchange.fields["client"] = exchange.client.name
            await self._app(scope, receive, send)
        except ProxyError as error:
            exchange.fields["error"] = error.code or error.type
            if isinstance(error, InvalidApiKey):
                exchange.quiet = self._authentication.is_annoyed
            await error_response(error, exchange)(scope, receive, send)
        except asyncio.CancelledError:
            # uvicorn does this at its end to what could not be ended in time.
            exchange.fields["error"] = "cancelled"
            if exchange.status is None:
                await error_response(ShuttingDown(NO_LONGER), exchange)(scope, receive, send)
        except Exception:
            # The client has its answer, or a connection that uvicorn closes in mid-answer.
            log.exception("request.crashed")

    def _pass_gate(self, scope: Scope, headers: Headers, exchange: Exchange) -> bool:
        """Whether it is the preflight of a page that may ask. Raises PermissionDenied."""
        try:
            origin = gate.check(scope, headers, self._current.settings)
        except PermissionDenied as error:
            now = time.monotonic()
            exchange.quiet = now - self._gate_told_at < GATE_INTERVAL
            if not exchange.quiet:
                self._gate_told_at = now
                log.warning("gate.refused", reason=error.message)
            raise
        if origin is None:
            return False
        exchange.headers |= gate.cors(origin)
        return gate.is_preflight(scope, headers)

    def _log(self, scope: Scope, exchange: Exchange) -> None:
        (log.debug if exchange.quiet else log.info)(
            "request.done",
            method=scope["method"] if scope["method"] in METHODS else "other",
            route=exchange.route,
            status=exchange.status,
            duration_ms=exchange.milliseconds,
            **exchange.fields,
        )
