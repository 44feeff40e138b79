"""Chat Completions: what arrives, as structs, and its translation to a conversation. Pure.

Source of the shapes: OpenAI's OpenAPI description 2.3.0 and what clients were seen to send.
Unknown fields are skipped: clients send extras of other vendors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from claude_proxy.conversation import (
    Conversation,
    Document,
    Effort,
    Image,
    Message,
    Options,
    Part,
    Text,
    ToolCall,
    ToolResult,
)
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.attachments import to_document, to_image
from claude_proxy.openai.body import decode_body, names_beyond


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


class ToolMessage(msgspec.Struct, tag_field="role", tag="tool"):
    tool_call_id: str
    content: Content


ChatMessage: TypeAlias = (
    SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage
)
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)] | None
Tokens: TypeAlias = Annotated[int, Meta(ge=1)] | None


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class ChatRequest(msgspec.Struct):
    """Fields are checked here whether or not they have an effect."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens = None
    max_completion_tokens: Tokens = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    reasoning_effort: Effort | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Penalty = None
    presence_penalty: Penalty = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    modalities: list[str] | None = None
    audio: Any = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    tool_choice: Any = None
    function_call: Any = None
    response_format: Any = None
    web_search_options: Any = None


EFFECTIVE = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "stop", "reasoning_effort"),
        *("max_tokens", "max_completion_tokens", "n", "logprobs", "top_logprobs", "modalities"),
        *("tools", "functions", "tool_choice", "function_call", "response_format"),
    }
)
_decoder = msgspec.json.Decoder(ChatRequest)


def decode(body: bytes) -> ChatRequest:
    """Raises InvalidRequest with OpenAI's ``param`` path."""
    request = decode_body(_decoder, body)
    refuse_what_is_not_there(request)
    return request


def refuse_what_is_not_there(request: ChatRequest) -> None:
    """What would change the shape of the answer must not be ignored silently."""
    offending = {
        "n": (request.n or 1) > 1,
        "logprobs": bool(request.logprobs),
        "top_logprobs": bool(request.top_logprobs),
        "audio": request.audio is not None,
        "modalities": any(mode != "text" for mode in request.modalities or ()),
        "tools": bool(request.tools),
        "functions": bool(request.functions),
        "tool_choice": request.tool_choice not in (None, "none", "auto"),
        "function_call": request.function_call not in (None, "none", "auto"),
        "response_format": request.response_format not in (None, {"type": "text"}),
        "web_search_options": request.web_search_options is not None,
    }
    for param, offends in offending.items():
        if offends:
            raise InvalidRequest(
                f"claude-proxy does not support this value of '{param}'",
                param=param,
                code="unsupported_parameter",
            )


def ignored(body: bytes, *, sampling: bool) -> list[str]:
    """Names of what the client has set and what has no effect; ``sampling`` is forwarded."""
    effective = EFFECTIVE | {"temperature", "top_p"} if sampling else EFFECTIVE
    return names_beyond(effective, body)


def to_conversation(request: ChatRequest, model: str, *, sampling: bool) -> Conversation:
    """Leading system messages become the system prompt, every later message a message.

    A later system message has no counterpart in what the CLI takes; it goes as a user's, in its
    place and with its exact text. Raises InvalidRequest.
    """
    check_results(request.messages)
    system: list[str] = []
    messages: list[Message] = []
    for index, message in enumerate(request.messages):
        at = f"messages[{index}]"
        if isinstance(message, SystemMessage | DeveloperMessage) and not messages:
            system.append(plain_text(message.content, at))
        else:
            messages.append(to_message(message, at))
    if messages and messages[-1].role == "assistant":
        raise InvalidRequest(
            "The last message must be a user's or a tool's: Claude does not continue an "
            "assistant's message",
            param=f"messages[{len(request.messages) - 1}].role",
        )
    options = Options(
        max_tokens=request.max_completion_tokens or request.max_tokens,
        stop=stop_sequences(request.stop),
        effort=request.reasoning_effort,
        temperature=request.temperature if sampling else None,
        top_p=request.top_p if sampling else None,
    )
    return Conversation(model, "\n\n".join(filter(str.strip, system)), tuple(messages), options)


def stop_sequences(stop: str | list[str] | None) -> tuple[str, ...]:
    given = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if any(not sequence.strip() for sequence in given):
        raise InvalidRequest("A stop sequence must hold more than white space", param="stop")
    return given


def to_message(message: ChatMessage, at: str) -> Message:
    match message:
        case AssistantMessage():
            return Message("assistant", (*assistant_parts(message, at),))
        case ToolMessage(tool_call_id=id_, content=content):
            parts = tuple(content_parts(content, at))
            return Message("user", (ToolResult(id_, parts),))
        case _:
            return Message("user", tuple(content_parts(message.content, at)))


def assistant_parts(message: AssistantMessage, at: str) -> Iterator[Part]:
    yield from content_parts(message.content, at)
    if message.refusal:
        yield Text(message.refusal)
    for index, call in enumerate(message.tool_calls or ()):
        arguments = call.function.arguments.strip() or "{}"
        try:
            msgspec.json.decode(arguments, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise InvalidRequest(
                "The arguments of a tool call must be a JSON object",
                param=f"{at}.tool_calls[{index}].function.arguments",
            ) from None
        yield ToolCall(call.id, call.function.name, arguments)


def plain_text(content: Content, at: str) -> str:
    """System prompts are text; parts of one message belong together without a gap."""
    pieces: list[str] = []
    for index, part in enumerate(content_parts(content, at)):
        if not isinstance(part, Text):
            raise InvalidRequest(
                "A system message can hold text only", param=f"{at}.content[{index}]"
            )
        pieces.append(part.text)
    return "".join(pieces)


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


def check_results(messages: list[ChatMessage]) -> None:
    """Every call must be answered by the tool messages right after it, and nothing else."""
    expected: dict[str, str] = {}
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in expected:
                raise InvalidRequest(
                    f"The tool message answers '{message.tool_call_id[:100]}', which is no open "
                    "call of the assistant message before it",
                    param=f"messages[{index}].tool_call_id",
                )
            del expected[message.tool_call_id]
            continue
        refuse_open(expected)
        if isinstance(message, AssistantMessage):
            for at, call in enumerate(message.tool_calls or ()):
                if call.id in expected:
                    raise InvalidRequest(
                        f"The id '{call.id[:100]}' stands for two calls",
                        param=f"messages[{index}].tool_calls[{at}].id",
                    )
                expected[call.id] = f"messages[{index}].tool_calls[{at}]"
    refuse_open(expected)


def refuse_open(expected: dict[str, str]) -> None:
    for id_, param in expected.items():
        raise InvalidRequest(f"No tool message answers the call '{id_[:100]}'", param=param)
