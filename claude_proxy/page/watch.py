"""The overview as server-sent events: one at first, then one whenever something has changed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from claude_proxy.clients import Client
from claude_proxy.current import Current
from claude_proxy.dialect.frames import KEEP_ALIVE
from claude_proxy.errors import RETRY_SOON, Overloaded
from claude_proxy.http import watched
from claude_proxy.page.overview import Overlook
from claude_proxy.streaming import while_connected

# In seconds: how often it looks, how long it says nothing, how long nobody takes what it says.
INTERVAL, SILENCE, SEND_TIMEOUT = 1.0, 15.0, 30.0
MOST_WATCHERS = 16
HEADERS = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store"))


class Watchers:
    """Those who watch now, at most MOST_WATCHERS."""

    def __init__(self, current: Current, overlook: Overlook) -> None:
        self._current = current
        self._overlook = overlook
        self._count = 0

    def one_more(self, client: Client) -> Response:
        """Raises Overloaded."""
        if self._count >= MOST_WATCHERS:
            raise Overloaded(
                f"{MOST_WATCHERS} pages are watching already: close one of them",
                retry_after=RETRY_SOON,
            )
        return Watch(self, client)

    async def watch(self, client: Client, receive: Receive, send: Send) -> None:
        """Until the client leaves, its key is taken away by a reload, or the program ends."""
        self._count += 1
        try:
            with suppress(ClientDisconnect):
                await while_connected(receive, self._tell(client, send), lambda: False)
        finally:
            self._count -= 1

    async def _tell(self, client: Client, send: Send) -> None:
        loop = asyncio.get_running_loop()
        await deliver(send, {"type": "http.response.start", "status": 200, "headers": HEADERS})
        told, told_at = b"", loop.time()
        while True:
            is_known = self._current.clients.has(client)
            is_last = self._current.draining or not is_known
            latest = self._overlook.latest() if is_known else told
            frame = b""
            if latest != told:
                told, frame = latest, b"data: %b\n\n" % latest
            elif loop.time() - told_at >= SILENCE:
                frame = KEEP_ALIVE
            if frame or is_last:
                body = {"type": "http.response.body", "body": frame, "more_body": not is_last}
                await deliver(send, body)
                told_at = loop.time()
            if is_last:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._current.ending.wait()


class Watch(Response):
    def __init__(self, watchers: Watchers, client: Client) -> None:
        super().__init__()
        self._watchers = watchers
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watched.mark(scope)
        await self._watchers.watch(self._client, receive, send)


async def deliver(send: Send, message: Message) -> None:
    """Who takes nothing for SEND_TIMEOUT seconds has gone. Raises ClientDisconnect."""
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            await send(message)
    except TimeoutError:
        raise ClientDisconnect from None
