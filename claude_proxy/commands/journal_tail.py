"""The last warnings and errors of the service, a line each, from ``journalctl -o json``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from claude_proxy.commands import external, units

LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
# Fields in which the daemon's records say why, the first one that is there counts.
WHY = ("REASON", "ERROR", "NOTE")
LONGEST = 200


def last(count: int, environ: Mapping[str, str]) -> list[str] | None:
    """Oldest first; None when the journal did not answer."""
    words = ["journalctl", "--user", f"--unit={units.SERVICE}", "--priority=warning"]
    words += [f"--lines={count}", "--output=json", "--no-pager", "--quiet", "--all"]
    done = external.run(words, environ)
    if not done.went_well:
        return None
    return [line for text in done.output.splitlines() if (line := line_of(text))]


def line_of(text: str) -> str | None:
    """``2026-08-01 12:00:00 warning claude.not_logged_in: run `claude` once``."""
    try:
        entry = msgspec.json.decode(text, type=dict[str, Any])
        moment = datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
        level = LEVELS[int(entry["PRIORITY"])]
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError, IndexError, OverflowError):
        return None
    event = entry.get("EVENT")
    why = next((entry[field] for field in WHY if entry.get(field)), None)
    said = ": ".join(plain(each) for each in (event, why) if each) or plain(entry.get("MESSAGE"))
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S} {level} {said}"


def plain(value: object) -> str:
    """What is no text comes as a list of bytes."""
    if isinstance(value, list) and all(isinstance(each, int) for each in value):
        value = bytes(each & 0xFF for each in value).decode("utf-8", "backslashreplace")
    text = " ".join(str(value or "").split())
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "..."
