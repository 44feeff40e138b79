"""A client's JSON Schema as the CLI's validator takes it. Pure.

The CLI validates structured output with Ajv in strict mode, draft 7, and offers no structured
output at all, without a word, when a schema has a keyword that draft 7 does not know or another
``$schema`` (measured with 2.1.330). So its validator gets a copy in the words of draft 7, while
the model sees the schema itself. The copy is never stricter than the original.
"""

from __future__ import annotations

from typing import Any

from claude_proxy.claude.stream_json import Json

VALUES = frozenset(
    {
        *("type", "enum", "const", "required", "format", "pattern", "default", "title"),
        *("description", "multipleOf", "minimum", "maximum", "exclusiveMinimum"),
        *("exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems"),
        *("minProperties", "maxProperties", "$ref", "$id", "examples"),
    }
)
SCHEMAS = frozenset({"additionalProperties", "propertyNames", "items", "additionalItems"})
LISTS = frozenset({"anyOf", "allOf"})
MAPS = frozenset({"properties", "patternProperties", "definitions", "$defs"})
# A looser part makes these stricter, so they stay only when nothing had to be left out.
NEGATIONS = frozenset({"oneOf", "not", "if", "then", "else", "contains"})


def draft_7(schema: Any) -> Any:
    """The schema itself when draft 7 has words for all of it, else a looser one."""
    if not isinstance(schema, dict):
        return schema
    bare = {keyword: value for keyword, value in schema.items() if keyword != "$schema"}
    exact: Json = copied(bare, loose=False)
    return exact if exact == bare else copied(bare, loose=True)


def copied(schema: Any, *, loose: bool) -> Any:
    """Without what draft 7 does not know; booleans and nonsense stay as they are."""
    if isinstance(schema, list):
        return [copied(one, loose=loose) for one in schema]
    if not isinstance(schema, dict):
        return schema
    copy: Json = {}
    for keyword, value in schema.items():
        if keyword in VALUES or (keyword == "nullable" and "type" in schema):
            copy[keyword] = value
        elif keyword in MAPS and isinstance(value, dict):
            copy[keyword] = {name: copied(one, loose=loose) for name, one in value.items()}
        elif keyword in SCHEMAS or keyword in LISTS or (keyword in NEGATIONS and not loose):
            copy[keyword] = copied(value, loose=loose)
    return loosened(copy, schema) if loose else copy


def loosened(copy: Json, schema: Json) -> Json:
    if "oneOf" in schema and isinstance(copy.get("allOf", []), list):
        some = {"anyOf": copied(schema["oneOf"], loose=True)}
        copy["allOf"] = [*copy.get("allOf", []), some]
    prefix = schema.get("prefixItems")
    if isinstance(prefix, list):
        copy.pop("additionalItems", None)
        if "items" in copy:
            copy["additionalItems"] = copy["items"]
        copy["items"] = copied(prefix, loose=True)
    return copy
