"""Reading a decoded Messages request: blocks, turns, the text the user wrote last.

A request body is a decoded JSON object, kept as such because the simulator has to look at every
field the way it arrived, known to it or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

# how older CLIs put their environment note into a user message
_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>\s*", re.DOTALL)


def blocks_of(content: object) -> list[Json]:
    """`content` of a message, tool result or system prompt; a string is one text block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return []
    return [block for block in content if isinstance(block, dict)]


def last_user_blocks(body: Json) -> list[Json]:
    """The last message's blocks, not counting notes of role system that the CLI appends."""
    for message in reversed(body["messages"]):
        if message["role"] != "system":
            return blocks_of(message["content"])
    return []


def texts(blocks: list[Json]) -> list[str]:
    """Texts of the text blocks, without the CLI's reminders."""
    found = (block["text"] for block in blocks if block.get("type") == "text")
    return [text for text in (_REMINDER.sub("", text) for text in found) if text.strip()]


def tool_result_texts(blocks: list[Json]) -> list[str]:
    results = [block for block in blocks if block.get("type") == "tool_result"]
    return [text for block in results for text in texts(blocks_of(block.get("content")))]


def marked(body: Json) -> Iterator[Json]:
    """Every block that can carry a `cache_control` mark, in the order of the prompt."""
    yield from (tool for tool in body.get("tools") or () if isinstance(tool, dict))
    yield from blocks_of(body.get("system"))
    for message in body["messages"]:
        yield from blocks_of(message["content"])


def thinks(body: Json) -> bool:
    """Whether thinking is switched on."""
    return (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
