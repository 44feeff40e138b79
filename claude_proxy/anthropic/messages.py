"""The messages of Anthropic's API and their translation. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from claude_proxy.anthropic.blocks import OF_ASSISTANT, OF_USER, to_parts
from claude_proxy.conversation import Message, Part, ToolCall, ToolResult
from claude_proxy.dialect.calls import OpenCalls
from claude_proxy.errors import InvalidRequest


class WireMessage(msgspec.Struct):
    """A ``system`` message among the others has no counterpart in what the CLI takes; it goes as a
    user's, in its place and with its exact text.
    """

    role: Literal["user", "assistant", "system"]
    content: str | list[msgspec.Raw]


def to_messages(messages: Iterable[WireMessage], model: str) -> list[Message]:
    """``model``: whose thinking is in them. Raises InvalidRequest.

    Every call must be answered before the assistant speaks again.
    """
    translated: list[Message] = []
    calls: OpenCalls[str] = OpenCalls()
    for index, message in enumerate(messages):
        at = f"messages[{index}].content"
        if message.role == "assistant":
            refuse_unanswered(calls)
            said = tuple(to_parts(message.content, at, OF_ASSISTANT, model))
            for place, call in numbered_calls(said):
                calls.expect(call.id, at, f"{at}[{place}].id")
            translated.append(Message("assistant", said))
        else:
            given = tuple(to_parts(message.content, at, OF_USER, model))
            translated.append(Message("user", tuple(answered(calls, given, at))))
    refuse_unanswered(calls)
    return translated


def numbered_calls(parts: Iterable[Part]) -> Iterator[tuple[int, ToolCall]]:
    return ((place, part) for place, part in enumerate(parts) if isinstance(part, ToolCall))


def answered(calls: OpenCalls[str], parts: Iterable[Part], at: str) -> Iterator[Part]:
    """With each result under the id of its call. Raises InvalidRequest."""
    for part in parts:
        if not isinstance(part, ToolResult):
            yield part
            continue
        found = calls.answer(part.call_id)
        if found is None:
            raise InvalidRequest(
                f"The tool_use_id '{part.call_id[:100]}' is that of no tool_use block of the "
                "assistant's message before it, or has been answered already",
                param=at,
            )
        yield ToolResult(found[0], part.parts, part.is_error)


def refuse_unanswered(calls: OpenCalls[str]) -> None:
    for id_, at in calls:
        raise InvalidRequest(
            f"No tool_result block answers the tool_use '{id_[:100]}' in the next message", param=at
        )
