"""What a process has been told and has said, and whether a conversation goes on from there. Pure.

Clients echo the model's turns imperfectly: white space trimmed or changed, arguments serialised
anew, ids respelled, reasoning dropped. Two assistant turns are the same here when they say the
same words in the same lines and make the same calls; everything else is compared exactly. What a
turn was is kept as a digest, so that a long conversation takes no memory.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from claude_proxy.claude.configuration import Identity
from claude_proxy.claude.history import Turn
from claude_proxy.claude.stream_json import Json

# Reasoning comes back only from some clients, and then it is what the process has already.
COMPARED_LOOSELY = frozenset({"text", "tool_use", "thinking", "redacted_thinking"})
# Only what has to change is matched: an answer may have a million lines.
SUPERFLUOUS_BREAKS = re.compile(r"(?<![^\S\n])[^\S\n]\s*\n|\n\s*\n")
SUPERFLUOUS_BLANKS = re.compile(r"(?<=\S)(?: [^\S\n]+|[^\S\n ][^\S\n]*)")
LONGEST_ANSWER = 1_000_000
_encode = msgspec.json.Encoder(order="sorted").encode


class Transcript:
    """The turns that a process holds, the model's latest answer last."""

    def __init__(self, identity: Identity, turns: Sequence[bytes]) -> None:
        """``turns``: their digests."""
        self._identity = identity
        self._turns = list(turns)

    def known_of(self, identity: Identity, turns: Sequence[bytes]) -> int | None:
        """How many of the turns the process holds, which are never all; None when it differs."""
        known = len(self._turns)
        if identity != self._identity or len(turns) <= known:
            return None
        return known if turns[:known] == self._turns else None


def digests(turns: Sequence[Turn]) -> list[bytes]:
    """One for each turn, which depends on those before it but on none after."""
    ordinals: dict[str, int] = {}
    return [
        hashlib.sha256(_encode([turn.role, meaning(turn, ordinals)])).digest() for turn in turns
    ]


def meaning(turn: Turn, ordinals: dict[str, int]) -> Any:
    """What counts of a turn. Calls are known by their place in the conversation, not their id."""
    if turn.role == "user":
        return [
            {**block, "tool_use_id": ordinals.get(block["tool_use_id"], block["tool_use_id"])}
            if block["type"] == "tool_result"
            else block
            for block in turn.content
        ]
    calls = calls_of(turn)
    for call in calls:
        ordinals[call["id"]] = len(ordinals)
    said = "".join(block["text"] for block in turn.content if block["type"] == "text")
    made = [[call["name"], plain_numbers(call["input"])] for call in calls]
    other = [block for block in turn.content if block["type"] not in COMPARED_LOOSELY]
    return [words(said), made, other]


def words(text: str) -> str:
    """Without blank lines and superfluous blanks; indentation has a meaning, but not the first.

    What is longer than any answer need not be found to be one.
    """
    if len(text) > LONGEST_ANSWER:
        return text
    lines = "\n".join(text.strip().splitlines())
    return SUPERFLUOUS_BLANKS.sub(" ", SUPERFLUOUS_BREAKS.sub("\n", lines))


def plain_numbers(value: Any) -> Any:
    """JavaScript writes 1.0 as 1."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: plain_numbers(one) for key, one in value.items()}
        case list():
            return [plain_numbers(one) for one in value]
        case _:
            return value


def results_only(turn: Turn) -> bool:
    return all(block["type"] == "tool_result" for block in turn.content)


def call_ids(turn: Turn) -> list[str]:
    return [block["id"] for block in calls_of(turn)]


def calls_of(turn: Turn) -> list[Json]:
    return [block for block in turn.content if block["type"] == "tool_use"]
