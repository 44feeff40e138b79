"""The API's prompt cache and its bill, as a pure model; tokens are estimated.

The prompt is one sequence of blocks: tools, system, messages. A prefix is known by a running hash
over its blocks without their `cache_control`. A request reads the longest prefix that an earlier
one wrote, looking back at most 20 blocks from each of its marks, and writes a prefix at each of its
marks. An entry lives 5 minutes, or 1 hour with `"ttl": "1h"`, from its last use. The model is part
of every key; `thinking` and `tool_choice` are part of the messages' keys only, so changing them
keeps tools and system cached. (Anthropic's documentation, "Prompt caching".)
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from claude_proxy.simulator.prompt import Json, blocks_of

LOOKBACK = 20  # blocks, the marked one included
LIFETIMES = {"5m": 300.0, "1h": 3600.0}  # seconds
MAX_ENTRIES = 16_384
IMAGE_TOKENS = 1500
BLOCK_OVERHEAD = 4  # tokens
_VERSION = re.compile(r"claude-(?:opus|haiku)-(\d{1,2})(?:-(\d{1,2}))?(?!\d)")


@dataclass(frozen=True, slots=True)
class InputUsage:
    """Input tokens of one request: the four parts add up to the prompt."""

    uncached: int
    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def written(self) -> int:
        return self.written_5m + self.written_1h


@dataclass(frozen=True, slots=True)
class _Prefix:
    """The prompt up to and with one block; `ttl` is None where there is no mark."""

    key: bytes
    tokens: int
    ttl: str | None


@dataclass(slots=True)
class _Entry:
    lifetime: float  # seconds
    expires: float  # of the clock


class PromptCache:
    """`clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float], max_entries: int = MAX_ENTRIES) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def account(self, body: Json) -> InputUsage:
        """Reads and writes the cache for a validated request; what it costs."""
        prefixes = list(_prefixes(body))
        minimum = minimum_tokens(body["model"])
        marks = [
            index
            for index, prefix in enumerate(prefixes)
            if prefix.ttl is not None and prefix.tokens >= minimum
        ]
        hit = self._longest_hit(prefixes, marks)
        for index in marks:
            self._write(prefixes[index])
        return _bill(prefixes, marks, prefixes[hit].tokens if hit is not None else 0)

    def _longest_hit(self, prefixes: list[_Prefix], marks: list[int]) -> int | None:
        best: int | None = None
        for mark in reversed(marks):
            for index in range(mark, max(mark - LOOKBACK, -1), -1):
                if (best is None or index > best) and self._read(prefixes[index].key):
                    best = index
                    break
        return best

    def _read(self, key: bytes) -> bool:
        entry = self._entries.get(key)
        if entry is None:
            return False
        if entry.expires <= self._clock():
            del self._entries[key]
            return False
        entry.expires = self._clock() + entry.lifetime
        self._entries.move_to_end(key)
        return True

    def _write(self, prefix: _Prefix) -> None:
        lifetime = LIFETIMES[prefix.ttl or "5m"]
        if self._read(prefix.key):
            lifetime = max(lifetime, self._entries[prefix.key].lifetime)
        self._entries[prefix.key] = _Entry(lifetime, self._clock() + lifetime)
        self._entries.move_to_end(prefix.key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


def _bill(prefixes: list[_Prefix], marks: list[int], read: int) -> InputUsage:
    """What lies between the hit and a mark is written with that mark's lifetime."""
    written = dict.fromkeys(LIFETIMES, 0)
    cached = read
    for index in marks:
        prefix = prefixes[index]
        if prefix.tokens > cached:
            written[prefix.ttl or "5m"] += prefix.tokens - cached
            cached = prefix.tokens
    total = prefixes[-1].tokens if prefixes else 0
    return InputUsage(total - cached, read, written["5m"], written["1h"])


def minimum_tokens(model: str) -> int:
    """The shortest prefix that is cached: 4096 tokens for Opus and Haiku from 4.5 on, else 1024."""
    version = _VERSION.match(model)
    if version and (int(version[1]), int(version[2] or 0)) >= (4, 5):
        return 4096
    return 1024


def count_tokens(body: Json) -> int:
    """Tokens of the whole prompt of a validated request."""
    return sum(block_tokens(block) for _, block in _sequence(body))


def text_tokens(text: str) -> int:
    return -(-len(text.encode()) // 4)


def block_tokens(block: Json) -> int:
    """An estimate for any block, or for a tool definition."""
    return BLOCK_OVERHEAD + _content_tokens(block)


def _content_tokens(block: Json) -> int:
    match block.get("type"):
        case "text":
            return text_tokens(block["text"])
        case "image":
            return IMAGE_TOKENS
        case "document":
            data = (block.get("source") or {}).get("data")
            return len(data) * 3 // 4 // 3 if isinstance(data, str) else IMAGE_TOKENS
        case "tool_result":
            return sum(block_tokens(part) for part in blocks_of(block.get("content")))
        case _:
            return -(-len(_canonical(block)) // 4)


def _prefixes(body: Json) -> Iterator[_Prefix]:
    tokens = 0
    digest = hashlib.blake2b(body["model"].encode(), digest_size=16)
    section = ""
    sequence = list(_sequence(body))
    last_ttl = _ttl(body)  # a mark on the request itself is one on its last block
    for position, (where, block) in enumerate(sequence, 1):
        if not section.startswith("messages") and where.startswith("messages"):
            settings = [body.get("thinking"), body.get("tool_choice")]
            digest.update(msgspec.json.encode(settings, order="sorted"))
        section = where
        digest.update(b"\0%b\0%b" % (where.encode(), _canonical(block)))
        tokens += block_tokens(block)
        ttl = _ttl(block) or (last_ttl if position == len(sequence) else None)
        yield _Prefix(digest.digest(), tokens, ttl)


def _sequence(body: Json) -> Iterator[tuple[str, Json]]:
    """The prompt's blocks with the name of their section."""
    for tool in body.get("tools") or ():
        yield "tools", tool
    for block in blocks_of(body.get("system")):
        yield "system", block
    for message in body["messages"]:
        for block in blocks_of(message["content"]):
            yield f"messages/{message['role']}", block


def _ttl(block: Json) -> str | None:
    mark = block.get("cache_control")
    return str(mark.get("ttl") or "5m") if isinstance(mark, dict) else None


def _canonical(block: Json) -> bytes:
    """Only a block's own keys are sorted: the order inside a tool input or a schema is a part of
    the prompt, and changing it is a cache miss with the real API, too."""
    bare = {key: block[key] for key in sorted(block) if key != "cache_control"}
    return msgspec.json.encode(bare)
