"""The endpoints for whoever looks after the program: does it live, what does it do and cost."""

from __future__ import annotations

import time

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from claude_proxy import __version__
from claude_proxy.claude.pool import Pool
from claude_proxy.current import Current
from claude_proxy.measures import Measures
from claude_proxy.money import usage
from claude_proxy.money.allowance import Allowance
from claude_proxy.readiness import why_not_ready
from claude_proxy.streaming import json_response


class Health(msgspec.Struct):
    """``logged_in`` is null when Claude Code did not say."""

    status: str
    version: str
    claude_version: str
    logged_in: bool | None
    login: str | None
    simulated: bool
    sessions: dict[str, int]
    queue: int


class Readiness(msgspec.Struct):
    """``reasons`` say why it is not ready."""

    ready: bool
    reasons: list[str]


class Operations:
    def __init__(
        self,
        current: Current,
        pool: Pool,
        allowance: Allowance,
        measures: Measures,
    ) -> None:
        self._current = current
        self._pool = pool
        self._allowance = allowance
        self._measures = measures

    async def health(self, request: Request) -> Response:
        if "application/json" not in request.headers.get("accept", ""):
            return PlainTextResponse("ok")
        login = await self._pool.installation.login()
        stats = self._pool.stats
        health = Health(
            status="ok",
            version=__version__,
            claude_version=self._pool.installation.cli.version,
            logged_in=login.logged_in,
            login=login.plan or login.method,
            simulated=self._current.settings.demo,
            sessions={
                "running": stats.running,
                "living": stats.living,
                "spare": stats.spares,
            },
            queue=stats.queued,
        )
        return json_response(msgspec.json.encode(health))

    async def ready(self, _: Request) -> Response:
        """Whether a request that came now could be answered. Starts nothing, asks nobody."""
        wrong = why_not_ready(self._current, self._pool, self._allowance)
        body = msgspec.json.encode(Readiness(not wrong, wrong))
        return json_response(body, status=503 if wrong else 200)

    async def metrics(self, request: Request) -> Response:
        from claude_proxy.metrics import Metrics  # noqa: PLC0415 - see there

        metrics = Metrics(self._measures, self._pool, self._allowance)
        body, media_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(body, media_type=media_type)

    async def usage(self, _: Request) -> Response:
        spent, states = usage.month(self._allowance.spending), self._allowance.states()
        report = usage.report(spent, states, self._pool.plan, time.time())
        return json_response(msgspec.json.encode(report))
