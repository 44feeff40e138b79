"""What is said about kept responses: their input items, page by page, and their end. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.responses.items import (
    AudioPart,
    CallOutput,
    Content,
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FilePart,
    FunctionCall,
    FunctionCallOutput,
    ImagePart,
    Item,
    MessageItem,
    ReasoningItem,
    RefusalPart,
    TextPart,
    read_history,
)
from claude_proxy.openai.responses.response import OutputText

PREFIXES: dict[type[Item], str] = {
    MessageItem: "msg",
    FunctionCall: "fc",
    FunctionCallOutput: "fco",
    CustomToolCall: "ctc",
    CustomToolCallOutput: "ctco",
    ReasoningItem: "rs",
}


class Page(msgspec.Struct):
    """``order`` is that of the items' places in the request; ``after`` is an item's id."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


class Replay(msgspec.Struct):
    """``starting_after``: the number of the replay's own event behind which it begins."""

    stream: bool = False
    starting_after: int = -1


ListedPart: TypeAlias = TextPart | OutputText | RefusalPart | ImagePart | FilePart | AudioPart


class ListedMessage(msgspec.Struct, tag_field="type", tag="message"):
    id: str
    role: str
    status: str
    content: Sequence[ListedPart]


ListedItem: TypeAlias = (
    ListedMessage
    | FunctionCall
    | FunctionCallOutput
    | CustomToolCall
    | CustomToolCallOutput
    | ReasoningItem
)


class ItemList(msgspec.Struct):
    data: list[ListedItem]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class Deleted(msgspec.Struct):
    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


def deleted(response_id: str) -> bytes:
    return msgspec.json.encode(Deleted(response_id))


def list_items(response_id: str, items: Sequence[bytes], page: Page, *, seals: bool) -> bytes:
    """``seals``: with what reasoning needs to come back. Raises InvalidRequest."""
    listed: dict[str, ListedItem] = {}
    for place, given in enumerate(read_history(items)):
        made = f"{PREFIXES[type(given.item)]}_{made_id(response_id, place)}"
        id_ = given.item.id or made
        id_ = made if id_ in listed else id_
        listed[id_] = to_listed(given.item, id_, seals=seals)
    ids = list(listed) if page.order == "asc" else list(reversed(listed))
    start = 0
    if page.after:
        if page.after not in listed:
            raise InvalidRequest(f"There is no item '{page.after[:100]}' here", param="after")
        start = ids.index(page.after) + 1
    shown = ids[start : start + page.limit]
    first, last = (shown[0], shown[-1]) if shown else (None, None)
    data = [listed[id_] for id_ in shown]
    return msgspec.json.encode(ItemList(data, first, last, start + page.limit < len(ids)))


def made_id(response_id: str, place: int) -> str:
    """Without its prefix; the same every time."""
    return hashlib.sha256(f"{response_id}:{place}".encode()).hexdigest()[:48]


def to_listed(item: Item, id_: str, *, seals: bool) -> ListedItem:
    """With all that OpenAI's schema requires of an item in a list."""
    if isinstance(item, ReasoningItem):
        sealed = item.encrypted_content if seals else None
        return ReasoningItem(id_, item.summary or [], sealed)
    status = item.status or "completed"
    if isinstance(item, MessageItem):
        listed_parts = said_by_the_model if item.role == "assistant" else parts_of
        return ListedMessage(id_, item.role, status, listed_parts(item.content))
    listed = replace(item, id=id_, status=status)
    if isinstance(listed, FunctionCall):
        listed.arguments = listed.arguments or ""
    elif isinstance(listed, CallOutput) and not isinstance(listed.output, str):
        listed.output = parts_of(listed.output)
    return listed


def as_list(content: Content) -> Sequence[ContentPart]:
    return [TextPart(content)] if isinstance(content, str) else content or ()


def parts_of(content: Content) -> list[ContentPart]:
    """In the form that OpenAI's schema has for input."""
    return [to_input(part) for part in as_list(content)]


def to_input(part: ContentPart) -> ContentPart:
    match part:
        case TextPart(text=text) | RefusalPart(refusal=text):
            return TextPart(text)
        case ImagePart(image_url=url, detail=detail):
            return ImagePart(url, detail or "auto")
        case _:
            return part


def said_by_the_model(content: Content) -> list[ListedPart]:
    return [
        OutputText(part.text) if isinstance(part, TextPart) else part for part in as_list(content)
    ]
