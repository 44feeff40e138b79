"""The endpoints of Anthropic's Messages API."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from claude_proxy.anthropic import request as wire
from claude_proxy.anthropic.stream import MessageStream, whole
from claude_proxy.claude.pool import Pool
from claude_proxy.conversation import Conversation
from claude_proxy.current import Current
from claude_proxy.http.body import read_body
from claude_proxy.http.exchange import exchange_of
from claude_proxy.money.allowance import Allowance, admit
from claude_proxy.streaming import Answering, Outgoing, json_response, unless_gone


class TokenCount(msgspec.Struct):
    input_tokens: int


class Messages:
    def __init__(self, current: Current, pool: Pool, allowance: Allowance) -> None:
        self._current = current
        self._pool = pool
        self._allowance = allowance

    async def create(self, request: Request) -> Response:
        exchange = exchange_of(request)
        exchange.params = wire.PARAMS
        may_begin = admit(exchange, self._allowance)
        body = await read_body(request, self._current.settings.max_body_size)
        asked = wire.decode(body, request.headers.get("anthropic-beta", ""))
        exchange.fields["stream"] = bool(asked.stream)
        conversation = await self._conversation(request, asked, body)
        turn = self._pool.turn(conversation, exchange.client_name, may_begin)
        ignored = wire.ignored(body, sampling=self._current.settings.forward_sampling)

        async def write(outgoing: Outgoing) -> None:
            if asked.stream:
                await outgoing.stream(MessageStream(exchange.request_id))
            else:
                await outgoing.whole(whole)

        return Answering(lambda send: Outgoing(self._pool, turn, exchange, send, ignored), write)

    async def count_tokens(self, request: Request) -> Response:
        """Costs nothing, but a process its start."""
        exchange = exchange_of(request)
        exchange.params = wire.PARAMS
        body = await read_body(request, self._current.settings.max_body_size)
        asked = wire.decode_count(body, request.headers.get("anthropic-beta", ""))
        conversation = await self._conversation(request, asked, body)
        work = self._pool.count(conversation, exchange.client_name)
        tokens = await unless_gone(request, work)
        return json_response(msgspec.json.encode(TokenCount(tokens)))

    async def _conversation(
        self, request: Request, asked: wire.CountRequest, body: bytes
    ) -> Conversation:
        model = self._pool.models.resolve(asked.model)
        exchange_of(request).fields["model"] = model
        known = self._pool.models
        if wire.has_thoughts(body) and known.exact(model) is None:
            known = await self._pool.fresh_models()
        sampling = self._current.settings.forward_sampling
        return wire.to_conversation(asked, model, known.exact(model) or model, sampling=sampling)
