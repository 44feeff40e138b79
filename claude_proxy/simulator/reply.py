"""Plays one answer to one client: pace, holds, failures, and noticing that the client has left."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from claude_proxy.simulator import directives as language
from claude_proxy.simulator.cache import PromptCache, count_tokens
from claude_proxy.simulator.directives import Directives
from claude_proxy.simulator.errors import ERROR_TYPES, ApiError, error_body, invalid
from claude_proxy.simulator.prompt import (
    Json,
    last_user_blocks,
    texts,
    tool_result_texts,
)
from claude_proxy.simulator.record import Exchange, Failures, Holds, Outcome, Record
from claude_proxy.simulator.render import BATCH, Answer, delta_count, frame, message, steps
from claude_proxy.simulator.script import plan
from claude_proxy.simulator.validate import check

log = logging.getLogger(__name__)

MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
# seconds between the last bytes and a break: Node drops bytes that come together with the end
LAST_READ = 0.1


@dataclass(slots=True)
class State:
    """What outlives a request."""

    cache: PromptCache
    record: Record = field(default_factory=Record)
    holds: Holds = field(default_factory=Holds)
    failures: Failures = field(default_factory=Failures)
    open_streams: int = 0  # unfinished requests to /v1/messages


class Reply(Response):
    """The response to `exchange`; ends the exchange with its outcome."""

    def __init__(self, state: State, exchange: Exchange, refusal: ApiError | None = None) -> None:
        super().__init__()
        self.state = state
        self.exchange = exchange
        self.refusal = refusal
        self.extra_headers: tuple[tuple[str, str], ...] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        self.send = send
        playing = asyncio.create_task(self._play())
        leaving = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait((playing, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(playing, leaving)

    async def _play(self) -> None:
        counted = self.exchange.path == MESSAGES
        self.state.open_streams += counted
        outcome: Outcome = "disconnected"
        try:
            outcome = await self._outcome()
        finally:
            # in the same breath as the last write: who has read the answer sees its outcome
            self.state.open_streams -= counted
            self.state.record.finish(self.exchange, outcome)

    async def _outcome(self) -> Outcome:
        try:
            return await self._answer()
        except ApiError as error:
            return await self._refuse(error)
        except Exception:
            log.exception("the simulator failed on %s", self.exchange.id)
            if self.exchange.status is None:
                await self._refuse(ApiError(500, "the simulator failed, see its log"))
            return "error"

    async def _answer(self) -> Outcome:
        if self.refusal is not None:
            raise self.refusal
        body = self._body()
        if self.exchange.path == COUNT_TOKENS:
            check(body, counting=True)
            await self._whole(200, {"input_tokens": count_tokens(body)})
            return "completed"
        check(body)
        directives = self._directives(body)
        self.extra_headers = directives.headers
        if directives.hold_before is not None:
            await self._hold(directives.hold_before)
        await asyncio.sleep(directives.first_delay_ms / 1000)
        if directives.error is not None:
            raise _told_error(directives)
        answer = Answer(
            id=f"msg_{secrets.token_hex(12)}",
            model=body["model"],
            plan=plan(body, directives),
            usage=self.state.cache.account(body),
        )
        if body.get("stream"):
            return await self._stream(answer, directives)
        return await self._fold(answer, directives)

    def _body(self) -> Json:
        try:
            body = msgspec.json.decode(self.exchange.raw)
        except msgspec.DecodeError as error:
            raise invalid(f"The request body is not valid JSON: {error}") from None
        except RecursionError:
            raise invalid("The request body is nested too deeply") from None
        self.exchange.parsed = True
        if not isinstance(body, dict):
            raise invalid("Input should be a valid dictionary")
        model = body.get("model")
        self.exchange.model = model if isinstance(model, str) else None
        return body

    def _directives(self, body: Json) -> Directives:
        blocks = last_user_blocks(body)
        written = [*texts(blocks), *tool_result_texts(blocks)]
        directives = language.read(written)
        if directives.times is None:
            return directives
        if self.state.failures.next("\n".join(written)) > directives.times:
            return directives.without_failures()
        return directives

    async def _stream(self, answer: Answer, told: Directives) -> Outcome:
        total = delta_count(answer)
        holds = [(min(hold.after or 0, total), hold.name) for hold in told.holds]
        holds.sort(key=lambda hold: hold[0])
        ends = [end for end in (told.break_after, told.stream_error) if end is not None]
        end = min([total, *ends]) if ends else -1
        positions = {after for after, _ in holds} | ({end} if ends else set())
        await self._start(200, "text/event-stream; charset=utf-8", (("cache-control", "no-cache"),))
        for step in steps(answer, positions, 1 if told.delay_ms else BATCH):
            if told.delay_ms and 0 < self.exchange.deltas < step.deltas:
                await asyncio.sleep(told.delay_ms / 1000)
            data = step.data
            if told.torn and data.startswith(b"event: message_stop"):
                await self._write(data[: len(data) // 2])
                await asyncio.sleep(LAST_READ)
                return "error"  # leaving the response unfinished closes the connection
            await self._write(data)
            self.exchange.deltas = step.deltas
            while holds and holds[0][0] == step.deltas:
                await self._hold(holds.pop(0)[1])
            if end == step.deltas:
                return await self._break_off(abruptly=told.break_after == min(ends))
            # `send` returns at once while the socket takes all: let others have their turn
            await asyncio.sleep(0)
        await self.send({"type": "http.response.body", "body": b""})
        return "completed"

    async def _break_off(self, *, abruptly: bool) -> Outcome:
        if abruptly:  # leaving the response unfinished closes the connection
            await asyncio.sleep(LAST_READ)
        else:
            error = error_body("overloaded_error", "Overloaded", self.exchange.id)
            await self._write(frame(error))
            await self.send({"type": "http.response.body", "body": b""})
        return "error"

    async def _fold(self, answer: Answer, told: Directives) -> Outcome:
        total = delta_count(answer)
        for hold in told.holds:
            await self._hold(hold.name)
        await asyncio.sleep(told.delay_ms / 1000 * max(0, total - 1))
        await self._whole(200, message(answer))
        return "completed"

    async def _hold(self, name: str) -> None:
        self.exchange.held = True
        self.state.record.changed()
        await self.state.holds.wait(name)
        self.exchange.held = False
        self.state.record.changed()

    async def _refuse(self, error: ApiError) -> Outcome:
        await self._whole(error.status, error.body(self.exchange.id), error.headers)
        return "error"

    async def _whole(
        self, status: int, value: Json, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        data = msgspec.json.encode(value)
        length = (("content-length", str(len(data))),)
        await self._start(status, "application/json", headers + length)
        await self.send({"type": "http.response.body", "body": data})

    async def _start(
        self, status: int, content_type: str, headers: tuple[tuple[str, str], ...]
    ) -> None:
        own = (("request-id", self.exchange.id), ("content-type", content_type))
        every = own + headers + self.extra_headers
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in every]
        self.exchange.status = status
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})

    async def _write(self, data: bytes) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": True})


def _told_error(told: Directives) -> ApiError:
    status = told.error or 500
    kind = ERROR_TYPES[status]
    retry = (("retry-after", told.retry_after),) if told.retry_after is not None else ()
    return ApiError(status, told.message or f"a simulated {kind}", retry)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancels what still runs and waits until it is gone."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
