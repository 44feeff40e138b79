"""A line of the log that would come too often."""

from __future__ import annotations

import asyncio

import structlog

log = structlog.get_logger()

INTERVAL = 60.0


class Repetition:
    """Told at once, then once a minute, with how many ``times`` it has happened."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._reason = ""
        self._times = 0
        self._quiet: asyncio.TimerHandle | None = None

    def happened(self, reason: str) -> None:
        self._reason = reason
        self._times += 1
        if self._quiet is None:
            self._tell()

    def _tell(self) -> None:
        self._quiet = None
        if self._times:
            log.error(self._event, reason=self._reason, times=self._times)
            self._times = 0
            self._quiet = asyncio.get_running_loop().call_later(INTERVAL, self._tell)
