"""The endpoint of the older API of completions."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from claude_proxy.conversation import fold
from claude_proxy.endpoints.turns import Turns
from claude_proxy.openai.completions import completion
from claude_proxy.openai.completions import request as wire
from claude_proxy.openai.options import includes_usage
from claude_proxy.streaming import Outgoing


class Completions:
    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def create(self, request: Request) -> Response:
        admitted = await self._turns.admit(request, wire.PARAMS)
        wanted = wire.decode(admitted.body)
        sampling = self._turns.sampling
        model = self._turns.model(admitted.exchange, wanted.model, stream=bool(wanted.stream))
        conversation = wire.to_conversation(wanted, model, sampling=sampling)
        ignored = wire.ignored(admitted.body, sampling=sampling)
        echo = wire.echoed(wanted)

        async def write(outgoing: Outgoing) -> None:
            if wanted.stream:
                include_usage = includes_usage(wanted.stream_options)
                await outgoing.stream(completion.TextStream(include_usage=include_usage, echo=echo))
            else:
                await outgoing.whole(
                    lambda events: completion.to_completion(fold(events), echo=echo)
                )

        return self._turns.answer(admitted, conversation, ignored, write)
