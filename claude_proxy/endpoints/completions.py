"""The endpoint of the older API of completions."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from claude_proxy.claude.pool import Pool
from claude_proxy.conversation import fold
from claude_proxy.current import Current
from claude_proxy.http.body import read_body
from claude_proxy.http.exchange import exchange_of
from claude_proxy.money.allowance import Allowance, admit
from claude_proxy.openai.completions import completion
from claude_proxy.openai.completions import request as wire
from claude_proxy.streaming import Answering, Outgoing


class Completions:
    def __init__(self, current: Current, pool: Pool, allowance: Allowance) -> None:
        self._current = current
        self._pool = pool
        self._allowance = allowance

    async def create(self, request: Request) -> Response:
        exchange = exchange_of(request)
        exchange.params = wire.PARAMS
        may_begin = admit(exchange, self._allowance)
        body = await read_body(request, self._current.settings.max_body_size)
        wanted = wire.decode(body)
        sampling = self._current.settings.forward_sampling
        model = self._pool.models.resolve(wanted.model or "")
        exchange.fields |= {"model": model, "stream": bool(wanted.stream)}
        conversation = wire.to_conversation(wanted, model, sampling=sampling)
        turn = self._pool.turn(conversation, exchange.client_name, may_begin)
        ignored = wire.ignored(body, sampling=sampling)
        echo = wire.echoed(wanted)

        async def write(outgoing: Outgoing) -> None:
            if wanted.stream:
                options = wanted.stream_options
                include_usage = bool(options and options.include_usage)
                await outgoing.stream(completion.TextStream(include_usage=include_usage, echo=echo))
            else:
                await outgoing.whole(
                    lambda events: completion.to_completion(fold(events), echo=echo)
                )

        return Answering(lambda send: Outgoing(self._pool, turn, exchange, send, ignored), write)
