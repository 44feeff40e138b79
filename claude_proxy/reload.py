"""SIGHUP: the configuration and the key are read again, and put in force if they are good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from claude_proxy import log as logging
from claude_proxy.claude.pool import Pool
from claude_proxy.clients import Clients
from claude_proxy.current import Current
from claude_proxy.http import descriptors
from claude_proxy.http.server import Server
from claude_proxy.settings import OPTIONS, SECRET, ConfigurationError, Settings, UsageError
from claude_proxy.start import Reread

log = structlog.get_logger()


class Reload:
    """Answers that run go on by what they began with."""

    def __init__(
        self,
        reread: Reread,
        current: Current,
        pool: Pool,
        server: Server,
    ) -> None:
        """``reread`` raises UsageError or ConfigurationError."""
        self._reread = reread
        self._current = current
        self._pool = pool
        self._server = server

    def __call__(self) -> None:
        """What cannot be used is refused as a whole: the old configuration stays in force."""
        try:
            settings, clients = self._reread()
        except (UsageError, ConfigurationError) as error:
            log.error(  # noqa: TRY400 - the reason is all there is to say
                "daemon.reload_refused", reason=str(error), note="the old configuration stays"
            )
            return
        changed = differences(self._current.settings, settings)
        if left := [name for name in changed if OPTIONS[name].fixed]:
            log.warning("daemon.needs_restart", note=f"a reload leaves {', '.join(left)} alone")
        kept = {name: getattr(self._current.settings, name) for name in left}
        self._apply(msgspec.structs.replace(settings, **kept), clients)
        log.info("daemon.reloaded", changed=shown(changed, settings, left), key_from=clients.source)

    def _apply(self, settings: Settings, clients: Clients) -> None:
        logging.set_level(settings.log_level)
        self._pool.configure(settings)
        self._server.drain_timeout = settings.drain_timeout
        self._server.limit_connections(descriptors.for_connections(settings))
        self._current.settings, self._current.clients = settings, clients


def differences(old: Settings, new: Settings) -> list[str]:
    return [name for name in OPTIONS if getattr(old, name) != getattr(new, name)]


def shown(changed: list[str], settings: Settings, left: list[str]) -> Mapping[str, Any]:
    """The new values of what has changed, save the key."""
    return {
        name: "(secret)" if name in SECRET else getattr(settings, name)
        for name in changed
        if name not in left
    }
