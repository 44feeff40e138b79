"""Who may run now, who waits, and who is sent away: slots with a bounded queue, fair to clients."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

from claude_proxy.errors import RETRY_SOON, Overloaded, ProxyError, RateLimited

Waiter: TypeAlias = asyncio.Future[None]


class Queue:
    """First come first served for each client; among clients, whoever runs least is next."""

    def __init__(self) -> None:
        # In the order in which they were served.
        self._lines: dict[str, deque[Waiter]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def add(self, client: str, waiter: Waiter) -> None:
        self._lines.setdefault(client, deque()).append(waiter)

    def remove(self, client: str, waiter: Waiter) -> None:
        if waiter in self._lines.get(client, ()):
            self._lines[client].remove(waiter)
            self._tidy(client)

    def next(self, running: Mapping[str, int]) -> tuple[str, Waiter]:
        client = min(self._lines, key=lambda each: running[each])
        line = self._lines.pop(client)
        waiter = line.popleft()
        if line:
            self._lines[client] = line
        return client, waiter

    def last_of_the_longest(self, client: str) -> Waiter | None:
        """Of a client that has more in the queue than ``client`` would have with one more."""
        longest = max(self._lines, key=lambda each: len(self._lines[each]), default=client)
        if len(self._lines.get(longest, ())) <= len(self._lines.get(client, ())) + 1:
            return None
        waiter = self._lines[longest].pop()
        self._tidy(longest)
        return waiter

    def _tidy(self, client: str) -> None:
        if not self._lines[client]:
            del self._lines[client]


class Admission:
    """``limit`` holders at a time, at most ``queue`` waiting."""

    def __init__(self, limit: int, queue: int, wait: float) -> None:
        self._taken: Counter[str] = Counter()
        self._waiting = Queue()
        self.running = 0
        self.configure(limit, queue, wait)

    def configure(self, limit: int, queue: int, wait: float) -> None:
        """``wait`` in seconds. Holders above a lower limit go on; who waits already, waits on."""
        self._limit = limit
        self._queue = queue
        self._wait = wait
        self._hand_out()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return self._taken.total() >= self._limit and len(self._waiting) >= self._queue

    @asynccontextmanager
    async def slot(self, client: str = "") -> AsyncGenerator[None, None]:
        """Raises RateLimited when the queue is full, Overloaded when the wait was too long."""
        await self._acquire(client)
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._release(client)

    def fail_waiting(self, error: ProxyError) -> None:
        """Sends everybody in the queue away."""
        while self._waiting:
            _, waiter = self._waiting.next(self._taken)
            if not waiter.done():
                waiter.set_exception(error)

    async def _acquire(self, client: str) -> None:
        if self._taken.total() < self._limit:
            self._taken[client] += 1
            return
        self._make_room(client)
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(client, waiter)
        try:
            async with asyncio.timeout(self._wait):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._release(client)  # the slot came in the same moment
            else:
                self._waiting.remove(client, waiter)
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    f"No turn became free within {self._wait:g} seconds (--queue-timeout); "
                    "try again, or let more run at once with --max-concurrency",
                    retry_after=RETRY_SOON,
                ) from None
            raise

    def _make_room(self, client: str) -> None:
        """A client that fills the queue keeps no other one out. Raises RateLimited."""
        if len(self._waiting) < self._queue:
            return
        full = RateLimited(
            "Too many requests at the same time: all turns are running and the queue is full. "
            "Try again, or raise --max-concurrency or --queue",
            retry_after=RETRY_SOON,
        )
        surplus = self._waiting.last_of_the_longest(client) if self._queue else None
        if surplus is None:
            raise full
        if not surplus.done():
            surplus.set_exception(full)

    def _release(self, client: str) -> None:
        self._taken -= Counter({client: 1})
        self._hand_out()

    def _hand_out(self) -> None:
        """Free slots go to those who still wait."""
        while self._waiting and self._taken.total() < self._limit:
            client, waiter = self._waiting.next(self._taken)
            if not waiter.done():
                waiter.set_result(None)
                self._taken[client] += 1
