"""A small file as a whole: what the user names may also be a pipe, a device, or endless."""

from __future__ import annotations

import errno
import os
import select
import time
from pathlib import Path

LIMIT = 1 << 20
# For a pipe, as `<(pass show key)` is one, whose writer may take a moment.
PATIENCE = 2.0


def read(path: Path, limit: int = LIMIT) -> bytes:
    """Raises OSError, also where there is more than ``limit`` bytes, nobody writes into a pipe
    within PATIENCE seconds, or the path is none at all.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except ValueError:  # a NUL in it
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
    try:
        return whole(descriptor, limit)
    finally:
        os.close(descriptor)


def whole(descriptor: int, limit: int) -> bytes:
    deadline = time.monotonic() + PATIENCE
    poll = select.poll()  # select(2) knows no descriptor beyond 1023
    poll.register(descriptor, select.POLLIN)
    data = b""
    while len(data) <= limit:
        left = max(0.0, deadline - time.monotonic())
        if not poll.poll(left * 1_000):
            raise OSError(errno.ETIMEDOUT, "nobody writes into it")
        try:
            part = os.read(descriptor, limit + 1 - len(data))
        except BlockingIOError:
            continue
        if not part:
            return data
        data += part
    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
