"""On the daemon's PYTHONPATH: a clock that a test can set, and a look at the daemon's tasks.

``LAB_CLOCK``: a file with the seconds by which the wall clock is off, read at each look at it.
SIGUSR1: the names of the tasks that live, as a line of the log.
"""

import json
import os
import signal
import sys
import time

true_time = time.time


def off() -> float:
    try:
        with open(os.environ["LAB_CLOCK"]) as file:  # noqa: PTH123 - pathlib is slow to import
            return float(file.read() or 0)
    except (KeyError, OSError):
        return 0.0


def shifted() -> float:
    """``date.today`` goes by it too."""
    return true_time() + off()


def tell_tasks(*_: object) -> None:
    import asyncio

    try:
        names = sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks())
    except RuntimeError:  # there is no loop
        names = []
    os.write(2, (json.dumps({"event": "lab.tasks", "names": names}) + "\n").encode())


if "claude_proxy" in sys.orig_argv:
    time.time = shifted
    signal.signal(signal.SIGUSR1, tell_tasks)
