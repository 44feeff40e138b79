"""The form of an answer that a client asks for. Pure."""

from __future__ import annotations

import re

from claude_proxy.dialect.schemas import ANY_OBJECT, object_schema
from claude_proxy.errors import InvalidRequest


def plain_schema(kind: str, at: str) -> str | None:
    """Of an answer's format that names no schema. Raises InvalidRequest."""
    if kind not in ("text", "json_object"):
        raise InvalidRequest(
            f"'{kind[:50]}' is none of text, json_object, json_schema",
            param=f"{at}.type",
            code="invalid_value",
        )
    return ANY_OBJECT if kind == "json_object" else None


def answer_schema(name: str, raw: bytes, at: str) -> str:
    """Of an object, as OpenAI demands it, and Claude's API of a tool's. ``at``: where both stand.

    Raises InvalidRequest.
    """
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
        raise InvalidRequest(
            "The name must have 1 to 64 letters, digits, _ and -", param=f"{at}.name"
        )
    if raw == b"null":
        return ANY_OBJECT
    return object_schema(raw, f"{at}.schema")
