"""JSON Schemas as clients write them. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from claude_proxy.dialect.body import json_object
from claude_proxy.errors import InvalidRequest

COMBINATIONS = ("anyOf", "oneOf", "allOf", "not")
ANY_OBJECT = '{"type":"object"}'


def typed(raw: bytes, schema: dict[str, Any]) -> str:
    """``schema`` is what ``raw`` says; the API wants one to say that it is of an object."""
    if "type" in schema:
        return raw.decode()
    return msgspec.json.encode({"type": "object", **schema}).decode()


def schema_object(raw: bytes, param: str) -> dict[str, Any]:
    try:
        return json_object(raw)
    except ValueError as error:
        raise InvalidRequest(f"The JSON Schema is unusable: {error}", param=param) from None


def object_schema(raw: bytes, param: str) -> str:
    """Of an answer, which must be an object. Raises InvalidRequest."""
    schema = schema_object(raw, param)
    kind = schema.get("type", None if any(word in schema for word in COMBINATIONS) else "object")
    if kind != "object":
        raise InvalidRequest("The root of the schema must be an object", param=param)
    return typed(raw, schema)
