"""What an answer's headers say of limits: in OpenAI's names where those mean the same.

Of the plan the CLI tells how much of a window is used and when it is reset, but no number of
tokens; so only ``x-ratelimit-reset-tokens`` is OpenAI's, and ``x-claude-proxy-plan`` has all:
``five_hour;used=0.91;reset=1795763350;status=allowed_warning, seven_day;used=0.33;...``
"""

from __future__ import annotations

import math

from claude_proxy.claude.plan import Plan, Window
from claude_proxy.money.rate import Left


def of_requests(left: Left) -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": str(left.limit),
        "x-ratelimit-remaining-requests": str(left.remaining),
        "x-ratelimit-reset-requests": go_duration(left.reset),
    }


def of_plan(plan: Plan, now: float) -> dict[str, str]:
    """``now`` is Unix time in seconds."""
    windows = plan.current(now)
    headers = {}
    for window in windows:
        if window.name == plan.decisive and window.resets_at is not None:
            headers["x-ratelimit-reset-tokens"] = go_duration(window.resets_at - now)
    if windows:
        headers["x-claude-proxy-plan"] = ", ".join(map(described, windows))
    return headers


def described(window: Window) -> str:
    known = {
        "used": None if window.used is None else f"{window.used:g}",
        "reset": None if window.resets_at is None else f"{window.resets_at:.0f}",
        "status": window.status or None,
    }
    return ";".join([window.name, *(f"{key}={value}" for key, value in known.items() if value)])


def go_duration(seconds: float) -> str:
    """As Go writes times: ``6m0s``, ``1.5s``, ``20ms``. Rounded up: whoever waits that long has
    waited enough.
    """
    if seconds < 1:
        return f"{max(0, math.ceil(seconds * 1_000))}ms"
    if seconds < 60:
        return f"{math.ceil(seconds * 10) / 10:g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
