"""Settings of other people's programs, ready to paste. Pure; ``all_for`` is the way in."""

from __future__ import annotations

from collections.abc import Callable

from claude_proxy.client_settings import sdks
from claude_proxy.client_settings.snippet import Endpoint, Model, Snippet

__all__ = ["CLIENTS", "Endpoint", "Model", "Snippet", "all_for"]

CLIENTS: dict[str, Callable[[Endpoint], Snippet]] = {
    "openai": sdks.openai,
}


def all_for(endpoint: Endpoint) -> list[Snippet]:
    return [render(endpoint) for render in CLIENTS.values()]
