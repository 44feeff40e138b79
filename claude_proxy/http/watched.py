"""Requests that only watch what goes on: neither the idle exit nor the drain waits for them."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Scope

MARK = "claude_proxy.only_watches"


def mark(scope: Scope) -> None:
    scope[MARK] = True


def is_marked(scope: Mapping[str, object]) -> bool:
    return MARK in scope
