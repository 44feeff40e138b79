"""What answers have used, and for whom."""

from __future__ import annotations

from dataclasses import dataclass

from claude_proxy.conversation import Usage

NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Used:
    """``usd`` is the CLI's own figure; ``estimated_usd`` is for what it did not tell, and is no
    part of it. ``model`` is the exact one where that is known.
    """

    client: str
    model: str
    answers: int = 0
    usage: Usage = NOTHING
    usd: float = 0.0
    estimated_usd: float = 0.0

    def __add__(self, other: Used) -> Used:
        """Keeps its own client and model."""
        return Used(
            self.client,
            self.model,
            self.answers + other.answers,
            self.usage + other.usage,
            self.usd + other.usd,
            self.estimated_usd + other.estimated_usd,
        )

    @property
    def all_usd(self) -> float:
        return self.usd + self.estimated_usd
