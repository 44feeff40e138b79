"""A real server of ours on a free port, with plain connections to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from starlette.types import ASGIApp

from claude_proxy import app
from claude_proxy.api_key import ApiKey
from claude_proxy.claude.pool import Pool
from claude_proxy.clients import Clients
from claude_proxy.current import Current
from claude_proxy.http import watched
from claude_proxy.http.server import Server
from claude_proxy.kept import Kept
from claude_proxy.listeners import Listener, Place, bound
from claude_proxy.measures import Measures
from claude_proxy.money.allowance import Allowance
from claude_proxy.money.spending import Spending
from claude_proxy.settings import Settings

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


def whole(settings: Settings, pool: Pool, key: str = "sk-x") -> ASGIApp:
    """The application itself, with nothing behind it but the pool."""
    current = Current(settings, Clients.of(ApiKey(key, "test")))
    return app.build(current, pool, Kept(None), Allowance(current, Spending()), Measures())


@dataclass
class App:
    """Answers with its path; ``/wait``, and ``/watch``, which only watches, when ``go`` is set."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answered: int = 0

    async def __call__(self, scope, receive, send) -> None:
        if scope["path"] == "/watch":
            watched.mark(scope)
        self.asked.set()
        if scope["path"] in ("/wait", "/watch"):
            await self.go.wait()
        body = scope["path"].encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self.answered += 1


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def ask(self, path: str = "/") -> None:
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())

    async def answer(self) -> tuple[list[str], str]:
        """The head's lines and the body; ConnectionError or IncompleteReadError without one."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")[:-2]
        length = next(int(line.split()[1]) for line in head if line.startswith("content-length"))
        return head, (await self._reader.readexactly(length)).decode()

    async def is_closed(self) -> bool:
        """Waits for that."""
        return await self._reader.read() == b""

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):  # the server was first
            await asyncio.wait_for(self._writer.wait_closed(), 5)


@dataclass
class Service:
    """``stopping`` is set in the moment in which the server begins to drain."""

    server: Server
    listener: Listener
    task: asyncio.Task[None]
    stopping: asyncio.Event
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.listener.getsockname()[:2]))
        self.clients.append(client)
        return client


@asynccontextmanager
async def serving(app: ASGIApp, pool: Pool, drain: float = 20.0) -> AsyncGenerator[Service, None]:
    """Ready; drained at the end."""
    listener = bound(Place("127.0.0.1"))
    server = Server(app, pool, drain)
    ready, stopping = asyncio.Event(), asyncio.Event()
    server.on_ready, server.on_stopping = ready.set, stopping.set
    task = asyncio.create_task(server.serve_on([listener]))
    try:
        await ready.wait()
        service = Service(server, listener, task, stopping)
        try:
            yield service
        finally:
            for client in service.clients:
                await client.close()
    finally:
        server.should_exit = True
        await task
        listener.close()
