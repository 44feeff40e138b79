"""What requests go by now."""

from __future__ import annotations

from dataclasses import dataclass

from claude_proxy.clients import Clients
from claude_proxy.settings import Settings


@dataclass(slots=True)
class Current:
    """A reload replaces settings and clients; an answer that runs keeps what it began with."""

    settings: Settings
    clients: Clients
    draining: bool = False
