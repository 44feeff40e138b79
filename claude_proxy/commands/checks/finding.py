"""What a check looks at, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from claude_proxy.commands.health import Health
from claude_proxy.commands.seen import Seen
from claude_proxy.listeners import Place
from claude_proxy.settings import Settings

OK, WARN, FAIL = "ok", "warn", "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """``mend``: what to do about it, as a command where there is one."""

    level: str
    name: str
    why: str
    mend: str = ""

    def line(self) -> str:
        return f"{self.level:5} {self.name}: {self.why}" + (f"; {self.mend}" if self.mend else "")


@dataclass(frozen=True, slots=True)
class Scene:
    """The present environment, systemd's view of the units, and the daemon that answered, with the
    place where it did. ``proc`` and ``root``: where the
    kernel and the system tell of themselves.
    """

    settings: Settings
    environ: Mapping[str, str]
    seen: Seen
    home: str
    answered: tuple[Place, Health] | None = None
    proc: Path = Path("/proc")
    root: Path = Path("/")
