"""File descriptors: how many there are, and what happens when there are none left."""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress
from typing import Any

from claude_proxy.repetition import Repetition
from claude_proxy.settings import Settings

# More are of no use, and a program that walks through all that there may be takes its time.
MOST_DESCRIPTORS = 65_536
# Pipes, their watcher and what a start needs for a moment.
PER_PROCESS = 8
# How many connections asyncio takes in a row, before any of them can be refused.
ACCEPTED_IN_A_ROW = 128
# Sockets, files, the log.
RESERVE = 64 + ACCEPTED_IN_A_ROW
MOST_CONNECTIONS = 2_000
LEAST_CONNECTIONS = 16

ACCEPT_FAILED = "socket.accept() out of system resource"


def raise_limit() -> None:
    """As far as the hard limit lets it; the CLI inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # it goes with fewer as well
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def for_connections(settings: Settings) -> int:
    """How many clients may be connected, so that the CLI's processes can still be started."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    processes = settings.max_concurrency + settings.max_sessions + settings.spares
    left = limit - processes * PER_PROCESS - RESERVE
    return max(LEAST_CONNECTIONS, min(MOST_CONNECTIONS, left))


class LoopErrors:
    """The event loop's exception handler: asyncio's own, but for what that says 128 times a
    second when it is out of descriptors.
    """

    def __init__(self) -> None:
        self._not_accepted = Repetition("connections.not_accepted")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") == ACCEPT_FAILED:
            self._not_accepted.happened(str(context.get("exception")))
        else:
            loop.default_exception_handler(context)
