"""The last requests, as the log has them: who asked what for, how it went. Never any content."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime

import msgspec

from claude_proxy.http.exchange import METHODS, Exchange

MOST = 50
# Asked for again and again by machines, and of no interest to a person.
UNTOLD = frozenset({"/metrics"})


class Done(msgspec.Struct):
    """One request that is over. ``at``: when it came. ``status`` 0: nobody was left to answer;
    ``error`` is a code of ours;
    ``client_gone``: it left before the end.
    """

    at: str
    request_id: str
    client: str
    method: str
    route: str
    status: int
    duration_ms: float
    model: str | None = None
    ttft_ms: float | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    finish_reason: str | None = None
    error: str | None = None
    client_gone: bool = False


# Of what else is known of a request.
FIELDS = frozenset(Done.__struct_fields__[Done.__struct_fields__.index("model") :])


class Recent:
    """At most ``MOST``, the newest first."""

    def __init__(self) -> None:
        self._done: deque[Done] = deque(maxlen=MOST)

    def __call__(self) -> list[Done]:
        return list(self._done)

    def add(self, method: str, exchange: Exchange) -> None:
        if exchange.quiet or exchange.route in UNTOLD:
            return
        duration = exchange.milliseconds
        came = datetime.fromtimestamp(time.time() - duration / 1_000, UTC)
        known = {name: exchange.fields[name] for name in FIELDS & exchange.fields.keys()}
        self._done.appendleft(
            Done(
                at=came.isoformat(timespec="milliseconds"),
                request_id=exchange.request_id,
                client=exchange.client_name,
                method=method if method in METHODS else "other",
                route=exchange.route,
                status=exchange.status or 0,
                duration_ms=duration,
                **known,
            )
        )
