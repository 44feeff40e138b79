"""What is measured of requests and of the event loop, for ``metrics`` to show.

Plain numbers: the library that shows them is loaded when somebody asks, since it would add some
30 ms to a start for which a client waits.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from claude_proxy.http.exchange import Exchange

# Seconds. A turn of an agent may take many minutes.
DURATIONS = (0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800)
WAITS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS"})


class Distribution:
    """Values by the first of ``bounds`` that is not below them; the last count is of all above."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """As Prometheus has them: how many values are at most ``le``."""
        buckets: list[tuple[str, float]] = []
        so_far = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            so_far += count
            buckets.append((str(float(bound)).replace("inf", "+Inf"), so_far))
        return buckets


@dataclass(slots=True)
class Measures:
    """``requests``: by route, method, status and client. ``durations``: by route;
    ``first_tokens``: by where the turn's process came from.
    """

    requests: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    durations: dict[str, Distribution] = field(default_factory=dict)
    first_tokens: dict[str, Distribution] = field(default_factory=dict)
    waits: Distribution = field(default_factory=lambda: Distribution(WAITS))
    lags: Distribution = field(default_factory=lambda: Distribution(LAGS))

    def request_done(self, method: str, exchange: Exchange) -> None:
        """What a client makes up (a method) is counted under one name."""
        known = method if method in METHODS else "other"
        self.requests[exchange.route, known, str(exchange.status or 0), exchange.client_name] += 1
        seconds = exchange.milliseconds / 1_000
        self.durations.setdefault(exchange.route, Distribution(DURATIONS)).add(seconds)
        fields = exchange.fields
        if (ttft := fields.get("ttft_ms")) is not None:
            process = fields.get("process") or ""
            self.first_tokens.setdefault(process, Distribution(WAITS)).add(ttft / 1_000)
        if (wait := fields.get("queue_ms")) is not None:
            self.waits.add(wait / 1_000)
