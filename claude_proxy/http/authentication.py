"""Whose key a request has. Wrong ones, and none, are told late and seldom."""

from __future__ import annotations

import asyncio
import time

import structlog
from starlette.datastructures import Headers

from claude_proxy.clients import Client
from claude_proxy.current import Current
from claude_proxy.errors import InvalidApiKey

log = structlog.get_logger()

# Who mistypes a key hears it at once. Who goes on waits twice as long each time.
FREE_TRIES = 3
FIRST_DELAY = 0.25
LONGEST_DELAY = 2.0
# So many may wait at the same time; more would only fill the memory.
MOST_WAITING = 64
# Without a wrong key for that long, all is forgotten.
FORGOTTEN = 60.0


class Authentication:
    """The delay is no wall, which a key of some length does not need: it keeps a client that is
    set up wrongly from spinning, and the log from filling.
    """

    def __init__(self, current: Current) -> None:
        self._current = current
        self._wrong = 0
        self._waiting = 0
        self._last = float("-inf")

    async def client(self, headers: Headers) -> Client:
        """Takes ``Authorization: Bearer KEY`` or ``x-api-key: KEY``. Raises InvalidApiKey."""
        candidates = sent(headers)
        if not candidates:
            await self._slow_down()
            raise InvalidApiKey(
                "No API key was sent: expected `Authorization: Bearer KEY` or `x-api-key: KEY`. "
                "`claude-proxy key` prints the key."
            )
        for candidate in candidates:
            if client := self._current.clients.whose(candidate.encode("latin-1")):
                return client
        await self._slow_down()
        raise InvalidApiKey(
            "Incorrect API key provided: `claude-proxy key` prints the right one, unless this "
            "program was started with a key of its own."
        )

    @property
    def is_annoyed(self) -> bool:
        """Whether it has said in the log what is going on."""
        return self._wrong > FREE_TRIES

    async def _slow_down(self) -> None:
        now = time.monotonic()
        if now - self._last > FORGOTTEN:
            self._wrong = 0
        self._wrong, self._last = self._wrong + 1, now
        if self._wrong == FREE_TRIES + 1:
            log.warning(
                "authentication.wrong_keys",
                tries=self._wrong,
                note="is a client set up wrongly? further ones are answered late and not logged",
            )
        excess = self._wrong - FREE_TRIES
        if excess <= 0 or self._waiting >= MOST_WAITING:
            return
        self._waiting += 1
        try:
            await asyncio.sleep(min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(excess - 1, 10)))
        finally:
            self._waiting -= 1


def sent(headers: Headers) -> list[str]:
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    candidates = [bearer.strip()] if scheme.lower() == "bearer" else []
    return candidates + ([headers["x-api-key"].strip()] if "x-api-key" in headers else [])
