"""What an answer must have cost of which the CLI does not tell it, since its process had to end.

Of all of Anthropic's models a cache read costs a tenth of an input token, a five-minute cache
write 1.25 of them, an output token 5 (its price list, 2026), so one price says all. It is learnt
from answers whose cost the CLI has told.
"""

from __future__ import annotations

from claude_proxy.conversation import Usage

MILLION = 1_000_000.0
CACHE_READ, CACHE_WRITE, OUTPUT = 0.1, 1.25, 5.0
# US dollars for a million input tokens, until the CLI has told: rather too much than too little.
BY_FAMILY = {"haiku": 1.0, "sonnet": 3.0}
OTHERS = 5.0


class Prices:
    def __init__(self) -> None:
        self._per_million: dict[str, float] = {}

    def learn(self, model: str, usage: Usage, usd: float) -> None:
        """``usage`` is all that has cost ``usd``."""
        if usd > 0 and (inputs := weight(usage)) > 0:
            self._per_million[model] = usd / inputs * MILLION

    def estimate(self, model: str, usage: Usage) -> float:
        """In US dollars."""
        listed = next((usd for family, usd in BY_FAMILY.items() if family in model), OTHERS)
        return weight(usage) * self._per_million.get(model, listed) / MILLION


def weight(usage: Usage) -> float:
    """In input tokens."""
    return (
        usage.input
        + usage.cache_read * CACHE_READ
        + usage.cache_write * CACHE_WRITE
        + usage.output * OUTPUT
    )
