"""Started processes without a conversation, kept waiting for the next new one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress

from claude_proxy.claude.installation import Installation
from claude_proxy.claude.session import Session

# Above what a start takes on a slow machine; one that takes longer may never come.
PATIENCE = 5.0


class Arrival:
    """Of a process that starts: somebody has claimed it, it has come or has failed."""

    def __init__(self) -> None:
        self.claimed = asyncio.Event()
        self.over = asyncio.Event()

    async def is_claimed(self, seconds: float) -> bool:
        """Within that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.claimed.wait()
        return self.claimed.is_set()


class Spares:
    """As many as ``wanted``, none older than ``max_age`` seconds or than the CLI's file."""

    def __init__(self, installation: Installation, wanted: int, max_age: float) -> None:
        self._installation = installation
        self._waiting: list[Session] = []
        self._arrival: Arrival | None = None
        # Set by the first of all: its process has been started, or could not be; it is over.
        self.begun = asyncio.Event()
        self._settled = asyncio.Event()
        self.configure(wanted, max_age)

    def configure(self, wanted: int, max_age: float) -> None:
        self._wanted = wanted
        self._max_age = max_age

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def missing(self) -> bool:
        return len(self._waiting) < self._wanted

    async def underway(self) -> None:
        """Returns when the first one's process has been started, or could not be."""
        if self.missing:
            await self.begun.wait()

    async def warm(self) -> None:
        """Returns when the first one waits for a conversation, or could not be had."""
        if self.missing:
            await self._settled.wait()

    def add(self, session: Session) -> None:
        self._waiting.append(session)

    @contextmanager
    def arriving(self) -> Generator[Arrival, None, None]:
        """While one starts, which the block adds unless it fails."""
        arrival = self._arrival = Arrival()
        try:
            yield arrival
        finally:
            self._arrival = None
            arrival.over.set()
            self._settled.set()

    async def take_soon(self) -> Session | None:
        """Like ``take``, but of those who find none, the first waits for the one that starts.

        Two processes that start at once delay each other by more than this one is behind.
        """
        session = self.take()
        arrival = self._arrival
        if session is None and arrival is not None and not arrival.claimed.is_set():
            arrival.claimed.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await arrival.over.wait()
            session = self.take()
        return session

    def take(self) -> Session | None:
        """The oldest good one; it is the taker's now. ``useless`` has the others."""
        for session in self._waiting:
            if self._usable(session):
                self._waiting.remove(session)
                return session
        return None

    def useless(self) -> list[Session]:
        """Removes and returns those that no turn can use, and those that nobody wants any more."""
        good = [session for session in self._waiting if self._usable(session)][: self._wanted]
        useless = [session for session in self._waiting if session not in good]
        self._waiting = good
        return useless

    def clear(self) -> list[Session]:
        cleared, self._waiting = self._waiting, []
        return cleared

    def _usable(self, session: Session) -> bool:
        young = time.monotonic() - session.started < self._max_age
        return session.alive and young and self._installation.started(session)
