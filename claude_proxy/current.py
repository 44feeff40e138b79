"""What requests go by now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from claude_proxy.clients import Clients
from claude_proxy.settings import Settings


@dataclass(slots=True)
class Current:
    """A reload replaces settings and clients; an answer that runs keeps what it began with.

    ``ending`` is set when the program begins to drain; ``why`` then says what for.
    """

    settings: Settings
    clients: Clients
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    why: Literal["idle", "stopped"] = "stopped"

    @property
    def draining(self) -> bool:
        return self.ending.is_set()
