"""How many requests a minute each client may make."""

from __future__ import annotations

import time
from dataclasses import dataclass

MINUTE = 60.0


@dataclass(slots=True)
class Bucket:
    """Fills up evenly, to ``limit`` requests in a minute; ``left`` was so at ``at``."""

    left: float
    at: float


@dataclass(frozen=True, slots=True)
class Left:
    """``reset``: seconds until all of ``limit`` are there again; ``wait``: until there is one."""

    limit: int
    remaining: int
    reset: float
    wait: float

    @property
    def is_allowed(self) -> bool:
        return self.wait == 0


class Rates:
    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}

    def take(self, client: str, limit: int, now: float | None = None) -> Left:
        """One request of that client, where there is one left. A changed limit holds at once."""
        now = time.monotonic() if now is None else now
        bucket = self._buckets.setdefault(client, Bucket(limit, now))
        per_second = limit / MINUTE
        bucket.left = min(limit, bucket.left + (now - bucket.at) * per_second)
        bucket.at = now
        wait = max(0.0, (1 - bucket.left) / per_second)
        if wait == 0:
            bucket.left -= 1
        return Left(limit, int(bucket.left), (limit - bucket.left) / per_second, wait)
