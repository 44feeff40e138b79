"""Tool calls of a conversation that wait for their results. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Generic, TypeVar

from claude_proxy.errors import InvalidRequest

Place = TypeVar("Place")


class OpenCalls(Generic[Place]):
    """By their ids; each with whatever the caller wants to know of where it stands."""

    def __init__(self) -> None:
        self._waiting: dict[str, Place] = {}
        self._spellings: dict[str, dict[str, None]] = {}

    def __iter__(self) -> Iterator[tuple[str, Place]]:
        return iter(self._waiting.items())

    def first(self) -> str | None:
        return next(iter(self._waiting), None)

    def expect(self, id_: str, place: Place, param: str) -> None:
        """Raises InvalidRequest."""
        if id_ in self._waiting:
            raise InvalidRequest(f"The id '{id_[:100]}' stands for two calls", param=param)
        self._waiting[id_] = place
        self._spellings.setdefault(bare(id_), {})[id_] = None

    def answer(self, given: str) -> tuple[str, Place] | None:
        """The call's own id and its place; None when no call waits for that result."""
        id_ = self._find(given)
        if id_ not in self._waiting:
            return None
        del self._spellings[bare(id_)][id_]
        return id_, self._waiting.pop(id_)

    def _find(self, given: str) -> str:
        """Some clients drop the punctuation of an id in one of its two places."""
        if given in self._waiting:
            return given
        same = self._spellings.get(bare(given), {})
        return next(iter(same)) if len(same) == 1 else given


def bare(id_: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]", "", id_)
