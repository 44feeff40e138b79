"""The CLI as it is installed now: started, upgraded under a running daemon, logged in or not."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from claude_proxy.claude import cli as cli_on_disk
from claude_proxy.claude.cli import Cli, Login
from claude_proxy.claude.session import Session
from claude_proxy.errors import CannotStart, ProxyError
from claude_proxy.settings import ConfigurationError

log = structlog.get_logger()

LOGIN_FRESH = 60.0
# Why a new CLI does not run may lie elsewhere: no descriptor was free, what it needs came later.
PROBLEM_FRESH = 10.0
PREFIX = "claude-proxy-"


class Installation:
    def __init__(self, cli: Cli, environment: Mapping[str, str], place: Path | None = None) -> None:
        """``place``: below which the processes get their working directory."""
        self.cli = cli
        self._place = place
        self._environment = environment
        self._directory: Path | None = None
        self._stamp = self._examined = cli.stamp()
        self.last_login = Login(None)
        self._login_at = float("-inf")
        self._login_lock = asyncio.Lock()
        self._examining = asyncio.Lock()
        self.problem: str | None = None
        # Processes, so far.
        self.starts = 0
        self._problem_at = float("-inf")

    def retry(self, retries: int) -> None:
        """How often processes that are started from now on may ask a failing upstream again."""
        self._environment = cli_on_disk.with_retries(self._environment, retries)

    async def spawn(self) -> Session:
        """In an empty private directory: the CLI tells the model where it works.

        Raises ProxyError, also when an upgrade has put something there that will not do.
        """
        await self.follow_upgrade()
        if self.problem is not None:
            raise CannotStart(self.problem)
        session = await Session.spawn(self.cli, self._environment, self._empty_directory())
        self.starts += 1
        return session

    def _empty_directory(self) -> Path:
        """Made anew when it is gone: /tmp is tidied now and then."""
        if self._directory is None or not self._directory.is_dir():
            self._directory = self._made_directory()
        return self._directory

    def _made_directory(self) -> Path:
        """In the place that was given, while that is there, else where temporary files go."""
        reason = ""
        for place in filter(None, (self._place, Path(tempfile.gettempdir()))):
            clear_abandoned(place)
            try:
                return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place))
            except OSError as error:
                reason = f"{error.filename}: {error.strerror}"
        raise ProxyError(f"no place for Claude Code to run in: {reason}")

    def started(self, session: Session) -> bool:
        """Whether it runs the file that is there now."""
        self._look()
        return session.stamp == self._stamp

    async def follow_upgrade(self) -> None:
        """Examines the CLI when its file has been replaced; while it is bad, none is started."""
        async with self._examining:
            if not (self._look() or self._stamp != self._examined or self._may_have_passed()):
                return
            self._examined = self._stamp
            try:
                self.cli = await cli_on_disk.examine(self.cli.path, self._environment)
            except ConfigurationError as error:
                if self.problem != str(error):
                    log.error("claude.upgrade_unusable", reason=str(error))  # noqa: TRY400
                self.problem, self._problem_at = str(error), time.monotonic()
            else:
                self.problem = None
                log.info("claude.upgraded", version=self.cli.version)

    def _may_have_passed(self) -> bool:
        return self.problem is not None and time.monotonic() - self._problem_at > PROBLEM_FRESH

    async def login(self) -> Login:
        """Whether Claude Code is logged in; asked at most once a minute."""
        async with self._login_lock:
            if time.monotonic() - self._login_at > LOGIN_FRESH:
                self.last_login = await cli_on_disk.login(self.cli, self._environment)
                self._login_at = time.monotonic()
        return self.last_login

    def clean_up(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _look(self) -> bool:
        """Whether the file was replaced since the last look; in mid-upgrade there is none."""
        stamp = self.cli.stamp()
        if stamp is None or stamp == self._stamp:
            return False
        self._stamp = stamp
        return True


def clear_abandoned(place: Path) -> None:
    """What daemons that were killed have left; their names hold the process."""
    for left in place.glob(f"{PREFIX}*"):
        found = re.fullmatch(rf"{PREFIX}(\d+)-\w+", left.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            shutil.rmtree(left, ignore_errors=True)
