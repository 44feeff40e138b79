"""JSON Schemas: of tools, and of answers. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.body import json_object

ANY_OBJECT = '{"type":"object"}'
COMBINATIONS = ("anyOf", "oneOf", "allOf", "not")


def typed(raw: bytes, schema: dict[str, Any]) -> str:
    """``schema`` is what ``raw`` says."""
    if "type" in schema:
        return raw.decode()
    return msgspec.json.encode({"type": "object", **schema}).decode()


def schema_object(raw: bytes, param: str) -> dict[str, Any]:
    try:
        return json_object(raw)
    except ValueError as error:
        raise InvalidRequest(f"The JSON Schema is unusable: {error}", param=param) from None


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
    param = f"{at}.schema"
    schema = schema_object(raw, param)
    kind = schema.get("type", None if any(word in schema for word in COMBINATIONS) else "object")
    if kind != "object":
        raise InvalidRequest("The root of the schema must be an object", param=param)
    return typed(raw, schema)
