"""What requests go by now."""

from __future__ import annotations

from dataclasses import dataclass

from claude_proxy.api_key import ApiKey
from claude_proxy.settings import Settings


@dataclass(slots=True)
class Current:
    """A reload replaces both; an answer that runs keeps what it began with."""

    settings: Settings
    key: ApiKey
