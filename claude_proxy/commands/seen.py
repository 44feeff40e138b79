"""What the user's systemd knows of the two units, looked at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from claude_proxy.command_line import load
from claude_proxy.commands import systemctl, unit_files, unit_text, units
from claude_proxy.commands.health import Health, ask
from claude_proxy.commands.systemctl import Manager
from claude_proxy.listeners import Place, places
from claude_proxy.settings import ConfigurationError, Settings, UsageError

COMMON = (
    *("LoadState", "ActiveState", "SubState", "Result", "FragmentPath", "UnitFileState"),
    *("NeedDaemonReload", "ActiveEnterTimestamp"),
)
OF_SERVICE = (
    *("MainPID", "MemoryCurrent", "StatusText", "ExecMainStatus", "Environment"),
    *("PrivateUsers", "PrivateTmp"),
)
# Of a user manager that was told nothing else.
MANAGERS_PATH = "/usr/local/bin:/usr/bin:/bin"
NOT_SET = frozenset({"[not set]", "infinity", str(2**64 - 1)})


@dataclass(frozen=True)  # without slots: the text is asked for once
class Seen:
    """``service`` and ``socket`` are the units' properties; empty without a user manager.
    ``unread``: then, the text of the service's file.
    """

    manager: Manager | None
    service: Mapping[str, str] = field(default_factory=dict)
    socket: Mapping[str, str] = field(default_factory=dict)
    unread: str = ""

    @property
    def is_managed(self) -> bool:
        """Whether there is a service unit of that name, wherever it comes from."""
        return self.service.get("LoadState", "not-found") != "not-found"

    @property
    def runs(self) -> bool:
        return self.service.get("ActiveState") in systemctl.ACTIVE

    @property
    def listens(self) -> bool:
        return self.socket.get("ActiveState") in systemctl.ACTIVE

    @property
    def may_be_asked(self) -> bool:
        """Whether a connection would not wake a daemon that sleeps."""
        return self.service.get("ActiveState") == "active" or not self.listens

    def places(self, settings: Settings) -> list[Place]:
        """Where it listens: on the socket unit's; while that is not started, it may be anywhere
        that the settings say, too.
        """
        found = []
        for address in systemctl.addresses(self.socket):
            with suppress(ConfigurationError):
                found.append(Place.of(address))
        if found and self.listens:
            return found
        return list(dict.fromkeys([*places(settings), *found]))

    def health(self, settings: Settings) -> tuple[Place, Health] | None:
        return ask(self.places(settings)) if self.may_be_asked else None

    @cached_property
    def unit_text(self) -> str:
        """Of the service with its drop-ins; empty when there is none."""
        if self.manager is None:
            return self.unread
        return self.manager.text(units.SERVICE) if self.is_managed else ""

    def credential(self, home: str) -> Path | None:
        """The file that the service gets its key from."""
        found = unit_text.credential_of(self.unit_text, home)
        return Path(found) if found else None

    def command(self, home: str) -> list[str]:
        """The words that the service runs; empty when they cannot be told."""
        return unit_text.words_of(self.unit_text, home)

    @property
    def is_of_nix(self) -> bool:
        """Whether a configuration of Nix's has made the unit, and has to be changed instead."""
        fragment = self.service.get("FragmentPath", "")
        return os.path.realpath(fragment).startswith(unit_files.NIX_STORE)

    def variables(self, home: str) -> dict[str, str]:
        """Those that the service's own unit sets; the values may be secrets."""
        found = unit_text.variables_of(self.unit_text, home)
        found |= systemctl.unit_environment(self.service)
        for path in unit_text.environment_files(self.unit_text, home):
            found |= unit_text.variables_in(unit_files.text_of(path) or "")
        return found

    def environment(self, home: str) -> dict[str, str]:
        """All variables that the service is started with."""
        given = self.manager.environment() if self.manager else {}
        given |= self.variables(home)
        for name in unit_text.unset(self.unit_text):
            given.pop(name, None)
        return {"HOME": home, **given, "PATH": given.get("PATH") or MANAGERS_PATH}

    def settings(self, home: str) -> Settings | None:
        """What the service makes of its flags, variables and file; None when it cannot be told."""
        if not (words := self.command(home)):
            return None
        with suppress(UsageError, ConfigurationError):
            return load(words[1:], self.environment(home)).settings
        return None


def look(environ: Mapping[str, str]) -> Seen:
    manager = systemctl.reached(environ)
    if manager is None:
        return Seen(None, unread=unit_files.on_disk(environ))
    return Seen(
        manager,
        manager.show(units.SERVICE, *COMMON, *OF_SERVICE),
        manager.show(units.SOCKET, *COMMON, "Listen"),
    )
