"""The conversations that live on between their turns, each with its process."""

from __future__ import annotations

import time

from claude_proxy.claude.prompt import Prompt
from claude_proxy.claude.session import Session


class Living:
    """At most ``limit``, each for ``keep_alive`` seconds after its last turn."""

    def __init__(self, limit: int, keep_alive: float) -> None:
        self.configure(limit, keep_alive)
        # In the order of their last turns.
        self._since: dict[Session, float] = {}

    def configure(self, limit: int, keep_alive: float) -> None:
        """Holds for those that are there from their next turn, or look of ``outdated``, on."""
        self._limit = limit
        self._keep_alive = keep_alive

    def __len__(self) -> int:
        return len(self._since)

    def take(self, prompt: Prompt) -> Session | None:
        """The one that stands exactly where the prompt goes on; it is the taker's now."""
        for session in reversed(self._since):
            if session.continues(prompt):
                del self._since[session]
                return session
        return None

    def add(self, session: Session) -> list[Session]:
        """Returns those that have to end for it, perhaps ``session`` itself."""
        if self._keep_alive <= 0:
            return [session]
        self._since[session] = time.monotonic()
        surplus = list(self._since)[: max(0, len(self._since) - self._limit)]
        return self._remove(surplus)

    def outdated(self) -> list[Session]:
        """Removes and returns those that nobody came back to, or whose process has ended."""
        now = time.monotonic()
        return self._remove(
            [
                session
                for session, since in self._since.items()
                if now - since >= self._keep_alive or not session.alive
            ]
        )

    def clear(self) -> list[Session]:
        return self._remove(list(self._since))

    def _remove(self, sessions: list[Session]) -> list[Session]:
        for session in sessions:
            del self._since[session]
        return sessions
