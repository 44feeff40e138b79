"""Input items: what arrives, as structs, and their translation to messages. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec

from claude_proxy.conversation import (
    Document,
    Image,
    Message,
    Part,
    Text,
    ToolCall,
    ToolResult,
)
from claude_proxy.errors import InvalidRequest, NotFound
from claude_proxy.openai.attachments import to_document, to_image
from claude_proxy.openai.body import decode_part
from claude_proxy.openai.calls import OpenCalls
from claude_proxy.openai.functions import arguments_of
from claude_proxy.openai.responses import freeform
from claude_proxy.openai.responses.reasoning import unseal
from claude_proxy.openai.responses.toolbox import Toolbox


class TextPart(msgspec.Struct, tag_field="type", tag="input_text"):
    text: str


class OutputTextPart(TextPart, tag_field="type", tag="output_text"):
    pass


class PlainTextPart(TextPart, tag_field="type", tag="text"):
    """Not OpenAI's, but sent by clients that also speak Chat Completions."""


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class ImagePart(msgspec.Struct, tag_field="type", tag="input_image"):
    image_url: str | None = None


class FilePart(msgspec.Struct, tag_field="type", tag="input_file"):
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None


class AudioPart(msgspec.Struct, tag_field="type", tag="input_audio"):
    pass


ContentPart: TypeAlias = (
    TextPart | OutputTextPart | PlainTextPart | RefusalPart | ImagePart | FilePart | AudioPart
)
Content: TypeAlias = str | list[ContentPart]


