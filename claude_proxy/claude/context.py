"""How many tokens a model takes and gives.

Taken from the page of each model in Anthropic's documentation ("Models overview", November 2026).
The CLI asks for the larger window of a 4.6 only where its name ends with ``[1m]``, so without that
they count here as the CLI counts them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LARGE = "[1m]"


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens: ``context`` of all that goes in and comes out, ``output`` of one answer."""

    context: int
    output: int


NOW = Size(1_000_000, 128_000)
SMALL = Size(200_000, 64_000)
# What is not here is of today's kind, as the families' names are.
EARLIER = {
    "claude-3-5-haiku": Size(200_000, 8_192),
    "claude-3-7-sonnet": SMALL,
    "claude-haiku-4-5": SMALL,
    "claude-opus-4": Size(200_000, 32_000),
    "claude-opus-4-0": Size(200_000, 32_000),
    "claude-opus-4-1": Size(200_000, 32_000),
    "claude-opus-4-5": SMALL,
    "claude-opus-4-6": Size(200_000, 128_000),
    "claude-sonnet-4": SMALL,
    "claude-sonnet-4-0": SMALL,
    "claude-sonnet-4-5": SMALL,
    "claude-sonnet-4-6": Size(200_000, 128_000),
}


def size_of(model: str) -> Size:
    """``model``: a name of the CLI's, or the exact one that it stands for."""
    whole = model.strip().lower()
    bare = whole.removesuffix(LARGE)
    size = EARLIER.get(re.sub(r"-\d{8}$", "", bare), NOW)
    return Size(NOW.context, size.output) if bare != whole else size
