"""What the simulator remembers for those who test with it: the requests, and the holds."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec

MAX_EXCHANGES = 512
MAX_BYTES = 64 * 1024 * 1024  # of raw request bodies
MAX_NAMES = 4096  # of holds
HOLD_LIMIT = 120.0  # seconds

T = TypeVar("T")
Outcome = Literal["running", "completed", "disconnected", "error"]
SECRET_HEADERS = frozenset({"authorization", "x-api-key", "cookie"})


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and what became of it. `parsed`: `raw` is valid JSON."""

    id: str
    path: str
    headers: dict[str, str]
    raw: bytes
    parsed: bool = False
    model: str | None = None
    outcome: Outcome = "running"
    status: int | None = None
    deltas: int = 0
    held: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "path": self.path,
            "model": self.model,
            "outcome": self.outcome,
            "held": self.held,
            "status": self.status,
            "headers": self.headers,
            "body": msgspec.Raw(self.raw) if self.parsed else None,
            "deltas": self.deltas,
        }

    def matches(self, contains: bytes, outcome: str) -> bool:
        if contains not in self.raw:
            return False
        if outcome == "held":
            return self.held
        return outcome in ("any", self.outcome)


@dataclass(slots=True)
class Record:
    """A ring of exchanges, oldest first; `wait` wakes up at every change."""

    exchanges: deque[Exchange] = field(default_factory=deque)
    _bytes: int = 0
    _waiting: set[asyncio.Event] = field(default_factory=set)

    def begin(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self._bytes += len(exchange.raw)
        while len(self.exchanges) > MAX_EXCHANGES or self._bytes > MAX_BYTES:
            self._bytes -= len(self.exchanges.popleft().raw)
        self.changed()

    def clear(self) -> None:
        self.exchanges.clear()
        self._bytes = 0

    def changed(self) -> None:
        for event in self._waiting:
            event.set()

    def finish(self, exchange: Exchange, outcome: Outcome) -> None:
        exchange.outcome = outcome
        exchange.held = False
        self.changed()

    def containing(self, text: str) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.matches(text.encode(), "any")]

    async def wait(self, contains: str, outcome: str, seconds: float) -> Exchange | None:
        """The newest exchange that matches, as soon as there is one; None after `seconds`."""
        needle = contains.encode()
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    for exchange in reversed(self.exchanges):
                        if exchange.matches(needle, outcome):
                            return exchange
                    event.clear()
                    await event.wait()
        except TimeoutError:
            return None
        finally:
            self._waiting.discard(event)


class Holds:
    """Named gates; once released, a gate stays open."""

    def __init__(self) -> None:
        self._gates: OrderedDict[str, asyncio.Event] = OrderedDict()

    def release(self, name: str) -> None:
        self._gate(name).set()

    async def wait(self, name: str) -> None:
        try:
            async with asyncio.timeout(HOLD_LIMIT):
                await self._gate(name).wait()
        except TimeoutError:
            pass

    def _gate(self, name: str) -> asyncio.Event:
        return _remember(self._gates, name, asyncio.Event)


class Failures:
    """How often a prompt has been answered with a failure: for `times=N`."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, list[int]] = OrderedDict()

    def next(self, prompt: str) -> int:
        """1 for the first time this prompt comes, 2 for the second..."""
        digest = hashlib.blake2b(prompt.encode(), digest_size=16).hexdigest()
        count = _remember(self._counts, digest, lambda: [0])
        count[0] += 1
        return count[0]


def _remember(names: OrderedDict[str, T], name: str, new: Callable[[], T]) -> T:
    """The value of `name`, made if need be; the names used longest ago are forgotten."""
    value = names[name] if name in names else names.setdefault(name, new())
    names.move_to_end(name)
    while len(names) > MAX_NAMES:
        names.popitem(last=False)
    return value
