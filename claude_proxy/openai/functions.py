"""Functions that the model may call, and the choice among them: what both APIs have. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from claude_proxy.conversation import Tool, ToolChoice, ToolUse
from claude_proxy.dialect.body import MOST_TOOLS, MOST_VALUES, is_wide, json_object, null
from claude_proxy.dialect.schemas import schema_object, typed
from claude_proxy.errors import InvalidRequest

NO_ARGUMENTS = '{"type":"object","properties":{}}'
LONGEST_NAME = 1_024


class FunctionTool(msgspec.Struct):
    """``strict`` has no counterpart that takes every schema: the model is not held to it."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.field(default_factory=null)
    strict: bool | None = None


def to_tools(functions: Iterable[tuple[FunctionTool, str]]) -> tuple[Tool, ...]:
    """Each with its place in the request. Raises InvalidRequest, also for a name that is twice."""
    tools: dict[str, Tool] = {}
    for function, at in functions:
        name = function.name
        if len(tools) == MOST_TOOLS:
            raise InvalidRequest(f"There are more than {MOST_TOOLS} tools", param="tools")
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


def arguments_of(given: str, param: str) -> str:
    """A call's arguments, which some clients leave blank when there are none."""
    arguments = given.strip() or "{}"
    try:
        json_object(arguments.encode())
    except ValueError as error:
        raise InvalidRequest(
            f"The arguments of a tool call are unusable: {error}", param=param
        ) from None
    return arguments


def refuse_wide(arguments: Iterable[tuple[str, str]]) -> None:
    """Of all calls, each with its place: the body has them as strings. Raises InvalidRequest."""
    given = list(arguments)
    if is_wide(",".join(text for text, _ in given).encode(), MOST_VALUES):
        _, largest = max(given, key=lambda one: len(one[0]))
        raise InvalidRequest(
            f"The arguments of all calls hold more than {MOST_VALUES} values", param=largest
        )


def by_mode(word: str, tools: tuple[Tool, ...], *, parallel: bool) -> ToolChoice:
    """``auto``, ``none`` or ``required``. Raises InvalidRequest."""
    use = mode(word, "tool_choice")
    if use is ToolUse.REQUIRED and not tools:
        raise InvalidRequest("A call is required, but there are no tools", param="tool_choice")
    return ToolChoice(use, parallel=parallel)


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


def among(names: set[str], tools: tuple[Tool, ...], param: str) -> tuple[Tool, ...]:
    """Claude's API has no such choice: the others are not offered at all."""
    left = tuple(tool for tool in tools if tool.name in names)
    if not left:
        raise InvalidRequest("No tool is allowed", param=param)
    return left
