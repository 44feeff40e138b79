"""What there is of a daemon at one moment: memory, descriptors, processes, files."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import figures
import lab
import wire
from lab import Daemon

QUIET_LIMIT = 20.0  # seconds


@dataclass(frozen=True, slots=True)
class Census:
    """Sizes in MB. ``memory`` is the daemon's alone, ``below`` the PSS of all its processes."""

    memory: dict[str, float]
    below: float
    descriptors: int
    processes: frozenset[int]
    zombies: frozenset[int]


def take(pid: int) -> Census:
    running = figures.children(pid)
    return Census(
        figures.memory(pid),
        sum(map(pss, running)),
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        frozenset(running),
        frozenset(zombies(pid)),
    )


@dataclass(frozen=True, slots=True)
class Quiet:
    """``places``: how many processes the daemon says that it keeps; None, it came to no rest."""

    census: Census
    places: int | None


async def quiet(daemon: Daemon) -> Quiet:
    """When nothing runs any more, and there are as many processes as the daemon says."""
    deadline = time.monotonic() + QUIET_LIMIT
    while True:
        answer = await wire.ask(daemon.port, "GET", "/health", key=lab.KEY)
        there = take(daemon.pid)
        sessions = answer.json["sessions"]
        places = sessions["living"] + sessions["spare"]
        if not sessions["running"] and sessions["spare"] and len(there.processes) == places:
            return Quiet(there, places)
        if time.monotonic() > deadline:
            return Quiet(there, None)
        await asyncio.sleep(0.1)


def pss(pid: int) -> float:
    """0 for one that has just ended."""
    with suppress(OSError, KeyError):
        return figures.memory(pid)["Pss"]
    return 0.0


def zombies(pid: int) -> Iterator[int]:
    """Children that have ended and that nobody has waited for."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state == "Z":
                yield int(status.parent.name)


def files_below(directory: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(directory))


def megabytes(path: Path) -> float:
    """0 for a file that is not there."""
    with suppress(FileNotFoundError):
        return path.stat().st_size / 1e6
    return 0.0
