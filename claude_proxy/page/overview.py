"""``GET /v1/overview``, an extension of this program's own: all that the page shows."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from typing import Literal

import msgspec

from claude_proxy import __version__
from claude_proxy.claude.pool import Pool
from claude_proxy.current import Current
from claude_proxy.money import usage
from claude_proxy.money.allowance import Allowance
from claude_proxy.money.usage import Day, Period, Report
from claude_proxy.page.recent import Done, Recent
from claude_proxy.readiness import why_not_ready

# Seconds for which one is good enough for everybody who watches.
FRESH = 0.5
# Seconds after which the month is read again, though nothing was added here: another daemon of the
# user's may have spent something.
MONTH_FRESH = 10.0
# Times as long as it took, in which nobody was served, it is not read again, whatever was added: a
# month of ten thousand sums, by day, client and model, takes some 80 ms.
REST = 50.0


class Service(msgspec.Struct):
    """``reasons``: why a request that came now would not be answered. ``logged_in`` is null when
    Claude Code did not say, or was not asked yet.
    """

    version: str
    claude_version: str
    started_at: str
    logged_in: bool | None
    login: str | None
    simulated: bool
    reasons: list[str]


class Sessions(msgspec.Struct):
    """Processes of Claude Code, by what they do, and requests that wait for one; ``most_...``:
    the settings.
    """

    running: int
    living: int
    spare: int
    queued: int
    most_running: int
    most_queued: int


class Overview(msgspec.Struct):
    """``ending``: the program is about to end, this is the last one. A page that asked again
    would start it anew.
    """

    service: Service
    sessions: Sessions
    models: list[str]
    default_model: str
    usage: Report
    requests: list[Done]
    ending: Literal["idle", "stopped"] | None
    object: str = "overview"


class Overlook:
    """Makes overviews. Asks nobody: no process is started for them."""

    def __init__(self, current: Current, pool: Pool, allowance: Allowance, recent: Recent) -> None:
        self._current = current
        self._pool = pool
        self._allowance = allowance
        self._recent = recent
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._last = b""
        self._made_at = self._read_at = float("-inf")
        self._read: tuple[int, date] | None = None
        self._took = 0.0

    def latest(self) -> bytes:
        """As JSON; of late, or of now when it is the last one."""
        now = time.monotonic()
        if self._current.draining or now - self._made_at > FRESH:
            self._last, self._made_at = self.now(), now
        return self._last

    def now(self) -> bytes:
        return msgspec.json.encode(self._overview())

    def _overview(self) -> Overview:
        current, pool, allowance = self._current, self._pool, self._allowance
        models = pool.models
        return Overview(
            service=self._service(),
            sessions=self._sessions(),
            models=models.ids(),
            default_model=models.resolve(""),
            usage=usage.report(self._month(), allowance.states(), pool.plan, time.time()),
            requests=self._recent(),
            ending=current.why if current.draining else None,
        )

    def _month(self) -> tuple[Period, Period, list[Day]]:
        spending, now = self._allowance.spending, time.monotonic()
        known = spending.additions, spending.day()
        if now - self._read_at > (MONTH_FRESH if known == self._read else REST * self._took):
            self._spent = usage.month(spending)
            self._read, self._read_at = known, time.monotonic()
            self._took = self._read_at - now
        return self._spent

    def _service(self) -> Service:
        login = self._pool.installation.last_login
        return Service(
            version=__version__,
            claude_version=self._pool.installation.cli.version,
            started_at=self._started,
            logged_in=login.logged_in,
            login=login.plan or login.method,
            simulated=self._current.settings.demo,
            reasons=why_not_ready(self._current, self._pool, self._allowance),
        )

    def _sessions(self) -> Sessions:
        stats, settings = self._pool.stats, self._current.settings
        return Sessions(
            running=stats.running,
            living=stats.living,
            spare=stats.spares,
            queued=stats.queued,
            most_running=settings.max_concurrency,
            most_queued=settings.queue,
        )
