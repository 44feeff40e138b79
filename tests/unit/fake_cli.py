"""The CLI's stand-in (tests/fakes/claude) as the parts under test get it, and their event loop."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from claude_proxy.claude.cli import Cli, child_environment
from claude_proxy.claude.installation import Installation
from claude_proxy.claude.pool import Pool
from claude_proxy.conversation import Conversation, Event, Message, Text
from claude_proxy.daemon import watch_children_without_threads

FAKE = Path(__file__).parents[1] / "fakes" / "claude"
VERSION = "2.1.330"
LONGEST = 40.0

Result = TypeVar("Result")


def run(work: Callable[[], Awaitable[Result]]) -> Result:
    """In an event loop like the daemon's; whatever hangs fails."""

    async def main() -> Result:
        watch_children_without_threads()
        async with asyncio.timeout(LONGEST):
            return await work()

    return asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    """For what tells nobody: the kernel, and the inside of a library."""
    async with asyncio.timeout(LONGEST / 2):
        while not condition():
            await asyncio.sleep(0.002)


def script(path: Path, *lines: str) -> Path:
    """An executable of the shell's."""
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def running(*words: str) -> dict[int, str]:
    """Processes whose command line has one of these in it, and that line; a zombie has none."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has ended
            continue
        if any(word in line for word in words):
            found[int(process.name)] = line
    return found


def installation(place: Path, path: Path = FAKE, **environ: str) -> Installation:
    """Its processes run below ``place``."""
    environment = child_environment({"PATH": os.environ["PATH"], **environ}, retries=2)
    return Installation(Cli(path, VERSION), environment, place)


def conversation(text: str) -> Conversation:
    """The last word says what the stand-in does."""
    return Conversation("sonnet", "", (Message("user", (Text(text),)),))


async def answer(pool: Pool, text: str) -> list[Event]:
    """All events of one turn."""
    events: list[Event] = []
    async for batch in pool.run(pool.turn(conversation(text))):
        events += batch
    return events
