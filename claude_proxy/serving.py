"""The half of the daemon that speaks HTTP: application, server, and what goes on beside them."""

from __future__ import annotations

from collections.abc import Sequence

from claude_proxy import app
from claude_proxy import log as log_to
from claude_proxy.claude.pool import Pool
from claude_proxy.current import Current
from claude_proxy.http import descriptors
from claude_proxy.http.server import Server
from claude_proxy.kept import Kept
from claude_proxy.listeners import Listener
from claude_proxy.measures import Measures
from claude_proxy.money.allowance import Allowance
from claude_proxy.money.spending import Spending
from claude_proxy.reload import Reload
from claude_proxy.start import Start
from claude_proxy.supervision import Supervision, watch_login
from claude_proxy.tasks import running


class Serving:
    """``run`` once; ``reload`` at any time."""

    def __init__(
        self,
        start: Start,
        pool: Pool,
        kept: Kept,
        spent: Spending,
        listening: Sequence[Listener],
    ) -> None:
        self._pool = pool
        self._listening = listening
        current = Current(start.settings, start.clients)
        allowance, measures = Allowance(current, spent, pool.accounts.pending), Measures()
        built = app.build(current, pool, kept, allowance, measures)
        self.server = Server(built, pool, start.settings.drain_timeout)
        self.server.limit_connections(descriptors.for_connections(start.settings))
        self._supervision = Supervision(
            self.server, pool, current, allowance, start.notifier, activated=bool(start.passed)
        )
        self._supervision.on_late = measures.lags.add
        self._reload = Reload(start.reread, current, pool, self.server)
        self.server.on_ready = self._supervision.ready
        self.server.on_stopping = self._supervision.stopping

    def reload(self) -> None:
        """systemd is told of its end, whichever it is."""
        if not self.server.should_exit:
            self._supervision.reloading()
            try:
                self._reload()
            finally:
                self._supervision.ready()

    async def run(self) -> None:
        """Until the server has been told to exit and everything has ended."""
        async with (
            running(watch_login(self._pool, self.server), "login"),
            running(self._supervision.run(), "supervision"),
            running(erase_progress(self._pool), "progress"),
        ):
            await self.server.serve_on(self._listening)


async def erase_progress(pool: Pool) -> None:
    """Whoever looks at a terminal sees until then that the first answer would take longer."""
    try:
        await pool.spares.warm()
    finally:
        log_to.progress("")
