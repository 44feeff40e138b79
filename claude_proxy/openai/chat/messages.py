"""Chat Completions: the messages, as structs, and their translation. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from claude_proxy.conversation import (
    Document,
    Image,
    Message,
    Text,
    ToolCall,
    ToolResult,
)
from claude_proxy.dialect.calls import OpenCalls
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.attachments import only_text, to_document, to_image
from claude_proxy.openai.functions import arguments_of, refuse_wide


class TextPart(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class ImageUrl(msgspec.Struct):
    url: str
    detail: str | None = None


class ImagePart(msgspec.Struct, tag_field="type", tag="image_url"):
    """Old clients give the address alone."""

    image_url: ImageUrl | str


class File(msgspec.Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(msgspec.Struct, tag_field="type", tag="file"):
    file: File


class AudioPart(msgspec.Struct, tag_field="type", tag="input_audio"):
    pass


ContentPart: TypeAlias = TextPart | RefusalPart | ImagePart | FilePart | AudioPart
Content: TypeAlias = str | list[ContentPart] | None


class Function(msgspec.Struct):
    name: str
    arguments: str = ""


class Call(msgspec.Struct):
    """Some old clients leave the type out."""

    id: str
    function: Function
    type: Literal["function"] = "function"


class SystemMessage(msgspec.Struct, tag_field="role", tag="system"):
    content: Content


class DeveloperMessage(msgspec.Struct, tag_field="role", tag="developer"):
    content: Content


class UserMessage(msgspec.Struct, tag_field="role", tag="user"):
    content: Content


class AssistantMessage(msgspec.Struct, tag_field="role", tag="assistant"):
    content: Content = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None


class ToolMessage(msgspec.Struct, tag_field="role", tag="tool"):
    tool_call_id: str
    content: Content


class FunctionMessage(msgspec.Struct, tag_field="role", tag="function"):
    """The old form of a tool's result: it has no id, only the name of the function."""

    content: Content
    name: str = ""


ChatMessage: TypeAlias = (
    SystemMessage
    | DeveloperMessage
    | UserMessage
    | AssistantMessage
    | ToolMessage
    | FunctionMessage
)
ResultMessage: TypeAlias = ToolMessage | FunctionMessage


def to_messages(messages: list[ChatMessage], first: int) -> list[Message]:
    """From ``first`` on. Raises InvalidRequest; every call must be answered right behind it."""
    refuse_wide(given_arguments(messages))
    translated: list[Message] = []
    open_calls: OpenCalls[str] = OpenCalls()
    for index, message in enumerate(messages[first:], first):
        at = f"messages[{index}]"
        if isinstance(message, ToolMessage | FunctionMessage):
            id_ = answered(open_calls, message, at)
            result = ToolResult(id_, tuple(content_parts(message.content, at)))
            translated.append(Message("user", (result,)))
            continue
        refuse_unanswered(open_calls)
        if isinstance(message, AssistantMessage):
            calls = list(tool_calls(message, at))
            for place, call in enumerate(calls):
                here = f"{at}.tool_calls[{place}]"
                open_calls.expect(call.id, here, f"{here}.id")
            said = [*content_parts(message.content, at)]
            if message.refusal:
                said.append(Text(message.refusal))
            translated.append(Message("assistant", (*said, *calls)))
        else:
            translated.append(Message("user", tuple(content_parts(message.content, at))))
    refuse_unanswered(open_calls)
    return translated


def given_arguments(messages: list[ChatMessage]) -> Iterator[tuple[str, str]]:
    """Of every call, with its place."""
    for index, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            at = f"messages[{index}]"
            for place, call in enumerate(message.tool_calls or ()):
                yield call.function.arguments, f"{at}.tool_calls[{place}].function.arguments"
            if message.function_call is not None:
                yield message.function_call.arguments, f"{at}.function_call.arguments"


def tool_calls(message: AssistantMessage, at: str) -> Iterator[ToolCall]:
    for index, call in enumerate(message.tool_calls or ()):
        here = f"{at}.tool_calls[{index}].function.arguments"
        yield ToolCall(call.id, call.function.name, arguments_of(call.function.arguments, here))
    if message.function_call is not None:
        function = message.function_call
        arguments = arguments_of(function.arguments, f"{at}.function_call.arguments")
        yield ToolCall(old_call_id(at), function.name, arguments)


def old_call_id(at: str) -> str:
    """The old form has no ids; its place in the conversation makes one that stays the same."""
    return "call" + re.sub(r"\D", "", at).rjust(28, "0")


def answered(calls: OpenCalls[str], message: ResultMessage, at: str) -> str:
    """The id of the call that the message answers. Raises InvalidRequest."""
    if isinstance(message, FunctionMessage):
        given, param = calls.first() or "", at
    else:
        given, param = message.tool_call_id, f"{at}.tool_call_id"
    found = calls.answer(given)
    if found is None:
        problem = f"'{given[:100]}' is no open call of the assistant message before it"
        raise InvalidRequest(problem, param=param)
    return found[0]


def refuse_unanswered(calls: OpenCalls[str]) -> None:
    for id_, param in calls:
        raise InvalidRequest(f"No tool message answers the call '{id_[:100]}'", param=param)


def plain_text(content: Content, at: str) -> str:
    """Of a system message. Raises InvalidRequest."""
    return only_text(content_parts(content, at), f"{at}.content")


def content_parts(content: Content, at: str) -> Iterator[Text | Image | Document]:
    if isinstance(content, str):
        yield Text(content)
        return
    for index, part in enumerate(content or ()):
        here = f"{at}.content[{index}]"
        match part:
            case TextPart(text=text) | RefusalPart(refusal=text):
                yield Text(text)
            case ImagePart(image_url=image):
                url = image if isinstance(image, str) else image.url
                yield to_image(url, f"{here}.image_url.url")
            case FilePart(file=file):
                yield to_document(file.file_data, file.filename, f"{here}.file.file_data")
            case AudioPart():
                raise InvalidRequest("Claude takes no audio", param=here, code="unsupported_value")
