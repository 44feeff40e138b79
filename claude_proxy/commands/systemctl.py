"""The user's systemd, through ``systemctl --user`` and ``loginctl``."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from claude_proxy.commands import external
from claude_proxy.settings import ConfigurationError

SYSTEMCTL = ("systemctl", "--user", "--no-pager", "--no-ask-password")
LINGERING = Path("/var/lib/systemd/linger")
# As systemctl quotes: blanks by quotation marks, and within them " \\ ` $ by a backslash.
WORD = re.compile(r'(?:[^\s"\\]|\\.|"(?:[^"\\]|\\.)*")+')
BARE = re.compile(r'\\(.)|"')
ACTIVE = frozenset({"active", "activating", "reloading"})


class Manager:
    """A user manager that has answered. ``version`` is systemd's, 0 when it could not be read."""

    def __init__(self, environ: Mapping[str, str], properties: Mapping[str, str]) -> None:
        self._environ = environ
        self.unit_path = split(properties.get("UnitPath", ""))
        found = re.search(r"\d+", properties.get("Version", ""))
        self.version = int(found[0]) if found else 0

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties that are set, as systemctl writes them; what is given more than once has a
        line each. Empty when it did not answer.
        """
        done = self._run("show", unit, f"--property={','.join(properties)}")
        return parsed(done.output) if done.went_well else {}

    def listens_on(self, socket: str) -> list[str]:
        return addresses(self.show(socket, "Listen"))

    def text(self, unit: str) -> str:
        """The unit's file and its drop-ins, in the order in which they count."""
        done = self._run("cat", unit)
        return done.output if done.went_well else ""

    def environment(self) -> dict[str, str]:
        """What the manager hands to every service. The values are never to be shown."""
        return dict(self._handed_on)

    @cached_property
    def _handed_on(self) -> dict[str, str]:
        """Asked for once: nearly every check wants to know."""
        done = self._run("show-environment")
        return assignments(done.output.splitlines()) if done.went_well else {}

    def do(self, *words: str, limit: float = external.PATIENCE) -> None:
        """Raises ConfigurationError with what systemctl complains of."""
        done = self._run(*words, limit=limit)
        if not done.went_well:
            raise ConfigurationError(f"{shown(*words)} failed: {' '.join(done.error.split())}")

    def forget_failures(self, *units: str) -> None:
        """Of units that are gone, too; there need not be any."""
        self._run("reset-failed", *units)

    def _run(self, *words: str, limit: float = external.PATIENCE) -> external.Outcome:
        return external.run([*SYSTEMCTL, *words], self._environ, limit)


def reached(environ: Mapping[str, str]) -> Manager | None:
    """None: there is no user manager to speak to from here."""
    if not (environ.get("XDG_RUNTIME_DIR") or environ.get("DBUS_SESSION_BUS_ADDRESS")):
        return None
    done = external.run([*SYSTEMCTL, "show", "--property=Version,UnitPath"], environ)
    return Manager(environ, parsed(done.output)) if done.went_well else None


def shown(*words: str) -> str:
    """As one types it."""
    return " ".join(["systemctl --user", *words])


def parsed(output: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in output.splitlines():
        name, sign, value = line.partition("=")
        if sign and value:
            found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def assignments(words: list[str]) -> dict[str, str]:
    return {name: value for name, sign, value in (each.partition("=") for each in words) if sign}


def addresses(socket: Mapping[str, str]) -> list[str]:
    """Addresses and paths that a socket unit listens on, from its property ``Listen``."""
    return [line.removesuffix(" (Stream)") for line in socket.get("Listen", "").splitlines()]


def split(value: str) -> list[str]:
    """The words of a property that is a list."""
    return [BARE.sub(r"\1", word) for word in WORD.findall(value)]


def unit_environment(properties: Mapping[str, str]) -> dict[str, str]:
    """The ``Environment=`` of a unit, from the property of that name."""
    return assignments(split(properties.get("Environment", "")))


def user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def lingers(environ: Mapping[str, str]) -> bool | None:
    """Whether this user's services outlive the last logout; None when nobody can tell."""
    words = ["loginctl", "show-user", user_name(), "--property=Linger", "--value"]
    answer = external.run(words, environ).output.strip()
    if answer in ("yes", "no"):
        return answer == "yes"
    # logind knows only who is logged in or lingers.
    return (LINGERING / user_name()).exists() if LINGERING.is_dir() else None
