"""What the benchmarks measure a machine with, and how they print it."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lab import claude_path


def cpu_seconds(pid: int) -> float:
    """User and system time of a live process and all its threads, without its children.

    It is the sum that /proc/PID/stat shows as utime + stime, but by the kernel's own clock of that
    process: in nanoseconds, where stat counts ticks of 10 ms.
    """
    return time.clock_gettime(~pid << 3 | 2)  # CPUCLOCK_SCHED, see clock_getcpuclockid(3)


def children(pid: int) -> list[int]:
    """The live children of a process."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name in brackets may hold anything; state and parent follow it.
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(status.parent.name))
    return found


def memory(pid: int) -> dict[str, float]:
    """``Rss``, ``Pss`` and ``Uss`` of one process in MB (10**6 bytes)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    pairs = (line.split()[:2] for line in lines if line.endswith(" kB"))
    sizes = {name.rstrip(":"): int(size) * 1_024 / 1e6 for name, size in pairs}
    own = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return {"Rss": sizes["Rss"], "Pss": sizes["Pss"], "Uss": own}


def busy_share(seconds: float) -> float:
    """How much of the whole machine's processor time is used meanwhile, 0 to 1."""

    def read() -> tuple[int, int]:
        ticks = [int(tick) for tick in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return sum(ticks[:8]), ticks[3] + ticks[4]

    total, idle = read()
    time.sleep(seconds)
    new_total, new_idle = read()
    return 1 - (new_idle - idle) / max(1, new_total - total)


def settle(limit: float = 10.0) -> bool:
    """Waits until the machine is quiet; False when it is still busy after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if busy_share(0.2) < 0.1:
            return True
    return False


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, figures to the right."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    for row in (head, ["-" * width for width in widths], *rows):
        first, *rest = (
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join((first, *rest)))


def aim(what: str, figure: str, aimed: str, *, met: bool) -> None:
    print(f"{'met' if met else 'MISSED':7}{what}: {figure} (aim {aimed})")


def machine() -> None:
    """One line on what the figures below were measured with."""
    version = subprocess.run(
        (claude_path(), "--version"), capture_output=True, text=True, check=True
    ).stdout.strip()
    load = os.getloadavg()[0]
    python = sys.version.split()[0]
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {load:.2f}, "
        f"Python {python}, Claude Code {version}\n"
    )
