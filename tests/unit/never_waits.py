"""What must wait for nobody fails when it does, where it would hang the tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

LONGEST = 30.0


@contextmanager
def never_waiting() -> Iterator[None]:
    """Ends a blocked system call by a signal, after seconds."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waited for a reader"))
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
