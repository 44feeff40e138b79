"""The endpoints of the models, in the dialect of whoever asks."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from claude_proxy.anthropic import models as anthropic
from claude_proxy.claude.pool import Pool
from claude_proxy.dialect.body import decode_query
from claude_proxy.http.exchange import exchange_of
from claude_proxy.openai import models as openai
from claude_proxy.streaming import json_response


class Models:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(self, request: Request) -> Response:
        known = await self._pool.fresh_models()
        if exchange_of(request).is_anthropics:
            page = decode_query(request.query_params, anthropic.Page)
            return json_response(anthropic.to_list(known.described(), page))
        return json_response(openai.to_list(known.ids()))

    async def get(self, request: Request) -> Response:
        known = await self._pool.fresh_models()
        name = known.resolve(request.path_params["model"])
        if exchange_of(request).is_anthropics:
            return json_response(anthropic.to_model(known.describe(name)))
        return json_response(openai.to_model(name))
