"""Content blocks of Anthropic's API, as structs, and their translation to parts. Pure.

Each is read by its ``type`` from the JSON that came, so that a kind that only this API knows can
be passed on as it was written. ``at`` is a block's place in the request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from claude_proxy.conversation import (
    CacheMark,
    Document,
    Image,
    Native,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from claude_proxy.dialect.attachments import check_image, on_the_web, readable
from claude_proxy.dialect.body import decode_part, json_object
from claude_proxy.errors import InvalidRequest


class CacheControl(msgspec.Struct):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Base64Source(msgspec.Struct, tag_field="type", tag="base64"):
    media_type: str
    data: str


class UrlSource(msgspec.Struct, tag_field="type", tag="url"):
    url: str


class TextSource(msgspec.Struct, tag_field="type", tag="text"):
    data: str
    media_type: Literal["text/plain"] = "text/plain"


class ContentSource(msgspec.Struct, tag_field="type", tag="content"):
    content: Any


class FileSource(msgspec.Struct, tag_field="type", tag="file"):
    file_id: str


class Citations(msgspec.Struct):
    enabled: bool | None = None


class Head(msgspec.Struct):
    """What every block has."""

    type: str
    cache_control: CacheControl | None = None


class TextBlock(msgspec.Struct, tag_field="type", tag="text"):
    """``citations`` of the past say where a text came from; the CLI does not pass them on."""

    text: str


class PlainText(msgspec.Struct):
    """A text where nothing else may be."""

    type: Literal["text"]
    text: str


class ImageBlock(msgspec.Struct, tag_field="type", tag="image"):
    source: Base64Source | UrlSource | FileSource


class DocumentBlock(msgspec.Struct, tag_field="type", tag="document"):
    source: Base64Source | UrlSource | TextSource | ContentSource | FileSource
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None


class SearchResultBlock(msgspec.Struct, tag_field="type", tag="search_result"):
    source: str
    title: str
    content: list[PlainText]


class ThinkingBlock(msgspec.Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class RedactedThinkingBlock(msgspec.Struct, tag_field="type", tag="redacted_thinking"):
    data: str


class ToolUseBlock(msgspec.Struct, tag_field="type", tag="tool_use"):
    id: Annotated[str, Meta(min_length=1)]
    name: Annotated[str, Meta(min_length=1)]
    input: msgspec.Raw


class ToolResultBlock(msgspec.Struct, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[msgspec.Raw] | None = None
    is_error: bool | None = None


Block: TypeAlias = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
)
BLOCKS = get_args(Block)
OF_USER = ("text", "image", "document", "search_result", "tool_result")
OF_ASSISTANT = ("text", "thinking", "redacted_thinking", "tool_use")
OF_RESULT = ("text", "image", "document")
_head = msgspec.json.Decoder(Head)
_block = msgspec.json.Decoder(Block)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


def without_mark(raw: msgspec.Raw) -> str:
    """JSON of an object, its values as they came, but for its cache mark, which is set where there
    is room. Whether there was one makes no other difference.
    """
    fields = _fields.decode(raw)
    fields.pop("cache_control", None)
    return _encode(fields).decode()


def read(raw: msgspec.Raw, at: str, kinds: tuple[str, ...]) -> tuple[Block, bool]:
    """The block, and whether a cache mark is set on it. Raises InvalidRequest."""
    head = decode_part(_head, bytes(raw), at)
    if head.type not in kinds:
        raise InvalidRequest(
            f"A block of the type '{head.type[:50]}' cannot be had here, which takes "
            f"{', '.join(kinds)}",
            param=f"{at}.type",
        )
    return decode_part(_block, bytes(raw), at), head.cache_control is not None


def to_parts(
    content: str | list[msgspec.Raw], at: str, kinds: tuple[str, ...], model: str
) -> Iterator[Part]:
    """``model``: whose thinking it is. Raises InvalidRequest."""
    if isinstance(content, str):
        yield Text(content)
        return
    for index, raw in enumerate(content):
        here = f"{at}[{index}]"
        block, is_marked = read(raw, here, kinds)
        yield to_part(block, raw, here, model)
        if is_marked:
            yield CacheMark()


def to_part(block: Block, raw: msgspec.Raw, at: str, model: str) -> Part:
    match block:
        case TextBlock(text=text):
            return Text(text)
        case ToolUseBlock(id=id_, name=name):
            return ToolCall(id_, name, arguments(block.input, f"{at}.input"))
        case ToolResultBlock():
            return to_result(block, at)
        case ThinkingBlock(thinking=text, signature=signature):
            return Reasoning(text, signature, model)
        case RedactedThinkingBlock(data=data):
            return Reasoning("", data, model, redacted=True)
        case _:
            return to_attachment(block, raw, at)


def arguments(raw: msgspec.Raw, at: str) -> str:
    try:
        json_object(bytes(raw))
    except ValueError as error:
        raise InvalidRequest(f"The input of a tool is unusable: {error}", param=at) from None
    return bytes(raw).decode()


def to_result(block: ToolResultBlock, at: str) -> ToolResult:
    """Of a failure the API takes texts only, and the CLI would leave out all else."""
    inner = tuple(result_parts(block.content or "", f"{at}.content"))
    if block.is_error and not all(isinstance(part, Text) for part in inner):
        raise InvalidRequest(
            "All content must be of the type 'text' where is_error is true", param=f"{at}.content"
        )
    return ToolResult(block.tool_use_id, inner, bool(block.is_error))


def result_parts(
    content: str | list[msgspec.Raw], at: str
) -> Iterator[Text | Image | Document | Native]:
    """A mark inside of a result says no more than one behind it, which is set by default."""
    for part in to_parts(content, at, OF_RESULT, ""):
        if isinstance(part, Text | Image | Document | Native):
            yield part


def to_attachment(
    block: ImageBlock | DocumentBlock | SearchResultBlock, raw: msgspec.Raw, at: str
) -> Image | Document | Native:
    if isinstance(block, SearchResultBlock):
        return Native(without_mark(raw))
    here = f"{at}.source"
    if isinstance(block, ImageBlock):
        return to_image(block.source, here)
    return to_document(block, raw, here)


def to_image(source: Base64Source | UrlSource | FileSource, at: str) -> Image:
    match source:
        case UrlSource(url=url):
            return Image(url=address(url, f"{at}.url"))
        case Base64Source(media_type=kind, data=data):
            data = base64_of(data, f"{at}.data")
            check_image(kind, data, f"{at}.data")
            return Image(kind, data)
        case _:
            raise no_files(at)


def to_document(block: DocumentBlock, raw: msgspec.Raw, at: str) -> Document | Native:
    plain = not block.context and not (block.citations and block.citations.enabled)
    match block.source:
        case UrlSource(url=url):
            made = Document("", block.title, address(url, f"{at}.url"))
        case Base64Source(media_type=kind, data=data):
            if kind != "application/pdf":
                raise InvalidRequest("A document must be a PDF", param=f"{at}.media_type")
            made = Document(base64_of(data, f"{at}.data"), block.title)
        case FileSource():
            raise no_files(at)
        case _:
            plain = False
    return made if plain else Native(without_mark(raw))


def address(url: str, at: str) -> str:
    if not on_the_web(url):
        raise InvalidRequest("Expected an http(s) URL", param=at)
    return url


def base64_of(data: str, at: str) -> str:
    if not (made := readable(data)):
        raise InvalidRequest("The base64 cannot be read", param=at)
    return made


def no_files(at: str) -> InvalidRequest:
    return InvalidRequest("There is no Files API here: send the data itself", param=at)
