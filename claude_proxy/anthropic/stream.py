"""The Messages API: what leaves, streamed and whole. Pure.

Both are made of the same events on the wire: ``MessageStream`` frames them, ``whole`` puts the
message together of them, as Anthropic's own SDKs do.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import UNSET

from claude_proxy import conversation as neutral
from claude_proxy.anthropic import events as wire
from claude_proxy.anthropic.events import (
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Delta,
    Event,
    Message,
    MessageDelta,
    MessageStart,
    MessageStop,
    Ping,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    to_usage,
)
from claude_proxy.conversation import (
    ArgumentsDelta,
    Citation,
    Finished,
    FinishReason,
    ReasoningDelta,
    ReasoningDone,
    Started,
    TextDelta,
    TextDone,
    ToolCallStarted,
)
from claude_proxy.dialect.frames import frame
from claude_proxy.errors import ProxyError, anthropic_body

STOP_REASONS = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.CONTEXT_FULL: "model_context_window_exceeded",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.REFUSAL: "refusal",
}
_encode = msgspec.json.Encoder().encode


def tool_use_id(call_id: str) -> str:
    """As this API's look; when it comes back, calls are known by their place."""
    return f"toolu_{call_id.removeprefix('call')}"


class Blocks:
    """Neutral events become the API's, whose blocks have a beginning, an index and an end."""

    def __init__(self) -> None:
        self._index = -1
        self._open: type[Block] | None = None

    def feed(self, event: neutral.Event) -> Iterator[Event]:
        match event:
            case Started(model=model, id=id_, usage=usage):
                made = id_ or f"msg_{secrets.token_hex(12)}"
                yield MessageStart(Message(made, model, to_usage(usage)))
                yield Ping()
            case TextDelta(text=text):
                yield from self._within(TextBlock(), wire.TextDelta(text))
            case Citation(json=citation):
                where = wire.CitationsDelta(msgspec.json.decode(citation))
                yield from self._within(TextBlock(), where)
            case ReasoningDelta(text=text):
                yield from self._within(ThinkingBlock(), wire.ThinkingDelta(text))
            case ReasoningDone(signature=signature, redacted=redacted):
                yield from self._end_thought(signature, redacted=redacted)
            case ToolCallStarted(id=id_, name=name):
                yield from self._begin(ToolUseBlock(tool_use_id(id_), name))
            case ArgumentsDelta(text=text):
                yield BlockDelta(self._index, wire.InputJsonDelta(text))
            case TextDone():
                yield from self._end()
            case Finished():
                yield from self._finish(event)

    def _begin(self, block: Block) -> Iterator[Event]:
        yield from self._end()
        self._index += 1
        self._open = type(block)
        yield BlockStart(self._index, block)

    def _within(self, block: Block, delta: Delta) -> Iterator[Event]:
        """In the block of that kind that is open, or in a new one."""
        if self._open is not type(block):
            yield from self._begin(block)
        yield BlockDelta(self._index, delta)

    def _end_thought(self, signature: str, *, redacted: bool) -> Iterator[Event]:
        if redacted:
            yield from self._begin(RedactedThinkingBlock(signature))
        else:
            yield from self._within(ThinkingBlock(), wire.SignatureDelta(signature))
        yield from self._end()

    def _end(self) -> Iterator[Event]:
        if self._open is not None:
            self._open = None
            yield BlockStop(self._index)

    def _finish(self, finished: Finished) -> Iterator[Event]:
        yield from self._end()
        reason = "stop_sequence" if finished.stopped_at else STOP_REASONS[finished.reason]
        details = wire.StopDetails(finished.refusal) if finished.refusal else UNSET
        ending = wire.Ending(reason, finished.stopped_at, details)
        yield MessageDelta(ending, to_usage(finished.usage))
        yield MessageStop()


class MessageStream:
    """``feed`` one event, get the SSE frames it makes."""

    keep_alive = frame(_encode(Ping()), "ping")

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._blocks = Blocks()

    def feed(self, event: neutral.Event) -> bytes:
        return b"".join(map(framed, self._blocks.feed(event)))

    def fail(self, error: ProxyError, _: neutral.Usage) -> bytes:
        """The frame that ends a stream which has begun and cannot be finished."""
        return frame(anthropic_body(error, self._request_id), "error")


def framed(event: Event) -> bytes:
    return frame(_encode(event), str(event.__struct_config__.tag))


def whole(events: Iterable[neutral.Event]) -> bytes:
    """The body of the answer that was not asked for as a stream."""
    blocks = Blocks()
    return _encode(assembled(made for event in events for made in blocks.feed(event)))


def assembled(events: Iterable[Event]) -> Message:
    """Raises ValueError when they do not begin with the message's start."""
    message: Message | None = None
    arguments = ""
    for event in events:
        match event:
            case MessageStart(message=message):
                pass
            case BlockStart(content_block=block) if message is not None:
                message.content.append(block)
                arguments = ""
            case BlockDelta(delta=wire.InputJsonDelta(partial_json=piece)):
                arguments += piece
            case BlockDelta(delta=delta) if message is not None:
                grow(message.content[-1], delta)
            case BlockStop() if message is not None:
                close(message.content[-1], arguments)
            case MessageDelta(delta=ending, usage=usage) if message is not None:
                message.usage = usage
                message.stop_reason = ending.stop_reason
                message.stop_sequence = ending.stop_sequence
                message.stop_details = ending.stop_details
    if message is None:
        raise ValueError("events without the beginning of a message")
    return message


def grow(block: Block, delta: Delta) -> None:
    match block, delta:
        case TextBlock(), wire.TextDelta(text=text):
            block.text += text
        case TextBlock(), wire.CitationsDelta(citation=citation):
            block.citations = [*(block.citations or ()), citation]
        case ThinkingBlock(), wire.ThinkingDelta(thinking=text):
            block.thinking += text
        case ThinkingBlock(), wire.SignatureDelta(signature=signature):
            block.signature += signature


def close(block: Block, arguments: str) -> None:
    """Arguments that are no JSON, as those of an answer that was cut off, are kept as a text."""
    if isinstance(block, ToolUseBlock):
        try:
            block.input = msgspec.json.decode(arguments or "{}")
        except msgspec.DecodeError:
            block.input = {"INVALID_JSON": arguments}
