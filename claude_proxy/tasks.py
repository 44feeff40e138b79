"""Tasks that somebody owns, and whose failure is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

log = structlog.get_logger()

Result = TypeVar("Result")


class Tasks:
    """Those that are under way."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Result], name: str) -> asyncio.Task[Result]:
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(tell_failure)
        return task

    async def finish(self) -> None:
        """Waits for all, and for those that they start."""
        while self._running:
            await asyncio.wait(self._running)


@asynccontextmanager
async def running(work: Coroutine[None, None, None], name: str) -> AsyncGenerator[None, None]:
    """A task for the time of the block. If it fails, the block goes on."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(tell_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def tell_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task.failed", task=task.get_name(), exc_info=error)
