"""Tools of Anthropic's API that the client runs, and the choice among them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from claude_proxy.anthropic.blocks import CacheControl, without_mark
from claude_proxy.conversation import Tool, ToolChoice, ToolUse
from claude_proxy.dialect.body import decode_part, null
from claude_proxy.dialect.schemas import ANY_OBJECT, schema_object
from claude_proxy.errors import InvalidRequest

LONGEST_NAME = 128
# Anthropic's own definitions of tools that the client runs, and that need no beta.
CLIENT_RUN = re.compile(r"(bash|memory|text_editor)_\d{8}")


class ToolHead(msgspec.Struct):
    """Without a ``type`` it is a custom one.

    A tool whose loading is deferred is found by a search, whose results the CLI takes out of the
    conversation (2.1.332); other callers than the model run on Anthropic's servers.
    """

    name: str
    type: str | None = None
    cache_control: CacheControl | None = None
    description: str | None = None
    input_schema: msgspec.Raw = msgspec.field(default_factory=null)
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None


class Choice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


_decoder = msgspec.json.Decoder(ToolHead)
USES = {
    "auto": ToolUse.AUTO,
    "any": ToolUse.REQUIRED,
    "tool": ToolUse.REQUIRED,
    "none": ToolUse.NONE,
}


def to_tools(given: Iterable[msgspec.Raw]) -> tuple[Tool, ...]:
    """Each with its definition as it came. Raises InvalidRequest."""
    tools: dict[str, Tool] = {}
    for index, raw in enumerate(given):
        at = f"tools[{index}]"
        head = decode_part(_decoder, bytes(raw), at)
        refuse_what_is_not_there(head, at)
        if not head.name.strip() or len(head.name) > LONGEST_NAME:
            raise InvalidRequest(
                f"The name of a tool must have 1 to {LONGEST_NAME} characters", param=f"{at}.name"
            )
        if head.name in tools:
            raise InvalidRequest(f"Two tools have the name '{head.name}'", param=f"{at}.name")
        schema = ANY_OBJECT
        if is_custom(head):
            schema = input_schema(bytes(head.input_schema), f"{at}.input_schema")
        tools[head.name] = Tool(head.name, schema, head.description, without_mark(raw))
    return tuple(tools.values())


def is_custom(head: ToolHead) -> bool:
    return head.type in (None, "custom")


def refuse_what_is_not_there(head: ToolHead, at: str) -> None:
    if not is_custom(head) and not CLIENT_RUN.fullmatch(head.type or ""):
        raise InvalidRequest(
            f"A tool of the type '{(head.type or '')[:50]}' cannot be had through Claude Code: "
            "only tools that the client runs (custom ones, bash, memory and text_editor)",
            param=f"{at}.type",
        )
    beyond = {
        "defer_loading": bool(head.defer_loading),
        "allowed_callers": any(caller != "direct" for caller in head.allowed_callers or ()),
    }
    for name, is_set in beyond.items():
        if is_set:
            raise InvalidRequest("It cannot be had through Claude Code", param=f"{at}.{name}")


def input_schema(raw: bytes, at: str) -> str:
    if raw == b"null":
        raise InvalidRequest("Field required", param=at)
    if schema_object(raw, at).get("type") != "object":
        raise InvalidRequest("The type of the schema must be 'object'", param=f"{at}.type")
    return raw.decode()


def to_choice(choice: Choice | None, tools: tuple[Tool, ...]) -> ToolChoice:
    """Raises InvalidRequest."""
    if choice is None:
        return ToolChoice()
    parallel = not choice.disable_parallel_tool_use
    use = USES[choice.type]
    if use is ToolUse.REQUIRED and not tools:
        raise InvalidRequest("A call is required, but there are no tools", param="tool_choice")
    if choice.type != "tool":
        return ToolChoice(use, parallel=parallel)
    if choice.name not in {tool.name for tool in tools}:
        raise InvalidRequest(
            f"There is no tool '{(choice.name or '')[:100]}' to choose", param="tool_choice.name"
        )
    return ToolChoice(use, choice.name, parallel)
