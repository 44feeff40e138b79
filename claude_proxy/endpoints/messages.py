"""The endpoints of Anthropic's Messages API."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from claude_proxy.anthropic import request as wire
from claude_proxy.anthropic.stream import MessageStream, whole
from claude_proxy.conversation import Conversation
from claude_proxy.endpoints.turns import Turns
from claude_proxy.http.exchange import Exchange, exchange_of
from claude_proxy.streaming import Outgoing, json_response, unless_gone


class TokenCount(msgspec.Struct):
    input_tokens: int


class Messages:
    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def create(self, request: Request) -> Response:
        admitted = await self._turns.admit(request, wire.PARAMS)
        exchange = admitted.exchange
        asked = wire.decode(admitted.body, request.headers.get("anthropic-beta", ""))
        exchange.fields["stream"] = bool(asked.stream)
        conversation = await self._conversation(exchange, asked, admitted.body)
        ignored = wire.ignored(admitted.body, sampling=self._turns.sampling)

        async def write(outgoing: Outgoing) -> None:
            if asked.stream:
                await outgoing.stream(MessageStream(exchange.request_id))
            else:
                await outgoing.whole(whole)

        return self._turns.answer(admitted, conversation, ignored, write)

    async def count_tokens(self, request: Request) -> Response:
        """Costs nothing, but a process its start."""
        exchange = exchange_of(request)
        exchange.params = wire.PARAMS
        body = await self._turns.body(request)
        asked = wire.decode_count(body, request.headers.get("anthropic-beta", ""))
        conversation = await self._conversation(exchange, asked, body)
        work = self._turns.pool.count(conversation, exchange.client_name)
        tokens = await unless_gone(request, work)
        return json_response(msgspec.json.encode(TokenCount(tokens)))

    async def _conversation(
        self, exchange: Exchange, asked: wire.CountRequest, body: bytes
    ) -> Conversation:
        model = self._turns.model(exchange, asked.model)
        known = self._turns.pool.models
        if wire.has_thoughts(body) and known.exact(model) is None:
            known = await self._turns.pool.fresh_models()
        exact = known.exact(model) or model
        return wire.to_conversation(asked, model, exact, sampling=self._turns.sampling)
