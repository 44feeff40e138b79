"""Numbers of the pool's: what is there now, and what has happened since the start."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, slots=True)
class Stats:
    """Now."""

    running: int
    queued: int
    spares: int
    living: int


class Origin(Enum):
    """Where a turn's process comes from, the best first."""

    CONTINUED = "continued"
    SPARE = "spare"
    STARTED = "started"


class How(Enum):
    """A turn went on in its conversation's living process, was replayed into another one, or was
    the first of its conversation.
    """

    CONTINUED = "continued"
    REPLAYED = "replayed"
    BEGUN = "begun"


@dataclass(slots=True)
class Tally:
    """Since the start. ``crashed``: processes that have ended by themselves."""

    crashed: int = 0
    unknown_lines: int = 0
    retries: int = 0
    turns: Counter[How] = field(default_factory=Counter)

    def add(self, how: How | None, retries: int) -> None:
        """A turn that is over."""
        self.retries += retries
        if how is not None:
            self.turns[how] += 1
