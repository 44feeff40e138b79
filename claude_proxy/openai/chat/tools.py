"""Chat Completions: tools, the choice among them and the answer's format. Pure.

``functions`` and ``function_call`` are the older spelling of ``tools`` and ``tool_choice``.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from claude_proxy.conversation import Tool, ToolChoice
from claude_proxy.dialect.body import null
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai import functions
from claude_proxy.openai.functions import FunctionTool, by_mode, named
from claude_proxy.openai.schemas import answer_schema, plain_schema


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
    schema: msgspec.Raw = msgspec.field(default_factory=null)
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    type: str
    json_schema: JsonSchema | None = None


def to_tools(specs: Iterable[ToolSpec]) -> tuple[Tool, ...]:
    """Raises InvalidRequest."""
    offered: list[tuple[FunctionTool, str]] = []
    for index, spec in enumerate(specs):
        if spec.type != "function":
            raise InvalidRequest(
                f"Tools of type '{spec.type[:50]}' cannot be had here, only functions",
                param=f"tools[{index}].type",
                code="unsupported_value",
            )
        if spec.function is None:
            raise InvalidRequest("The function is missing", param=f"tools[{index}].function")
        offered.append((spec.function, f"tools[{index}].function"))
    return functions.to_tools(offered)


def old_to_tools(given: Iterable[FunctionTool]) -> tuple[Tool, ...]:
    return functions.to_tools((one, f"functions[{index}]") for index, one in enumerate(given))


def to_choice(
    spec: str | ChoiceSpec | None, tools: tuple[Tool, ...], *, parallel: bool
) -> tuple[ToolChoice, tuple[Tool, ...]]:
    """The choice, and the tools that it leaves. Raises InvalidRequest."""
    if not isinstance(spec, ChoiceSpec):
        return by_mode(spec or "auto", tools, parallel=parallel), tools
    if spec.type == "allowed_tools":
        return among(spec.allowed_tools, tools, parallel=parallel)
    name = spec.function.name if spec.function and spec.type == "function" else None
    if name is None:
        raise InvalidRequest(
            "Only a function can be chosen", param="tool_choice", code="unsupported_value"
        )
    return named(name, tools, "tool_choice", parallel=parallel), tools


def old_to_choice(spec: str | Named | None, tools: tuple[Tool, ...]) -> ToolChoice:
    """An answer in the old form holds one call at most."""
    if isinstance(spec, Named):
        return named(spec.name, tools, "function_call", parallel=False)
    return ToolChoice(functions.mode(spec or "auto", "function_call"), parallel=False)


def among(
    allowed: AllowedTools | None, tools: tuple[Tool, ...], *, parallel: bool
) -> tuple[ToolChoice, tuple[Tool, ...]]:
    given = allowed or AllowedTools("auto", [])
    names = {tool.function.name for tool in given.tools if tool.function}
    left = functions.among(names, tools, "tool_choice.allowed_tools.tools")
    use = functions.mode(given.mode, "tool_choice.allowed_tools.mode")
    return ToolChoice(use, parallel=parallel), left


def to_schema(form: ResponseFormat | None) -> str | None:
    """The JSON Schema of the answer, None for text. Raises InvalidRequest."""
    if form is None or form.type != "json_schema":
        return plain_schema(form.type if form else "text", "response_format")
    if form.json_schema is None:
        raise InvalidRequest("The schema is missing", param="response_format.json_schema")
    given = form.json_schema
    return answer_schema(given.name, bytes(given.schema), "response_format.json_schema")
