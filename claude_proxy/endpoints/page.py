"""The endpoints of the page: its files, and what it shows."""

from __future__ import annotations

import re

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from claude_proxy import __version__
from claude_proxy.claude.pool import Pool
from claude_proxy.current import Current
from claude_proxy.errors import NotFound
from claude_proxy.http.exchange import exchange_of
from claude_proxy.page import files
from claude_proxy.page.overview import Overlook
from claude_proxy.page.watch import Watchers
from claude_proxy.streaming import EVENT_STREAM, json_response

# What may stand in a command that somebody pastes; the gate lets more through (x$(y).localhost).
HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")


class About(msgspec.Struct):
    """What a program that asks for ``/`` is told."""

    name: str
    version: str
    message: str
    base_url: str
    description: str


class Settings(msgspec.Struct):
    """A text for one client, and in words where it goes; those of one client follow each other."""

    client: str
    title: str
    where: str
    language: str
    text: str


class ClientSettings(msgspec.Struct):
    data: list[Settings]
    object: str = "list"


class Page:
    def __init__(self, current: Current, pool: Pool, overlook: Overlook) -> None:
        self._pool = pool
        self._overlook = overlook
        self._watchers = Watchers(current, overlook)

    async def index(self, request: Request) -> Response:
        """The page for browsers, some words for others."""
        if "text/html" in request.headers.get("accept", ""):
            return file_response(request, files.INDEX)
        base = f"{reached(request)}/v1"
        about = About(
            name="claude-proxy",
            version=__version__,
            message="Your own Claude Code CLI as a local OpenAI and Anthropic API. Clients take "
            "base_url, those of Anthropic's without its /v1; a browser sees a page here.",
            base_url=base,
            description=f"{base}/openapi.json",
        )
        answer = json_response(msgspec.json.encode(about))
        answer.headers["vary"] = "Accept"
        return answer

    async def file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files.MEDIA_TYPES:
            raise NotFound(f"The page has no file {name[:100]!r}", code="unknown_url")
        return file_response(request, name)

    async def overview(self, request: Request) -> Response:
        exchange = exchange_of(request)
        exchange.quiet = True
        if EVENT_STREAM in request.headers.get("accept", "") and request.method != "HEAD":
            assert exchange.client is not None  # noqa: S101 - this route is not open
            return self._watchers.one_more(exchange.client)
        return of_now(self._overlook.now())

    async def client_settings(self, request: Request) -> Response:
        from claude_proxy.page import clients  # noqa: PLC0415 - no start has to wait for it

        exchange_of(request).quiet = True
        found = clients.snippets(reached(request), self._pool.models)
        data = [Settings(one.client, one.title, one.where, one.language, one.text) for one in found]
        return of_now(msgspec.json.encode(ClientSettings(data)))


def file_response(request: Request, name: str) -> Response:
    body, tag = files.content(name)
    headers = files.HEADERS | {"etag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=files.MEDIA_TYPES[name])


def of_now(body: bytes) -> Response:
    answer = json_response(body)
    answer.headers["cache-control"] = "no-store"
    return answer


def reached(request: Request) -> str:
    """The URL, without a path, by which the client has found this; of a reverse proxy with TLS,
    which says so, too: by http the key would pass the network for all to see.
    """
    host = request.headers.get("host", "")
    scheme = "https" if request.headers.get("x-forwarded-proto") == "https" else "http"
    return f"{scheme}://{host if HOST.fullmatch(host) else 'localhost'}"
