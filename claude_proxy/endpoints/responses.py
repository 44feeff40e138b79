"""The endpoints of the Responses API: answers, and those that were kept."""

from __future__ import annotations

from asyncio import CancelledError

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from claude_proxy import errors
from claude_proxy.dialect.body import decode_query
from claude_proxy.endpoints.turns import Turns
from claude_proxy.kept import Kept
from claude_proxy.openai.responses import request as wire
from claude_proxy.openai.responses.listing import Page, Replay, deleted, list_items
from claude_proxy.openai.responses.request import ENCRYPTED, Wanted
from claude_proxy.openai.responses.response import begin
from claude_proxy.openai.responses.stream import Keep, ResponseStream, replay, whole
from claude_proxy.store import Record
from claude_proxy.streaming import Outgoing, event_stream, json_response


def keeper(kept: Kept, wanted: Wanted) -> Keep:
    """Puts a response where it can be asked for again."""

    def keep(stream: ResponseStream) -> bool:
        response = stream.response
        record = Record(
            id=response.id,
            created=response.created_at,
            body=stream.body if response.store else b"",  # only the store asks for it
            history=[given.raw for given in wanted.history],
            asked=[given.raw for given in wanted.given.items],
            said=stream.kept(),
        )
        return kept.put(record, stored=response.store)

    return keep


class Responses:
    def __init__(self, turns: Turns, kept: Kept) -> None:
        self._turns = turns
        self._kept = kept

    async def create(self, request: Request) -> Response:
        admitted = await self._turns.admit(request, wire.PARAMS)
        asked = wire.decode(admitted.body)
        sampling = self._turns.sampling
        model = self._turns.model(admitted.exchange, asked.model, stream=bool(asked.stream))
        wanted = wire.resolve(asked, self._kept.item, self._kept.context)
        conversation = wire.to_conversation(wanted, model, sampling=sampling)
        ignored = wire.ignored(wanted, admitted.body, sampling=sampling)
        response = begin(asked, kept=asked.keeps and self._kept.stores)
        stream = ResponseStream(
            response,
            wanted.toolbox,
            keeper(self._kept, wanted),
            summarises=asked.summarises,
            seals=asked.seals,
        )

        async def write(outgoing: Outgoing) -> None:
            if not asked.stream:
                await outgoing.whole(lambda events: whole(events, stream))
                return
            try:
                await outgoing.stream(stream)
            except (CancelledError, ClientDisconnect):
                stream.cancel(outgoing.usage)
                raise

        return self._turns.answer(admitted, conversation, ignored, write)

    async def get(self, request: Request) -> Response:
        body = self._kept.get(id_of(request))
        if body is None:
            raise not_found(request)
        wanted = decode_query(request.query_params, Replay)
        if not wanted.stream:
            return json_response(body)
        return event_stream(replay(body, wanted.starting_after))

    async def delete(self, request: Request) -> Response:
        if not self._kept.delete(id_of(request)):
            raise not_found(request)
        return json_response(deleted(id_of(request)))

    async def input_items(self, request: Request) -> Response:
        page = decode_query(request.query_params, Page)
        items = self._kept.asked(id_of(request))
        if items is None:
            raise not_found(request)
        query = request.query_params
        include = [*query.getlist("include"), *query.getlist("include[]")]
        return json_response(list_items(id_of(request), items, page, seals=ENCRYPTED in include))

    async def cancel(self, request: Request) -> Response:
        if self._kept.get(id_of(request)) is None:
            raise not_found(request)
        raise errors.InvalidRequest("Cannot cancel a synchronous response.")


def id_of(request: Request) -> str:
    given = request.path_params["response_id"]
    assert isinstance(given, str)  # noqa: S101 - the route has it
    return given


def not_found(request: Request) -> errors.NotFound:
    return errors.NotFound(f"Response with id '{id_of(request)[:100]}' not found.")
