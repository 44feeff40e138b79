"""What this API is, as an OpenAPI 3.1 document, made of the structs that read and write it.

A new route needs one entry in ``operation.operations``; a test holds it to the routes that there
are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any, TypeAlias

import msgspec

from claude_proxy import __version__
from claude_proxy.anthropic.blocks import BLOCKS
from claude_proxy.anthropic.tools import ToolHead
from claude_proxy.errors import AnthropicError, OpenAIError
from claude_proxy.openai.functions import FunctionTool
from claude_proxy.openai.responses.items import KINDS, TRACES, ItemReference
from claude_proxy.openai.responses.toolbox import ChoiceSpec, CustomTool, Namespace
from claude_proxy.operation import ERRORS, EVENTS, JSON, Operation, operations

Json: TypeAlias = dict[str, Any]

REF = "#/components/schemas/{name}"
# What the structs leave open, as another decoder reads it later.
TOOLS = (FunctionTool, CustomTool, Namespace)


@cache
def document() -> bytes:
    """As JSON."""
    table = operations()
    every = [operation for methods in table.values() for operation in methods.values()]
    schemas, components = msgspec.json.schema_components(types_of(every), ref_template=REF)
    references = dict(zip(types_of(every), schemas, strict=True))
    refine(components, references)
    paths = {
        path: {
            **({"parameters": path_parameters(path)} if "{" in path else {}),
            **{method.lower(): described(one, references) for method, one in methods.items()},
        }
        for path, methods in table.items()
    }
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "claude-proxy",
                "version": __version__,
                "description": "Your own Claude Code CLI as a local OpenAI and "
                "Anthropic API. What the schemas cannot say (tools that are named must be "
                "offered, and the like) is a 400; unknown fields are skipped, and of two equal "
                "keys the last one counts.",
            },
            "servers": [{"url": "/v1"}, {"url": "/"}],
            "security": [{"bearer": []}, {"header": []}],
            "paths": paths,
            "components": {
                "schemas": components,
                "headers": {"x-request-id": {"required": True, "schema": {"type": "string"}}},
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                },
            },
        }
    )


def types_of(every: Iterable[Operation]) -> list[Any]:
    """All types that are referred to, each once."""
    found: list[Any] = [
        OpenAIError,
        AnthropicError,
        *BLOCKS,
        ToolHead,
        *KINDS.values(),
        ItemReference,
        *TOOLS,
        ChoiceSpec,
    ]
    for one in every:
        found += [*one.answers.values(), one.body, one.query, one.unready, one.or_else]
    return list({kind: None for kind in found if kind is not None})


def refine(components: Json, references: dict[Any, Json]) -> None:
    """What the request keeps as it came, to be read when its kind is known."""
    trace = {"properties": {"type": {"enum": sorted(TRACES)}}, "required": ["type"]}
    items = [references[kind] for kind in (*KINDS.values(), ItemReference)]
    asked = components["ResponsesRequest"]["properties"]
    for form in asked["input"]["anyOf"]:
        if form["type"] == "array":
            form["items"] = {"anyOf": [*items, {"type": "object", **trace}]}
    for form in asked["tools"]["anyOf"]:
        if form["type"] == "array":
            hosted = {"type": "object", "properties": {"type": {"type": "string"}}}
            form["items"] = {"anyOf": [*(references[kind] for kind in TOOLS), hosted]}
    refine_anthropics(components, references)
    choice = [{"type": "string"}, {"type": "null"}, references[ChoiceSpec]]
    asked["tool_choice"] = {**asked["tool_choice"], "anyOf": choice}


def refine_anthropics(components: Json, references: dict[Any, Json]) -> None:
    """Blocks and tools, which are read by their type."""
    blocks = [references[kind] for kind in BLOCKS]
    for holder, field in (("WireMessage", "content"), ("ToolResultBlock", "content")):
        for form in components[holder]["properties"][field]["anyOf"]:
            if form.get("type") == "array":
                form["items"] = {"anyOf": blocks}
    for request in ("MessagesRequest", "CountRequest"):
        for form in components[request]["properties"]["tools"]["anyOf"]:
            if form.get("type") == "array":
                form["items"] = references[ToolHead]


def described(operation: Operation, references: dict[Any, Json]) -> Json:
    told: Json = {"summary": operation.summary, "responses": responses(operation, references)}
    if operation.body is not None:
        content = {JSON: {"schema": references[operation.body]}}
        told["requestBody"] = {"required": True, "content": content}
    if operation.query is not None:
        told["parameters"] = query_parameters(operation)
    if operation.is_open:
        told["security"] = []
    return told


def responses(operation: Operation, references: dict[Any, Json]) -> Json:
    """By status; every one carries its request's id."""
    told: Json = {}
    broken = references[AnthropicError if operation.is_anthropics else OpenAIError]
    if operation.answers:
        content = {
            media_type: {
                "schema": {"type": "string"},
                "x-event-schema": {"anyOf": [references[kind], broken]},
            }
            if media_type == EVENTS
            else {"schema": either(kind, operation.or_else, references)}
            for media_type, kind in operation.answers.items()
        }
        told["200"] = {"description": "It worked", "content": content}
    for status in operation.errors:
        schema = broken
        if status == 503 and operation.unready is not None:
            schema = {"anyOf": [references[operation.unready], broken]}
        content = {JSON: {"schema": schema}}
        told[str(status)] = {"description": ERRORS[status], "content": content}
    identified = {"x-request-id": {"$ref": "#/components/headers/x-request-id"}}
    return {status: {**one, "headers": identified} for status, one in told.items()}


def either(kind: Any, other: Any, references: dict[Any, Json]) -> Json:
    return {"anyOf": [references[kind], references[other]]} if other else references[kind]


def path_parameters(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def query_parameters(operation: Operation) -> list[Json]:
    schema = msgspec.json.schema(operation.query)
    (struct,) = schema["$defs"].values()
    named = [
        {"name": name, "in": "query", "required": False, "schema": one}
        for name, one in struct["properties"].items()
    ]
    texts = {"type": "array", "items": {"type": "string"}}
    lists = [
        {"name": name, "in": "query", "required": False, "schema": texts}
        for name in operation.lists
    ]
    return [*named, *lists]
