"""Routes: the Messages API, and under /simulator/ the control of those who test with it.

    GET    /simulator/requests[?contains=TEXT]   what came, oldest first
    DELETE /simulator/requests
    GET    /simulator/streams                    {"open": n}: unfinished requests to /v1/messages
    POST   /simulator/release/NAME               ends a hold, also one that is not reached yet
    GET    /simulator/wait?contains=TEXT&outcome=O&timeout=S
           the newest request whose body contains TEXT once its outcome is O (running, completed,
           disconnected, error, `held` in a hold, or `any`); 408 after S seconds (default 30)

A request is {id, path, model, outcome, held, status, headers, body, deltas}.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from claude_proxy.simulator.cache import PromptCache
from claude_proxy.simulator.errors import ApiError
from claude_proxy.simulator.record import SECRET_HEADERS, Exchange
from claude_proxy.simulator.reply import COUNT_TOKENS, MESSAGES, Reply, State

MAX_BODY = 32 * 1024 * 1024  # bytes
MAX_WAIT = 600.0  # seconds
ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_app(clock: Callable[[], float] = time.monotonic) -> Starlette:
    """`clock`: seconds, for the age of cache entries."""
    state = State(PromptCache(clock))
    api = _Api(state)
    control = _Control(state)
    return Starlette(
        routes=[
            Route("/", api.root, methods=["GET"]),  # and HEAD
            Route(MESSAGES, api.post, methods=["POST"]),
            Route(COUNT_TOKENS, api.post, methods=["POST"]),
            Route("/simulator/requests", control.requests, methods=["GET"]),
            Route("/simulator/requests", control.forget, methods=["DELETE"]),
            Route("/simulator/streams", control.streams, methods=["GET"]),
            Route("/simulator/release/{name}", control.release, methods=["POST"]),
            Route("/simulator/wait", control.wait, methods=["GET"]),
            Route("/{path:path}", api.unknown, methods=ALL_METHODS),
        ],
    )


class _Api:
    def __init__(self, state: State) -> None:
        self.state = state

    async def root(self, _request: Request) -> Response:
        return Response()

    async def post(self, request: Request) -> Response:
        return await self._reply(request, None)

    async def unknown(self, request: Request) -> Response:
        if request.url.path.startswith("/simulator/"):
            return _json({"error": "no such control route"}, 404)
        return await self._reply(request, ApiError(404, f"Not found: {request.url.path}"))

    async def _reply(self, request: Request, refusal: ApiError | None) -> Response:
        try:
            raw = await _read(request)
        except ClientDisconnect:
            return Response()
        if raw is None:
            raw, refusal = b"", ApiError(413, "Request exceeds the maximum size")
        headers = {
            name: value for name, value in request.headers.items() if name not in SECRET_HEADERS
        }
        exchange = Exchange(f"req_{secrets.token_hex(12)}", request.url.path, headers, raw)
        self.state.record.begin(exchange)
        return Reply(self.state, exchange, refusal or _denial(request))


async def _read(request: Request) -> bytes | None:
    """The body, or None if it is too large; read to its end, so that the client can hear why."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            chunks.clear()
        else:
            chunks.append(chunk)
    return b"".join(chunks) if size <= MAX_BODY else None


def _denial(request: Request) -> ApiError | None:
    """401 without a credential, or with one that contains "invalid"."""
    headers = request.headers
    credentials = headers.get("x-api-key", "") + headers.get("authorization", "")
    if not credentials:
        return ApiError(401, "x-api-key header is required")
    return ApiError(401, "invalid x-api-key") if "invalid" in credentials else None


class _Control:
    def __init__(self, state: State) -> None:
        self.state = state

    async def requests(self, request: Request) -> Response:
        found = self.state.record.containing(request.query_params.get("contains", ""))
        return _json([exchange.as_json() for exchange in found])

    async def forget(self, _request: Request) -> Response:
        self.state.record.clear()
        return Response(status_code=204)

    async def streams(self, _request: Request) -> Response:
        return _json({"open": self.state.open_streams})

    async def release(self, request: Request) -> Response:
        self.state.holds.release(request.path_params["name"])
        return Response(status_code=204)

    async def wait(self, request: Request) -> Response:
        query = request.query_params
        try:
            seconds = min(max(0.0, float(query.get("timeout", "30"))), MAX_WAIT)
        except ValueError:
            raise HTTPException(400, "timeout: not a number of seconds") from None
        outcome = query.get("outcome", "any")
        found = await self.state.record.wait(query.get("contains", ""), outcome, seconds)
        if found is None:
            return _json({"error": f"no such request within {seconds:g} s"}, 408)
        return _json(found.as_json())


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
