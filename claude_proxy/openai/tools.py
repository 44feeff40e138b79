"""Chat Completions: tools, the choice among them and the answer's format. Pure.

``functions`` and ``function_call`` are the older spelling of ``tools`` and ``tool_choice``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from claude_proxy.conversation import Tool, ToolChoice, ToolUse
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.body import json_object

NO_ARGUMENTS = '{"type":"object","properties":{}}'
LONGEST_NAME = 1_024
COMBINATIONS = ("anyOf", "oneOf", "allOf", "not")
ANY_OBJECT = '{"type":"object"}'


class FunctionTool(msgspec.Struct):
    """``strict`` has no counterpart that takes every schema: the model is not held to it."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"null")
    strict: bool | None = None


class ToolSpec(msgspec.Struct):
    type: str = "function"
    function: FunctionTool | None = None


class Named(msgspec.Struct):
    name: str


class AllowedTools(msgspec.Struct):
    mode: str
    tools: list[ToolSpecName]


class ToolSpecName(msgspec.Struct):
    function: Named | None = None
    type: str = "function"


class ChoiceSpec(msgspec.Struct):
    type: str = "function"
    function: Named | None = None
    allowed_tools: AllowedTools | None = None


class JsonSchema(msgspec.Struct):
    name: str
    description: str | None = None
    schema: msgspec.Raw = msgspec.Raw(b"null")
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    type: str
    json_schema: JsonSchema | None = None


def to_tools(specs: Iterable[ToolSpec]) -> tuple[Tool, ...]:
    """Raises InvalidRequest."""
    functions: list[tuple[FunctionTool, str]] = []
    for index, spec in enumerate(specs):
        if spec.type != "function":
            raise InvalidRequest(
                f"Tools of type '{spec.type[:50]}' cannot be had here, only functions",
                param=f"tools[{index}].type",
                code="unsupported_value",
            )
        if spec.function is None:
            raise InvalidRequest("The function is missing", param=f"tools[{index}].function")
        functions.append((spec.function, f"tools[{index}].function"))
    return unique(functions)


def old_to_tools(functions: Iterable[FunctionTool]) -> tuple[Tool, ...]:
    return unique((function, f"functions[{index}]") for index, function in enumerate(functions))


def unique(functions: Iterable[tuple[FunctionTool, str]]) -> tuple[Tool, ...]:
    tools: dict[str, Tool] = {}
    for function, at in functions:
        name = function.name
        if not name.strip() or len(name) > LONGEST_NAME:
            raise InvalidRequest(
                f"The name of a tool must have 1 to {LONGEST_NAME} characters", param=f"{at}.name"
            )
        if name in tools:
            raise InvalidRequest(f"Two tools have the name '{name[:100]}'", param=f"{at}.name")
        schema = parameters(bytes(function.parameters), f"{at}.parameters")
        tools[name] = Tool(name, schema, function.description)
    return tuple(tools.values())


def parameters(raw: bytes, param: str) -> str:
    """As the client wrote them; the API wants them to say that they are an object."""
    if raw == b"null":
        return NO_ARGUMENTS
    return typed(raw, schema_object(raw, param))


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


def to_choice(
    spec: str | ChoiceSpec | None, tools: tuple[Tool, ...], *, parallel: bool
) -> tuple[ToolChoice, tuple[Tool, ...]]:
    """The choice, and the tools that it leaves. Raises InvalidRequest."""
    if isinstance(spec, ChoiceSpec) and spec.type == "allowed_tools":
        return among(spec.allowed_tools, tools, parallel=parallel)
    if isinstance(spec, ChoiceSpec):
        name = spec.function.name if spec.function and spec.type == "function" else None
        if name is None:
            raise InvalidRequest(
                "Only a function can be chosen", param="tool_choice", code="unsupported_value"
            )
        return named(name, tools, "tool_choice", parallel=parallel), tools
    use = mode(spec or "auto", "tool_choice")
    if use is ToolUse.REQUIRED and not tools:
        raise InvalidRequest("A call is required, but there are no tools", param="tool_choice")
    return ToolChoice(use, parallel=parallel), tools


def old_to_choice(spec: str | Named | None, tools: tuple[Tool, ...]) -> ToolChoice:
    """An answer in the old form holds one call at most."""
    if isinstance(spec, Named):
        return named(spec.name, tools, "function_call", parallel=False)
    use = mode(spec or "auto", "function_call")
    return ToolChoice(use, parallel=False)


def mode(word: str, param: str) -> ToolUse:
    try:
        return ToolUse(word)
    except ValueError:
        raise InvalidRequest(
            f"'{word[:50]}' is none of auto, none, required", param=param, code="invalid_value"
        ) from None


def named(name: str, tools: tuple[Tool, ...], param: str, *, parallel: bool) -> ToolChoice:
    if name not in {tool.name for tool in tools}:
        raise InvalidRequest(f"There is no tool '{name[:100]}' to choose", param=param)
    return ToolChoice(ToolUse.REQUIRED, name, parallel)


def among(
    allowed: AllowedTools | None, tools: tuple[Tool, ...], *, parallel: bool
) -> tuple[ToolChoice, tuple[Tool, ...]]:
    """Claude's API has no such choice: the others are not offered at all."""
    names = {tool.function.name for tool in (allowed.tools if allowed else ()) if tool.function}
    left = tuple(tool for tool in tools if tool.name in names)
    if allowed is None or not left:
        raise InvalidRequest("No tool is allowed", param="tool_choice.allowed_tools.tools")
    use = mode(allowed.mode, "tool_choice.allowed_tools.mode")
    return ToolChoice(use, parallel=parallel), left


def to_schema(form: ResponseFormat | None) -> str | None:
    """The JSON Schema of the answer, None for text. Raises InvalidRequest."""
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return ANY_OBJECT
    if form.type != "json_schema":
        raise InvalidRequest(
            f"'{form.type[:50]}' is none of text, json_object, json_schema",
            param="response_format.type",
            code="invalid_value",
        )
    if form.json_schema is None:
        raise InvalidRequest("The schema is missing", param="response_format.json_schema")
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", form.json_schema.name):
        raise InvalidRequest(
            "The name must have 1 to 64 letters, digits, _ and -",
            param="response_format.json_schema.name",
        )
    return answer_schema(form.json_schema)


def answer_schema(given: JsonSchema) -> str:
    """Of an object, as OpenAI demands it, and Claude's API of a tool's."""
    param = "response_format.json_schema.schema"
    raw = bytes(given.schema)
    if raw == b"null":
        return ANY_OBJECT
    schema = schema_object(raw, param)
    kind = schema.get("type", None if any(word in schema for word in COMBINATIONS) else "object")
    if kind != "object":
        raise InvalidRequest("The root of the schema must be an object", param=param)
    return typed(raw, schema)
