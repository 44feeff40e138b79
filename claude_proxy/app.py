"""The routes, and what is told of a request that an endpoint refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from claude_proxy import description, errors
from claude_proxy.claude.pool import Pool
from claude_proxy.current import Current
from claude_proxy.endpoints.chat import Chat
from claude_proxy.endpoints.completions import Completions
from claude_proxy.endpoints.messages import Messages
from claude_proxy.endpoints.models import Models
from claude_proxy.endpoints.operations import Operations
from claude_proxy.endpoints.page import Page
from claude_proxy.endpoints.responses import Responses
from claude_proxy.endpoints.turns import Turns
from claude_proxy.errors import ProxyError
from claude_proxy.http.exchange import Exchange, Front, error_response, exchange_of
from claude_proxy.kept import Kept
from claude_proxy.measures import Measures
from claude_proxy.money.allowance import Allowance
from claude_proxy.openai import absent
from claude_proxy.page.files import PATHS
from claude_proxy.page.overview import Overlook
from claude_proxy.page.recent import Recent
from claude_proxy.streaming import CLIENT_GONE, json_response

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


async def describe(_: Request) -> Response:
    return json_response(description.document())


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    exchange = exchange_of(request)
    headers = dict(error.headers or {})
    refused: ProxyError
    if error.status_code == 405:
        allowed = headers.get("Allow", "")
        message = f"{request.method} is not possible here; allowed: {allowed}"
        refused = errors.MethodNotAllowed(message, headers=headers)
    else:
        refused = unknown_url(request)
        name_route(request.url.path, exchange)
    exchange.fields["error"] = refused.code
    return error_response(refused, exchange)


def name_route(path: str, exchange: Exchange) -> None:
    """By words of ours, never by the client's."""
    if family := absent.family(path):
        exchange.route = f"/{family}"
    if meant := absent.meant(path):
        exchange.fields["meant"] = meant


def unknown_url(request: Request) -> errors.NotFound:
    path = request.url.path
    message = f"There is no {request.method} {path[:200]} here. {absent.explained(path)}"
    return errors.NotFound(message, code="unknown_url")


async def not_there(request: Request) -> Response:
    raise unknown_url(request)


async def on_proxy_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProxyError)  # noqa: S101 - registered for it
    exchange = exchange_of(request)
    exchange.fields["error"] = error.code or error.type
    return error_response(error.named(exchange.params), exchange)


async def on_disconnect(request: Request, _: Exception) -> Response:
    exchange_of(request).fields["client_gone"] = True
    return Response(status_code=CLIENT_GONE)


async def on_crash(request: Request, _: Exception) -> Response:
    """Starlette raises the exception again after this answer; ``Front`` logs it."""
    return error_response(ProxyError(errors.OUR_FAULT), exchange_of(request))


def by_method(path: str, endpoints: Mapping[str, Endpoint]) -> Endpoint:
    """The log names the route as it is written here, not what a client put into its path."""

    async def call(request: Request) -> Response:
        exchange_of(request).route = path
        method = "GET" if request.method == "HEAD" else request.method
        return await endpoints[method](request)

    return call


def build(
    current: Current, pool: Pool, kept: Kept, allowance: Allowance, measures: Measures
) -> ASGIApp:
    """The whole ASGI application."""
    models = Models(pool)
    turns = Turns(current, pool, allowance)
    chat, messages, completions = Chat(turns), Messages(turns), Completions(turns)
    responses = Responses(turns, kept)
    operations = Operations(current, pool, allowance, measures)
    recent = Recent()
    page = Page(current, pool, Overlook(current, pool, allowance, recent))
    table: dict[str, dict[str, Endpoint]] = {
        "/": {"GET": page.index},
        "/page/{name}": {"GET": page.file},
        "/overview": {"GET": page.overview},
        "/client_settings": {"GET": page.client_settings},
        "/health": {"GET": operations.health},
        "/ready": {"GET": operations.ready},
        "/metrics": {"GET": operations.metrics},
        "/usage": {"GET": operations.usage},
        "/openapi.json": {"GET": describe},
        "/models": {"GET": models.list},
        "/models/{model:path}": {"GET": models.get},
        "/chat/completions": {"POST": chat.create},
        "/completions": {"POST": completions.create},
        "/messages": {"POST": messages.create},
        "/messages/count_tokens": {"POST": messages.count_tokens},
        "/responses": {"POST": responses.create},
        # Not response ids, as the path below would have it.
        "/responses/compact": {"POST": not_there},
        "/responses/input_tokens": {"POST": not_there},
        "/responses/{response_id}": {"GET": responses.get, "DELETE": responses.delete},
        "/responses/{response_id}/input_items": {"GET": responses.input_items},
        "/responses/{response_id}/cancel": {"POST": responses.cancel},
    }
    routes: list[BaseRoute] = [
        Route(prefix + path, by_method(path, endpoints), methods=list(endpoints))
        for path, endpoints in table.items()
        for prefix in ("", "/v1")
    ]
    # All asynchronous: for others Starlette takes a thread, and there may be none left.
    handlers: Any = {
        HTTPException: on_http_exception,
        ProxyError: on_proxy_error,
        ClientDisconnect: on_disconnect,
        Exception: on_crash,
    }
    inner = Starlette(routes=routes, exception_handlers=handlers)
    inner.router.redirect_slashes = False  # it would send clients where their Host header says

    def done(method: str, exchange: Exchange) -> None:
        measures.request_done(method, exchange)
        recent.add(method, exchange)

    return Front(inner, current, done, PATHS)
