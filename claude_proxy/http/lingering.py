"""A close after which the client can still read what was written before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

# For a client to hear that it was seen off, and to stop sending.
LINGER = 1.0
# For one that has all its answer still to take; who takes none of it has gone.
TAKEN = 60.0


class Lingering(asyncio.Transport):
    """Around asyncio's. What is unread at a close would make it a reset, and no answer."""

    def __init__(self, transport: asyncio.Transport, awaits_more: Callable[[], bool]) -> None:
        super().__init__()
        self._transport = transport
        self._awaits_more = awaits_more
        self._closing = False
        self._end: asyncio.TimerHandle | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def pause_reading(self) -> None:
        if not self.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._closing:
            self._transport.write(data)

    def close(self) -> None:
        """At once when the client has nothing more to send, else as ``see_off``."""
        if self.is_closing():
            return
        if self._awaits_more():
            self.see_off()
            return
        self._end_within(TAKEN)
        self._transport.close()

    def see_off(self) -> None:
        """Reads on, whatever comes, until the client has closed; but not for long."""
        if self.is_closing():
            return
        self._end_within(LINGER)
        try:
            self._transport.write_eof()
        except OSError:  # it has gone
            self.abort()
        else:
            self._transport.resume_reading()

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def lost(self) -> None:
        """To be called when the connection is."""
        if self._end is not None:
            self._end.cancel()

    def _end_within(self, seconds: float) -> None:
        self._closing = True
        self._end = asyncio.get_running_loop().call_later(seconds, self._transport.abort)
