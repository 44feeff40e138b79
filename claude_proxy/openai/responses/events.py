"""The events of a Response, one item after the other. Pure.

``Writer`` numbers them; an ``Open…`` item writes what belongs to it from its beginning to its
end, and so knows its final form. Live answers and replays of kept ones are written by the same.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from claude_proxy.dialect.frames import frame
from claude_proxy.openai.responses.response import (
    CustomToolCallItem,
    FunctionCallItem,
    MessageItem,
    OutputItem,
    OutputText,
    ReasoningItem,
    Refusal,
    Response,
    Status,
    SummaryText,
)

Item = TypeVar("Item", bound=OutputItem)
_encode = msgspec.json.Encoder().encode


class ErrorDetail(msgspec.Struct):
    type: str
    code: str | None
    message: str
    param: str | None


class Event(msgspec.Struct):
    """Any event: each has a ``type`` and those of the other fields that belong to it."""

    type: str
    sequence_number: int
    response: Response | UnsetType = UNSET
    output_index: int | UnsetType = UNSET
    item: OutputItem | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    content_index: int | UnsetType = UNSET
    summary_index: int | UnsetType = UNSET
    part: OutputText | Refusal | SummaryText | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    refusal: str | UnsetType = UNSET
    logprobs: tuple[()] | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    input: str | UnsetType = UNSET
    code: str | UnsetType | None = UNSET
    message: str | UnsetType = UNSET
    param: str | UnsetType | None = UNSET
    error: ErrorDetail | UnsetType = UNSET


class Writer:
    """``take`` what has been written, as SSE frames; ``items`` are those begun so far.

    ``number`` is that of the next event.
    """

    def __init__(self, after: int = -1) -> None:
        """Frames up to number ``after`` are left out."""
        self.items = 0
        self.number = 0
        self._after = after
        self._frames: list[bytes] = []

    def write(self, kind: str, **fields: Any) -> None:
        if self.number > self._after:
            event = Event(kind, self.number, **fields)
            self._frames.append(frame(_encode(event), kind))
        self.number += 1

    def take(self) -> bytes:
        frames, self._frames = self._frames, []
        return b"".join(frames)


class OpenItem(Generic[Item]):
    """An item between its ``added`` and its ``done`` event; ``end`` it once."""

    def __init__(self, writer: Writer, item: Item) -> None:
        """``item`` as it begins, without any content."""
        self.item: Item = item
        self._pieces: list[str] = []
        self._writer = writer
        self._index = writer.items
        writer.items += 1
        self._item_event("added")

    def end(self, status: Status) -> Item:
        """``status`` is for those kinds of items that have one."""
        item = self.item
        if isinstance(item, MessageItem | FunctionCallItem) or (
            isinstance(item, CustomToolCallItem) and status != "completed"
        ):
            item.status = status
        self._item_event("done")
        return item

    def _write(self, kind: str, **fields: Any) -> None:
        self._writer.write(
            f"response.{kind}", item_id=self.item.id, output_index=self._index, **fields
        )

    def _item_event(self, what: str) -> None:
        kind = f"response.output_item.{what}"
        self._writer.write(kind, output_index=self._index, item=self.item)


class OpenMessage(OpenItem[MessageItem]):
    """Text, then perhaps a refusal."""

    def __init__(self, writer: Writer, id_: str) -> None:
        super().__init__(writer, MessageItem(id_, "in_progress", []))
        self._in_text = False

    def say(self, text: str) -> None:
        if not self._in_text:
            self._in_text = True
            self._part_event("added", OutputText(""))
        if text:
            self._pieces.append(text)
            self._write_part("output_text.delta", delta=text, logprobs=())

    def refuse(self, text: str) -> None:
        self._end_text()
        self._part_event("added", Refusal(""))
        self._write_part("refusal.delta", delta=text)
        self._write_part("refusal.done", refusal=text)
        self._end_part(Refusal(text))

    def end(self, status: Status) -> MessageItem:
        self._end_text()
        return super().end(status)

    def _end_text(self) -> None:
        if self._in_text:
            self._in_text = False
            text = "".join(self._pieces)
            self._write_part("output_text.done", text=text, logprobs=())
            self._end_part(OutputText(text))

    def _end_part(self, part: OutputText | Refusal) -> None:
        self._part_event("done", part)
        self.item.content.append(part)

    def _part_event(self, what: str, part: OutputText | Refusal) -> None:
        self._write_part(f"content_part.{what}", part=part)

    def _write_part(self, kind: str, **fields: Any) -> None:
        self._write(kind, content_index=len(self.item.content), **fields)


class OpenReasoning(OpenItem[ReasoningItem]):
    """What the client is shown of it, which begins with its first word."""

    def __init__(self, writer: Writer, id_: str) -> None:
        super().__init__(writer, ReasoningItem(id_, []))

    def think(self, text: str) -> None:
        if not self._pieces:
            self._write_part("reasoning_summary_part.added", part=SummaryText(""))
        self._pieces.append(text)
        self._write_part("reasoning_summary_text.delta", delta=text)

    def end(self, status: Status) -> ReasoningItem:
        if self._pieces:
            part = SummaryText("".join(self._pieces))
            self._write_part("reasoning_summary_text.done", text=part.text)
            self._write_part("reasoning_summary_part.done", part=part)
            self.item.summary.append(part)
        return super().end(status)

    def _write_part(self, kind: str, **fields: Any) -> None:
        self._write(kind, summary_index=0, **fields)


class OpenCall(OpenItem[Item]):
    KIND: ClassVar[str]

    def say(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            self._write(f"{self.KIND}.delta", delta=text)


class OpenFunctionCall(OpenCall[FunctionCallItem]):
    KIND = "function_call_arguments"

    def end(self, status: Status) -> FunctionCallItem:
        item = self.item
        item.arguments = "".join(self._pieces)
        self._write(f"{self.KIND}.done", name=item.name, arguments=item.arguments)
        return super().end(status)


class OpenCustomToolCall(OpenCall[CustomToolCallItem]):
    KIND = "custom_tool_call_input"

    def end(self, status: Status) -> CustomToolCallItem:
        self.item.input = "".join(self._pieces)
        self._write(f"{self.KIND}.done", input=self.item.input)
        return super().end(status)


AnyOpenItem: TypeAlias = OpenMessage | OpenReasoning | OpenFunctionCall | OpenCustomToolCall
