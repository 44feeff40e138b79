"""A JSON value that fits a JSON Schema: what the simulator gives as structured output.

Covers what structured outputs allow: objects, arrays, enum, const, the scalar types, anyOf/oneOf/
allOf, lists of types and `$ref` into the schema itself. Bounds are kept as far as one value can.
"""

from __future__ import annotations

from typing import Any

from claude_proxy.simulator.errors import invalid

Schema = dict[str, Any]

ALL_PROPERTIES_DEPTH = 4  # below that only what is required, so that recursive schemas end
DEPTH_LIMIT = 48

_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def sample(schema: object) -> Any:
    """`schema`: a decoded JSON Schema; ApiError 400 if it is none."""
    root = schema if isinstance(schema, dict) else {}
    try:
        return _sample(root, root, 0)
    except (TypeError, AttributeError, ValueError, LookupError, RecursionError) as error:
        raise invalid(f"invalid JSON schema: {error}") from None


def _sample(schema: object, root: Schema, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > DEPTH_LIMIT:
        return None
    schema = _resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return _sample(_simplest(choices, root), root, depth + 1)
    return _of_type(schema, root, depth)


def _of_type(schema: Schema, root: Schema, depth: int) -> Any:
    match _type_of(schema):
        case "object":
            value: Any = _object(schema, root, depth)
        case "array":
            value = _array(schema, root, depth)
        case "string":
            value = _string(schema)
        case "integer" | "number":
            value = _number(schema)
        case kind:
            value = True if kind == "boolean" else None
    return value


def _resolve(schema: Schema, root: Schema) -> Schema:
    """Follows `$ref` (a JSON pointer into the schema) and merges `allOf`."""
    for _ in range(DEPTH_LIMIT):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        target: Any = root
        for part in reference.removeprefix("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            target = target.get(key, {}) if isinstance(target, dict) else {}
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**(target if isinstance(target, dict) else {}), **rest}
    return _merge_all_of(schema, root)


def _merge_all_of(schema: Schema, root: Schema) -> Schema:
    merged = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema.get("allOf", ()):
        more = part if "allOf" in part else _resolve(part, root)
        properties = {**merged.get("properties", {}), **more.get("properties", {})}
        required = [*merged.get("required", ()), *more.get("required", ())]
        merged = {**more, **merged}
        if properties:
            merged |= {"properties": properties, "required": required}
    return merged


def _simplest(choices: list[object], root: Schema) -> object:
    """The first of the cheapest kind; a `$ref` comes last, as it may be a recursion."""

    def cost(choice: object) -> int:
        if not isinstance(choice, dict) or "$ref" in choice:
            return 3
        kind = _type_of(_resolve(choice, root))
        return {"object": 1, "array": 1, "null": 2}.get(kind, 0)

    return min(choices, key=cost)


def _type_of(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _object(schema: Schema, root: Schema, depth: int) -> dict[str, Any]:
    required = schema.get("required", [])
    properties = schema.get("properties", {})
    return {
        name: _sample(inner, root, depth + 1)
        for name, inner in properties.items()
        if depth < ALL_PROPERTIES_DEPTH or name in required
    }


def _array(schema: Schema, root: Schema, depth: int) -> list[Any]:
    first = schema.get("prefixItems", [])
    count = schema.get("minItems", 0 if depth >= ALL_PROPERTIES_DEPTH or first else 1)
    items = [*first, *[schema.get("items")] * (min(count, 64) - len(first))]
    return [_sample(item, root, depth + 1) for item in items]


def _string(schema: Schema) -> str:
    text: str = _FORMATS.get(schema.get("format", ""), "sample")
    text += "x" * (min(schema.get("minLength", 0), 4096) - len(text))
    return text[: schema["maxLength"]] if "maxLength" in schema else text


def _number(schema: Schema) -> float:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if above is not None and below is not None and above + 1 >= below:
        return float(above + below) / 2
    low = above + 1 if low is None and above is not None else low
    high = below - 1 if high is None and below is not None else high
    number: float = 1 if low is None else max(low, 1)
    number = number if high is None else min(number, high)
    step = schema.get("multipleOf")
    return -(-number // step) * step if step else number