class MessageItem(msgspec.Struct):
    """Easy messages leave the type out."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class FunctionCall(msgspec.Struct):
    call_id: str
    name: str
    arguments: str = ""
    namespace: str | None = None


class CustomToolCall(msgspec.Struct):
    call_id: str
    name: str
    input: str
    namespace: str | None = None


class CallOutput(msgspec.Struct):
    """Of a function or a custom tool."""

    call_id: str
    output: Content


class ReasoningItem(msgspec.Struct):
    id: str | None = None
    encrypted_content: str | None = None


class ItemReference(msgspec.Struct):
    id: str


Item: TypeAlias = MessageItem | FunctionCall | CustomToolCall | CallOutput | ReasoningItem


class _Head(msgspec.Struct):
    type: Any = None
    role: Any = None
    id: Any = None


_head = msgspec.json.Decoder(_Head)
_reference = msgspec.json.Decoder(ItemReference)
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    "message": msgspec.json.Decoder(MessageItem),
    "function_call": msgspec.json.Decoder(FunctionCall),
    "function_call_output": msgspec.json.Decoder(CallOutput),
    "custom_tool_call": msgspec.json.Decoder(CustomToolCall),
    "custom_tool_call_output": msgspec.json.Decoder(CallOutput),
    "reasoning": msgspec.json.Decoder(ReasoningItem),
}
# Traces of tools that OpenAI runs by itself, for which Claude's API has no form; what they led to
# stands in the message behind them.
TRACES = frozenset(
    {
        *("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
        *("mcp_list_tools", "mcp_approval_request", "mcp_approval_response"),
        *("tool_search_call", "tool_search_output"),
    }
)
Find: TypeAlias = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Given:
    """An item, the JSON that it came in, and its place in the request."""

    item: Item
    raw: bytes
    at: str


@dataclass(slots=True)
class Input:
    """``ignored``: what says nothing here, by type or place."""

    items: list[Given] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def read_input(given: str | list[msgspec.Raw], find: Find) -> Input:
    """``find`` gives the JSON of an item that was given out under an id.

    Raises InvalidRequest, NotFound.
    """
    if isinstance(given, str):
        raw = msgspec.json.encode({"type": "message", "role": "user", "content": given})
        return Input([Given(MessageItem("user", given), raw, "input")])
    read = Input()
    for index, one in enumerate(given):
        add(read, bytes(one), f"input[{index}]", find)
    leave_out_unfinished(read)
    return read


def leave_out_unfinished(read: Input) -> None:
    """What the model has said last, and nobody has answered.

    Claude does not continue an answer of its own, it gives another one. Codex sends such, when it
    asks again for an answer that broke off.
    """
    items = list(read.items)
    while items and is_assistants(items[-1].item):
        items.pop()
    if items:
        read.ignored += [given.at for given in read.items[len(items) :]]
        read.items = items


def is_assistants(item: Item) -> bool:
    return isinstance(item, ReasoningItem) or (
        isinstance(item, MessageItem) and item.role == "assistant"
    )


def read_history(items: Iterable[bytes]) -> list[Given]:
    """Items that were kept, which were read before they were."""
    read = Input()
    for raw in items:
        add(read, raw, "previous_response_id", lambda _: None)
    return read.items


def add(read: Input, raw: bytes, at: str, find: Find) -> None:
    head = decode_part(_head, raw, at)
    kind = head.type or ("item_reference" if head.role is None and head.id else "message")
    if kind == "item_reference":
        referred = decode_part(_reference, raw, at)
        found = find(referred.id)
        if found is not None:
            add(read, found, at, lambda _: None)
        elif not referred.id.startswith("rs_"):  # reasoning can be done without
            raise NotFound(f"Item with id '{referred.id[:100]}' not found.", param=f"{at}.id")
    elif isinstance(kind, str) and kind in _decoders:
        item = decode_part(_decoders[kind], raw, at)
        if isinstance(item, ReasoningItem) and item.id and not item.encrypted_content:
            known = find(item.id)
            if known is not None and _head.decode(known).type == kind:
                raw, item = known, _decoders[kind].decode(known)
        read.items.append(Given(item, raw, at))
    elif isinstance(kind, str) and kind in TRACES:
        read.ignored.append(f"input.{kind}")
    else:
        raise InvalidRequest(
            f"Items of type '{str(kind)[:50]}' cannot be taken here",
            param=f"{at}.type",
            code="unsupported_value",
        )


def leading(items: list[Given]) -> int:
    """How many system messages the conversation begins with."""
    for index, given in enumerate(items):
        if not (isinstance(given.item, MessageItem) and is_system(given.item)):
            return index
    return len(items)


def is_system(item: MessageItem) -> bool:
    return item.role in ("system", "developer")


def plain_text(given: Given) -> str:
    """Of a system message. Raises InvalidRequest."""
    pieces: list[str] = []
    assert isinstance(given.item, MessageItem)  # noqa: S101 - see ``leading``
    for index, part in enumerate(content_parts(given.item.content, given.at + ".content")):
        if not isinstance(part, Text):
            raise InvalidRequest(
                "A system message can hold text only", param=f"{given.at}.content[{index}]"
            )
        pieces.append(part.text)
    return "".join(pieces)


@dataclass(slots=True)
class Run:
    """What one side says until the other one does; ``results`` answer the run before."""

    role: Literal["user", "assistant"]
    parts: list[Part] = field(default_factory=list)
    results: list[Part] = field(default_factory=list)


class Runs:
    """A conversation by runs, as Claude wants it: a call's result right behind the run that made
    it, also where the client put something in between.
    """

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._runs: list[Run] = []
        self._calls: OpenCalls[tuple[int, str]] = OpenCalls()

    def add(self, given: Given) -> None:
        """Raises InvalidRequest."""
        at = given.at
        match given.item:
            case CallOutput() as output:
                self._answer(output, at)
            case FunctionCall() | CustomToolCall() as call:
                self._of("assistant").parts.append(to_call(call, at, self._toolbox))
                place = (len(self._runs) - 1, at)
                self._calls.expect(call.call_id, place, f"{at}.call_id")
            case ReasoningItem(encrypted_content=sealed):
                if (reasoning := unseal(sealed or "")) is not None:
                    self._of("assistant").parts.append(reasoning)
            case MessageItem(role=role, content=content):
                run = self._of("assistant" if role == "assistant" else "user")
                run.parts += content_parts(content, f"{at}.content")

    def messages(self) -> list[Message]:
        """Raises InvalidRequest when a call has no result."""
        for id_, (_, at) in self._calls:
            raise InvalidRequest(f"No tool output found for function call {id_[:100]}.", param=at)
        return [Message(run.role, (*run.results, *run.parts)) for run in self._runs]

    def _answer(self, output: CallOutput, at: str) -> None:
        found = self._calls.answer(output.call_id)
        if found is None:
            raise InvalidRequest(
                f"No tool call found for function call output with call_id {output.call_id[:100]}.",
                param=f"{at}.call_id",
            )
        id_, (place, _) = found
        result = ToolResult(id_, tuple(content_parts(output.output, f"{at}.output")))
        behind = self._of("user") if place + 1 == len(self._runs) else self._runs[place + 1]
        behind.results.append(result)

    def _of(self, role: Literal["user", "assistant"]) -> Run:
        if not self._runs or self._runs[-1].role != role:
            self._runs.append(Run(role))
        return self._runs[-1]


def to_messages(items: Iterable[Given], toolbox: Toolbox) -> list[Message]:
    """A later system message goes as a user's, in its place and with its exact text.

    Raises InvalidRequest.
    """
    runs = Runs(toolbox)
    for given in items:
        runs.add(given)
    return runs.messages()


def to_call(call: FunctionCall | CustomToolCall, at: str, toolbox: Toolbox) -> ToolCall:
    name = toolbox.name(call.name, call.namespace)
    if isinstance(call, CustomToolCall):
        return ToolCall(call.call_id, name, freeform.to_arguments(call.input))
    return ToolCall(call.call_id, name, arguments_of(call.arguments, f"{at}.arguments"))


def content_parts(content: Content, at: str) -> Iterator[Text | Image | Document]:
    if isinstance(content, str):
        yield Text(content)
        return
    for index, part in enumerate(content):
        here = f"{at}[{index}]"
        match part:
            case TextPart(text=text) | RefusalPart(refusal=text):
                yield Text(text)
            case ImagePart(image_url=url):
                if url is None:
                    raise no_file_store(f"{here}.image_url", "image_url")
                yield to_image(url, f"{here}.image_url")
            case FilePart(file_data=data, file_url=url, filename=filename):
                name = "file_data" if url is None else "file_url"
                yield to_document(data if url is None else url, filename, f"{here}.{name}")
            case AudioPart():
                raise InvalidRequest("Claude takes no audio", param=here, code="unsupported_value")


def no_file_store(param: str, name: str) -> InvalidRequest:
    return InvalidRequest(f"It must come as {name}: there is no file store here", param=param)
