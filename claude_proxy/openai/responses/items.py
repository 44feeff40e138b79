"""Input items: what arrives, as structs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec

from claude_proxy.dialect.body import decode_part
from claude_proxy.errors import InvalidRequest, NotFound


class TextPart(msgspec.Struct, tag_field="type", tag="input_text"):
    text: str


class OutputTextPart(TextPart, tag_field="type", tag="output_text"):
    pass


class PlainTextPart(TextPart, tag_field="type", tag="text"):
    """Not OpenAI's, but sent by clients that also speak Chat Completions."""


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class ImagePart(msgspec.Struct, tag_field="type", tag="input_image", omit_defaults=True):
    image_url: str | None = None
    detail: str | None = None


class FilePart(msgspec.Struct, tag_field="type", tag="input_file", omit_defaults=True):
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None


class AudioPart(msgspec.Struct, tag_field="type", tag="input_audio"):
    pass


ContentPart: TypeAlias = (
    TextPart | OutputTextPart | PlainTextPart | RefusalPart | ImagePart | FilePart | AudioPart
)
Content: TypeAlias = str | list[ContentPart] | None


class MessageItem(msgspec.Struct):
    """Easy messages leave the type out."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: str | None = None
    status: str | None = None


class FunctionCall(msgspec.Struct, tag_field="type", tag="function_call", omit_defaults=True):
    call_id: str
    name: str
    arguments: str | None = None
    namespace: str | None = None
    id: str | None = None
    status: str | None = None


class CustomToolCall(msgspec.Struct, tag_field="type", tag="custom_tool_call", omit_defaults=True):
    call_id: str
    name: str
    input: str
    namespace: str | None = None
    id: str | None = None
    status: str | None = None


class CallOutput(msgspec.Struct, omit_defaults=True):
    """Of a function or a custom tool."""

    call_id: str
    output: str | list[ContentPart]
    id: str | None = None
    status: str | None = None


class FunctionCallOutput(CallOutput, tag_field="type", tag="function_call_output"):
    pass


class CustomToolCallOutput(CallOutput, tag_field="type", tag="custom_tool_call_output"):
    pass


class ReasoningItem(msgspec.Struct, tag_field="type", tag="reasoning", omit_defaults=True):
    id: str | None = None
    summary: list[msgspec.Raw] | None = None
    encrypted_content: str | None = None


class ItemReference(msgspec.Struct):
    id: str


Item: TypeAlias = (
    MessageItem
    | FunctionCall
    | FunctionCallOutput
    | CustomToolCall
    | CustomToolCallOutput
    | ReasoningItem
)


class _Head(msgspec.Struct):
    type: Any = None
    role: Any = None
    id: Any = None


_head = msgspec.json.Decoder(_Head)
_reference = msgspec.json.Decoder(ItemReference)
KINDS: dict[str, type[Item]] = {
    "message": MessageItem,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "custom_tool_call": CustomToolCall,
    "custom_tool_call_output": CustomToolCallOutput,
    "reasoning": ReasoningItem,
}
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(struct) for kind, struct in KINDS.items()
}
# Traces of tools that OpenAI runs by itself, for which Claude's API has no form; what they led to
# stands in the message behind them.
TRACES = frozenset(
    {
        *("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
        *("mcp_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response"),
        *("tool_search_call", "tool_search_output"),
    }
)
Find: TypeAlias = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Given:
    """An item, the JSON that it came in, and its place in the request.

    Of what was kept, that is the parameter that named it.
    """

    item: Item
    raw: bytes
    at: str


@dataclass(slots=True)
class Input:
    """``ignored``: what says nothing here, by type or place; ``referred``: ids, each once."""

    items: list[Given] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    referred: set[str] = field(default_factory=set)


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
    while items and is_unanswered(items[-1].item):
        items.pop()
    if items:
        read.ignored += [given.at for given in read.items[len(items) :]]
        read.items = items


def is_unanswered(item: Item) -> bool:
    match item:
        case ReasoningItem() | MessageItem(role="assistant"):
            return True
        case FunctionCall(status="incomplete") | CustomToolCall(status="incomplete"):
            return True
    return False


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
        refer(read, decode_part(_reference, raw, at).id, at, find)
    elif isinstance(kind, str) and kind in _decoders:
        item = decode_part(_decoders[kind], raw, at)
        if isinstance(item, ReasoningItem) and item.id and not item.encrypted_content:
            known = None if item.id in read.referred else find(item.id)
            if known is not None and _head.decode(known).type == kind:
                read.referred.add(item.id)
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


def refer(read: Input, id_: str, at: str, find: Find) -> None:
    """Each item once: a short request must not become an endless one."""
    if id_ in read.referred:
        raise InvalidRequest(f"Duplicate item found with id {id_[:100]}.", param=f"{at}.id")
    read.referred.add(id_)
    found = find(id_)
    if found is not None:
        add(read, found, at, lambda _: None)
    elif not id_.startswith("rs_"):  # reasoning can be done without
        raise NotFound(f"Item with id '{id_[:100]}' not found.", param=f"{at}.id")
