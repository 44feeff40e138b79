"""Who may run now, who waits, and who is sent away: slots with a bounded, fair queue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from claude_proxy.errors import RETRY_SOON, Overloaded, ProxyError, RateLimited


class Admission:
    """``limit`` holders at a time, at most ``queue`` waiting, first come first served."""

    def __init__(self, limit: int, queue: int, wait: float) -> None:
        self._taken = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
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
        return len(self._waiters)

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None, None]:
        """Raises RateLimited when the queue is full, Overloaded when the wait was too long."""
        await self._acquire()
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._release()

    def fail_waiting(self, error: ProxyError) -> None:
        """Sends everybody in the queue away."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    async def _acquire(self) -> None:
        if self._taken < self._limit:
            self._taken += 1
            return
        if len(self._waiters) >= self._queue:
            raise RateLimited(
                "Too many requests at the same time: all turns are running and the queue is full",
                retry_after=RETRY_SOON,
            )
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self._wait):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._release()  # the slot came in the same moment
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    f"No turn became free within {self._wait:g} seconds", retry_after=RETRY_SOON
                ) from None
            raise

    def _release(self) -> None:
        self._taken -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        """Free slots go to those who have waited longest and still do."""
        while self._waiters and self._taken < self._limit:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._taken += 1
