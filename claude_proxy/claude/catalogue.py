"""When the CLI is asked for its models, which spends no tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from claude_proxy.claude.installation import Installation
from claude_proxy.claude.models import Models
from claude_proxy.claude.process import ProcessEnded
from claude_proxy.claude.session import Session

log = structlog.get_logger()

FRESH = 600.0


class Catalogue:
    """Keeps ``models`` fresh: whenever a process is warmed up, or for somebody who asks."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self._listed_at = float("-inf")
        self._lock = asyncio.Lock()

    async def warm(self, session: Session) -> None:
        """Raises what ``Session.warm_up`` does."""
        if listed := await session.warm_up(self.models.resolve("")):
            self.models.update(listed)
            self._listed_at = time.monotonic()

    async def fresh(
        self, installation: Installation, retire: Callable[[Session], Awaitable[object]]
    ) -> Models:
        """The models, listed within the last minutes; those that are known when that fails."""
        async with self._lock:
            if time.monotonic() - self._listed_at > FRESH:
                session = await installation.spawn()
                try:
                    await self.warm(session)
                except (ProcessEnded, TimeoutError, ValueError) as error:
                    log.warning("claude.models_unknown", reason=str(error))
                finally:
                    await asyncio.shield(retire(session))
        return self.models
