"""Whole records to a descriptor that others hold too (stderr), without ever waiting for its reader.

``O_NONBLOCK`` belongs to the open file description, so to every process that shares it. Instead:

=================  =================================================================
pipe, terminal     opened once more through /proc/self/fd, that one with O_NONBLOCK
socket             duplicated, ``send`` with MSG_DONTWAIT
all else, or when  ``poll`` before each write of no more than what then fits; a file is
that is refused    always ready
=================  =================================================================

What does not go out waits, at most ``capacity`` bytes; then records are dropped, and from the first
that is dropped all are until the waiting ones are out: so one line can tell how many, in its place.
"""

from __future__ import annotations

import math
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable

CAPACITY = 1 << 20
# poll calls a terminal ready with fewer than 256 characters waiting, and there is room for more.
TERMINAL_CHUNK = 256


def ready(descriptor: int, seconds: float) -> bool:
    """Waits at most so long until a write would do something, be it fail."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(math.ceil(seconds * 1_000)))


class Borrowed:
    """A descriptor as it is. ``write`` raises BlockingIOError when nothing can be taken now."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._chunk = TERMINAL_CHUNK if os.isatty(descriptor) else select.PIPE_BUF

    def write(self, data: memoryview) -> int:
        if not ready(self.descriptor, 0):
            raise BlockingIOError
        return os.write(self.descriptor, data[: self._chunk])

    def close(self) -> None:
        """It is others' to close."""


class Reopened:
    """A pipe or terminal under a second open file description. Raises OSError when refused.

    Refused is another user's pipe or terminal (after ``su``), and all where there is no /proc.
    """

    def __init__(self, descriptor: int) -> None:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
        self.descriptor = os.open(f"/proc/self/fd/{descriptor}", flags)

    def write(self, data: memoryview) -> int:
        return os.write(self.descriptor, data)

    def close(self) -> None:
        os.close(self.descriptor)


class Duplicated:
    """A socket under a second number. Raises OSError without a number left."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = os.dup(descriptor)
        self._socket = socket.socket(fileno=self.descriptor)

    def write(self, data: memoryview) -> int:
        return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def close(self) -> None:
        self._socket.close()


Lane = Borrowed | Reopened | Duplicated


def lane_to(descriptor: int) -> Lane:
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            return Duplicated(descriptor)
        if stat.S_ISFIFO(mode) or os.isatty(descriptor):
            return Reopened(descriptor)
    except OSError:
        pass
    return Borrowed(descriptor)


class Outlet:
    """``lost`` makes the line that tells how many records were dropped. Not thread-safe.

    No method raises OSError. A lone record may be longer than ``capacity``.
    """

    def __init__(self, lane: Lane, lost: Callable[[int], bytes], capacity: int = CAPACITY) -> None:
        self._lane: Lane | None = lane
        self._note = lost
        self._capacity = capacity
        # Lines, and how many records each one stands for.
        self._queue: deque[tuple[bytes, int]] = deque()
        self._bytes = 0
        self._written = 0
        self._lost = 0
        self._pushing = False
        self._patient = True

    def write(self, record: bytes) -> None:
        """The record's line end is part of it."""
        if self._lane is None:
            return
        self._settle()
        if self._lost or (self._queue and self._bytes + len(record) > self._capacity):
            self._lost += 1
            return
        self._add(record, 1)
        self._push()

    def flush(self, timeout: float) -> bool:
        """Whether all is out. After ``timeout`` seconds in vain, later calls do not wait."""
        deadline = time.monotonic() + (timeout if self._patient else 0)
        while self._settle() and self._lane is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                self._patient = self._patient and timeout <= 0
                return False
            ready(self._lane.descriptor, left)
        self._patient = True
        return not (self._queue or self._lost)

    def close(self) -> None:
        """What is not out is gone, as is all that is written later."""
        if self._lane is not None:
            self._lane.close()
            self._lane = None

    def _add(self, line: bytes, records: int) -> None:
        self._queue.append((line, records))
        self._bytes += len(line)

    def _settle(self) -> bool:
        """Whether what is left could go out later."""
        return self._push() or self._tell()

    def _tell(self) -> bool:
        if not self._lost or self._queue:
            return False
        lost, self._lost = self._lost, 0
        self._add(self._note(lost), lost)
        return self._push()

    def _push(self) -> bool:
        # A destructor that the collector runs in mid-write may log: its record is queued,
        # and the loop that it interrupted takes it.
        if self._pushing or self._lane is None:
            return False
        self._pushing = True
        try:
            while self._queue:
                self._advance(self._lane)
        except BlockingIOError:
            return True
        except OSError:
            self._drop()
        finally:
            self._pushing = False
        return False

    def _advance(self, lane: Lane) -> None:
        line, _ = self._queue[0]
        written = lane.write(memoryview(line)[self._written :])
        if not written:
            raise BlockingIOError
        self._written += written
        if self._written == len(line):
            self._queue.popleft()
            self._bytes -= len(line)
            self._written = 0

    def _drop(self) -> None:
        """The rest of a begun line stays: the reader of a disk that was full gets whole ones."""
        kept = [self._queue.popleft()] if self._written else []
        self._lost += sum(records for _, records in self._queue)
        self._queue = deque(kept)
        self._bytes = sum(len(line) for line, _ in kept)
