"""What goes on beside the requests: signs of life and status to systemd, login, idle exit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from claude_proxy import log as log_to
from claude_proxy.claude.cli import Login
from claude_proxy.claude.pool import Pool
from claude_proxy.claude.tally import Stats
from claude_proxy.current import Current
from claude_proxy.http.server import Server
from claude_proxy.money.allowance import Allowance
from claude_proxy.notify import Notifier

log = structlog.get_logger()

INTERVAL = 1.0
# systemd advises half of its limit; a third leaves room for a late tick.
SIGNS_PER_LIMIT = 3
# While it drains, systemd's own patience is put off by that much at every look.
EXTENSION = 15.0
LOGIN_INTERVAL = 300.0
# A connection that has started the program waits for its answer; asking costs a process.
LOGIN_DELAY = 2.0


class Supervision:
    """``run`` is a task beside the server. It runs on the event loop that serves the requests, so
    that a loop that is stuck gives no sign of life and systemd starts the program anew.
    """

    def __init__(  # noqa: PLR0913 - it looks at all that runs
        self,
        server: Server,
        pool: Pool,
        current: Current,
        allowance: Allowance,
        notifier: Notifier,
        *,
        activated: bool,
    ) -> None:
        """``activated``: somebody else listens on, and starts the program again when needed.

        ``on_late`` hears at each look by how many seconds the event loop was late.
        """
        self.on_late: Callable[[float], None] = lambda _: None
        self._server = server
        self._pool = pool
        self._current = current
        self._allowance = allowance
        self._notifier = notifier
        self._activated = activated
        self._told = ""
        self._idle_since = time.monotonic()
        self._requests = 0

    def status(self) -> str:
        """Of the daemon as it is now, for a person."""
        stats, login = self._pool.stats, self._pool.installation.last_login
        prefix = "draining: " if self._server.should_exit else ""
        warnings = self._allowance.warnings()
        return prefix + describe(stats, self._allowance.spending.today, login, warnings)

    def ready(self) -> None:
        self._told = self.status()
        self._notifier.ready(self._told)

    def reloading(self) -> None:
        self._notifier.reloading()

    def stopping(self) -> None:
        self._current.ending.set()
        self._notifier.stopping(self.status())
        self._notifier.extend(EXTENSION)

    async def run(self) -> None:
        limit = self._notifier.watchdog
        pause = INTERVAL if limit is None else min(INTERVAL, limit / SIGNS_PER_LIMIT)
        next_sign = 0.0
        while True:
            now = time.monotonic()
            if limit is not None and now >= next_sign:
                self._notifier.alive()
                next_sign = now + limit / SIGNS_PER_LIMIT
            log_to.push()
            self._tell()
            self._end_when_idle(now)
            due = time.monotonic() + pause
            await asyncio.sleep(pause)
            self.on_late(max(0.0, time.monotonic() - due))

    def _tell(self) -> None:
        status = self.status()
        if self._server.should_exit:
            self._notifier.extend(EXTENSION)
        if status != self._told:
            self._told = status
            self._notifier.status(status)

    def _end_when_idle(self, now: float) -> None:
        stats = self._pool.stats
        busy = self._server.busy or stats.running or stats.queued or stats.living
        if busy or self._server.requests != self._requests:
            self._requests = self._server.requests
            self._idle_since = now
        limit = self._current.settings.idle_exit
        idle = now - self._idle_since
        if self._activated and 0 < limit <= idle and not self._server.should_exit:
            self._current.why = "idle"
            self._server.exit_soon(f"idle for {idle:.0f} s")


def describe(stats: Stats, spent: float, login: Login, warnings: Sequence[str] = ()) -> str:
    """One line for a person: ``2 running, 1 queued, 1 spare, $0.42 today; logged in as max``."""
    counted = {
        "running": stats.running,
        "queued": stats.queued,
        "living": stats.living,
        "spare": stats.spares,
    }
    shown = [f"{number} {name}" for name, number in counted.items() if number]
    shown = [*(shown or ["idle"]), f"${spent:.2f} today"]
    return "; ".join([", ".join(shown), *warnings, str(login)])


async def watch_login(pool: Pool, server: Server) -> None:
    """Asks at the start, and now and then while there are requests; it costs a process each."""
    seen = -1
    await asyncio.sleep(LOGIN_DELAY)
    while True:
        if server.requests != seen:
            seen = server.requests
            before = pool.installation.last_login.logged_in
            now = (await pool.installation.login()).logged_in
            if now is False and before is not False:
                how = f"as this user, type {pool.installation.cli.path} auth login"
                log.warning("claude.not_logged_in", note=f"to log in: {how}")
        await asyncio.sleep(LOGIN_INTERVAL)
