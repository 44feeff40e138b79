"""What a request for an answer goes through in every dialect: admission, its body, its turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from claude_proxy.claude.pool import Pool
from claude_proxy.conversation import Conversation
from claude_proxy.current import Current
from claude_proxy.http.body import read_body
from claude_proxy.http.exchange import Exchange, exchange_of
from claude_proxy.money.allowance import Allowance, admit
from claude_proxy.streaming import Answering, Outgoing


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request whose client may have an answer now; ``may_begin`` says it once more, later."""

    exchange: Exchange
    body: bytes
    may_begin: Callable[[], None]


class Turns:
    def __init__(self, current: Current, pool: Pool, allowance: Allowance) -> None:
        self.pool = pool
        self._current = current
        self._allowance = allowance

    @property
    def sampling(self) -> bool:
        """Whether what clients say of it is forwarded."""
        return self._current.settings.forward_sampling

    async def admit(self, request: Request, params: Mapping[str, str]) -> Admitted:
        """``params``: as the dialect names them. Raises ProxyError."""
        exchange = exchange_of(request)
        exchange.params = params
        may_begin = admit(exchange, self._allowance)
        return Admitted(exchange, await self.body(request), may_begin)

    async def body(self, request: Request) -> bytes:
        """Raises ProxyError."""
        return await read_body(request, self._current.settings.max_body_size)

    def model(self, exchange: Exchange, name: str | None, **fields: object) -> str:
        """The one that is meant, which is logged with ``fields``. Raises ModelNotFound."""
        model = self.pool.models.resolve(name or "")
        exchange.fields |= {"model": model, **fields}
        return model

    def answer(
        self,
        admitted: Admitted,
        conversation: Conversation,
        ignored: Sequence[str],
        write: Callable[[Outgoing], Awaitable[None]],
    ) -> Response:
        """``ignored``: what the client has set and what has no effect. Raises InvalidRequest."""
        exchange = admitted.exchange
        turn = self.pool.turn(conversation, exchange.client_name, admitted.may_begin)
        return Answering(lambda send: Outgoing(self.pool, turn, exchange, send, ignored), write)
