"""A turn on its way to a client: server-sent events or one body, and what happens when it leaves.

The status line waits for the model's first event, so that an early failure keeps its HTTP status.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Protocol, TypeVar

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from claude_proxy.claude.pool import Pool, Turn
from claude_proxy.conversation import Event, Finished, Usage
from claude_proxy.errors import OUR_FAULT, ProxyError
from claude_proxy.http.exchange import Exchange
from claude_proxy.money import limit_headers

log = structlog.get_logger()

Result = TypeVar("Result")

EVENT_STREAM = "text/event-stream"
CLIENT_GONE = 499
SEND_TIMEOUT = 120.0
# Without a byte; clients and what lies between give up after a minute or more.
LONGEST_SILENCE = 10.0
WATCH_INTERVAL = 0.25


class Translator(Protocol):
    """A dialect's stream: events in, SSE frames out; ``keep_alive`` is one that says nothing."""

    keep_alive: bytes

    def feed(self, event: Event) -> bytes: ...

    def fail(self, error: ProxyError, usage: Usage) -> bytes: ...


class Outgoing:
    """Runs one turn and sends it; notes in ``exchange`` what the log line needs."""

    def __init__(
        self, pool: Pool, turn: Turn, exchange: Exchange, send: Send, ignored: Sequence[str]
    ) -> None:
        """``ignored``: what the client has set and what has no effect, which it is told."""
        self._pool = pool
        self._turn = turn
        self._exchange = exchange
        self._send = send
        self._ignored = ignored
        self.sent = False
        self._told = float("-inf")

    @property
    def usage(self) -> Usage:
        """As far as it is known; final when the turn is over."""
        return self._turn.report.usage

    async def stream(self, translator: Translator) -> None:
        """Raises ProxyError as long as nothing has been sent."""
        begun = False
        try:
            async with aclosing(self._batches()) as batches:
                async for batch in batches:
                    body = b"".join([translator.feed(event) for event in batch])
                    if body and not begun:
                        begun = True
                        await self._start(f"{EVENT_STREAM}; charset=utf-8")
                    if begun:
                        last = any(isinstance(event, Finished) for event in batch)
                        if body or last or self._is_silent(batch):
                            await self._body(body or translator.keep_alive, more=not last)
        except ClientDisconnect:
            raise
        except Exception as fault:
            if not begun:
                raise
            error = fault if isinstance(fault, ProxyError) else our_fault(fault)
            self._exchange.fields["error"] = error.code or error.type
            await self._body(
                translator.fail(error.named(self._exchange.params), self.usage), more=False
            )

    def _is_silent(self, batch: list[Event]) -> bool:
        """Nothing came, or for long only what this dialect has no frame for."""
        return not batch or time.monotonic() - self._told >= LONGEST_SILENCE

    async def whole(self, to_body: Callable[[list[Event]], bytes]) -> None:
        """Sends one body that is made of all events. Raises ProxyError."""
        events: list[Event] = []
        async with aclosing(self._batches()) as batches:
            async for batch in batches:
                events += batch
                if any(isinstance(event, Finished) for event in batch):
                    body = to_body(events)
                    await self._start("application/json", len(body))
                    await self._body(body, more=False)

    async def _batches(self) -> AsyncGenerator[list[Event], None]:
        """The turn's batches up to its answer's end; then it settles, which may fail unheard."""
        fields = self._exchange.fields
        try:
            async with aclosing(self._pool.run(self._turn)) as batches:
                async for batch in batches:
                    if self.sent:
                        continue
                    if batch and "ttft_ms" not in fields:
                        fields["ttft_ms"] = self._exchange.milliseconds
                    for event in batch:
                        if isinstance(event, Finished):
                            fields["finish_reason"] = event.reason.value
                    yield batch
        except ProxyError as error:
            if not self.sent:
                raise
            log.warning("turn.failed_after_its_answer", reason=error.message)
        finally:
            report = self._turn.report
            fields |= {
                "queue_ms": round(self._turn.queued * 1_000, 1),
                "process": self._turn.origin.value if self._turn.origin else None,
                "session": self._turn.session_id,
                "input_tokens": report.usage.prompt,
                "cached_tokens": report.usage.cache_read,
                "output_tokens": report.usage.output,
                "cost_usd": None if report.cost_usd is None else round(report.cost_usd, 6),
                "retries": report.retries,
            }

    async def _start(self, media_type: str, length: int | None = None) -> None:
        headers = {"content-type": media_type, "cache-control": "no-cache"}
        headers |= limit_headers.of_plan(self._pool.plan, time.time())
        if self._ignored:
            headers["x-claude-proxy-ignored"] = ", ".join(self._ignored)
        if length is not None:
            headers["content-length"] = str(length)
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self._deliver({"type": "http.response.start", "status": 200, "headers": raw})

    async def _body(self, body: bytes, *, more: bool) -> None:
        await self._deliver({"type": "http.response.body", "body": body, "more_body": more})
        self._told = time.monotonic()
        self.sent = not more

    async def _deliver(self, message: Message) -> None:
        """A client that takes nothing for SEND_TIMEOUT seconds has gone; it may not keep a slot."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._send(message)
        except TimeoutError:
            self._exchange.fields["error"] = "client_takes_nothing"
            raise ClientDisconnect from None


def json_response(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def event_stream(frames: bytes) -> Response:
    """One that is whole already."""
    return Response(frames, media_type=EVENT_STREAM, headers={"cache-control": "no-cache"})


def our_fault(fault: Exception) -> ProxyError:
    """A stream must not end without its end, whatever has happened."""
    log.error("request.crashed", exc_info=fault)
    return ProxyError(OUR_FAULT)


class Answering(Response):
    """A response that a turn writes by itself while the client stays connected."""

    def __init__(
        self, begin: Callable[[Send], Outgoing], write: Callable[[Outgoing], Awaitable[None]]
    ) -> None:
        super().__init__()
        self._begin = begin
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = scope["claude_proxy.exchange"]
        outgoing = self._begin(send)
        exchange.fields["client_gone"] = False
        try:
            stayed = await while_connected(receive, self._write(outgoing), lambda: outgoing.sent)
        except ClientDisconnect:
            stayed = False
        if not stayed:
            exchange.fields["client_gone"] = True
            exchange.status = exchange.status or CLIENT_GONE


async def while_connected(
    receive: Receive, work: Awaitable[None], is_sent: Callable[[], bool]
) -> bool:
    """Runs ``work``; cancels it and returns False when the client leaves before all is sent.

    After that a disconnect means nothing, and the turn may still tell what it has cost.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.create_task(disconnected(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if is_sent():
            await asyncio.wait({task})
        left = not task.done()
    finally:
        for running in (task, watcher):
            running.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)
    if not task.cancelled():
        task.result()
    return not left


async def unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """What ``work`` makes; ClientDisconnect, and ``work`` cancelled, when the client leaves."""
    made: list[Result] = []

    async def make() -> None:
        made.append(await work)

    if not await while_connected(request.receive, make(), lambda: False):
        raise ClientDisconnect
    return made[0]


async def disconnected(receive: Receive) -> None:
    """uvicorn stops reading when a client sends more than its request; asking anew resumes it."""
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(WATCH_INTERVAL):
                if (await receive())["type"] == "http.disconnect":
                    return
