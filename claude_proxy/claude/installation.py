"""The CLI as it is installed now: started, upgraded under a running daemon, logged in or not."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from claude_proxy.claude import cli as cli_on_disk
from claude_proxy.claude.cli import Cli, Login
from claude_proxy.claude.session import Session
from claude_proxy.settings import ConfigurationError

log = structlog.get_logger()

LOGIN_FRESH = 60.0


class Installation:
    def __init__(self, cli: Cli, environment: Mapping[str, str]) -> None:
        self.cli = cli
        self._environment = environment
        self._directory: Path | None = None
        self._stamp = self._examined = cli.stamp()
        self._login = Login(None)
        self._login_at = float("-inf")
        self._login_lock = asyncio.Lock()

    async def spawn(self) -> Session:
        """In an empty private directory: the CLI tells the model where it works."""
        if self._directory is None or not self._directory.is_dir():  # /tmp is tidied now and then
            place = self._environment.get("XDG_RUNTIME_DIR")
            self._directory = Path(tempfile.mkdtemp(prefix="claude-proxy-", dir=place))
        return await Session.spawn(self.cli, self._environment, self._directory)

    def started(self, session: Session) -> bool:
        """Whether it runs the file that is there now."""
        self._look()
        return session.stamp == self._stamp

    async def follow_upgrade(self) -> None:
        """Examines the CLI when its file has been replaced; the old facts stay when it is bad."""
        if self._look() or self._stamp != self._examined:
            self._examined = self._stamp
            try:
                self.cli = await cli_on_disk.examine(self.cli.path, self._environment)
            except ConfigurationError as error:
                log.error("claude.upgrade_unusable", reason=str(error))  # noqa: TRY400
            else:
                log.info("claude.upgraded", version=self.cli.version)

    async def login(self) -> Login:
        """Whether Claude Code is logged in; asked at most once a minute."""
        async with self._login_lock:
            if time.monotonic() - self._login_at > LOGIN_FRESH:
                self._login = await cli_on_disk.login(self.cli, self._environment)
                self._login_at = time.monotonic()
        return self._login

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
