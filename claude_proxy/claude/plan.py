"""The limits of the user's plan, as the CLI has last told of them.

Its ``rate_limit_event`` comes with an answer, under a subscription login alone, when something
has changed (measured with 2.1.332): one window is the decisive one, all are in
``unifiedWindows``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from claude_proxy.claude.stream_json import RateLimitInfo

WORD = re.compile(r"[a-z0-9_]{1,40}")
MOST_WINDOWS = 16
LATEST = 2.0**32  # in Unix seconds: the year 2106


@dataclass(frozen=True, slots=True)
class Window:
    """``used`` from 0 to 1; ``resets_at`` is Unix time in seconds; ``status`` the CLI's word:
    allowed, allowed_warning, rejected.
    """

    name: str
    status: str
    used: float | None = None
    resets_at: float | None = None


class Told(msgspec.Struct):
    """One of ``unifiedWindows``."""

    status: str = ""
    utilization: float | None = None
    resetsAt: float | None = None  # noqa: N815 - the CLI's name


class Plan:
    """``decisive`` names the window that would stop the user first."""

    def __init__(self) -> None:
        self.windows: dict[str, Window] = {}
        self.decisive: str | None = None

    def update(self, info: RateLimitInfo | None) -> None:
        if info is None:
            return
        for name, told in windows(info.unifiedWindows).items():
            self._put(name, told.status, told.utilization, told.resetsAt)
        if decisive := info.rateLimitType:
            self.decisive = decisive
            self._put(decisive, info.status, info.utilization, info.resetsAt)

    def _put(self, name: str, status: str, used: float | None, resets_at: float | None) -> None:
        """Words only: they go into headers. A time that is none is left out."""
        known = name in self.windows or len(self.windows) < MOST_WINDOWS
        if known and WORD.fullmatch(name) and WORD.fullmatch(status):
            sane = resets_at is not None and 0 <= resets_at <= LATEST
            self.windows[name] = Window(name, status, used, resets_at if sane else None)

    def current(self, now: float) -> list[Window]:
        """Without those that have been reset since; nothing is known of the new ones."""
        return [each for each in self.windows.values() if (each.resets_at or now + 1) > now]


def windows(told: Any) -> Mapping[str, Told]:
    """None of it when it has changed its form: an answer must not fail for it."""
    try:
        return msgspec.convert(told or {}, dict[str, Told])
    except msgspec.ValidationError:
        return {}
