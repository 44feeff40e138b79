"""What the command line hands over to the daemon."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from claude_proxy.clients import Clients
from claude_proxy.listeners import Listener
from claude_proxy.notify import Notifier
from claude_proxy.settings import Settings

Reread: TypeAlias = Callable[[], tuple[Settings, Clients]]


@dataclass(frozen=True, slots=True)
class Start:
    """``reread`` raises UsageError or ConfigurationError; ``passed`` are systemd's sockets."""

    settings: Settings
    clients: Clients
    environ: Mapping[str, str]
    notifier: Notifier
    reread: Reread
    passed: Sequence[Listener]
