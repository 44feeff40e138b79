"""A plan in Anthropic's wire format: server-sent events, or the same folded into one message.

Event order: message_start, per block content_block_start, content_block_delta...,
content_block_stop (a `ping` after the first start), message_delta, message_stop. (api-facts.md,
sections 9 and 10.)
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from claude_proxy.simulator.cache import InputUsage
from claude_proxy.simulator.prompt import Json
from claude_proxy.simulator.script import Block, Plan

BATCH = 256  # deltas in one write, about 32 KiB
REFUSAL = {
    "type": "refusal",
    "category": "simulated",
    "explanation": "The simulator was told to refuse.",
}
SIGNATURE = base64.b64encode(b"a simulated signature").decode()
REDACTED = base64.b64encode(b"simulated redacted thinking").decode()

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Answer:
    """All there is to know for writing an answer."""

    id: str
    model: str
    plan: Plan
    usage: InputUsage


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes to write at once; `deltas` is how many have been written with them, in all."""

    data: bytes
    deltas: int


def frame(event: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode(event))


def delta_count(answer: Answer) -> int:
    """How many content_block_delta events `steps` gives."""
    return sum(_count(block, answer.plan) for block in answer.plan.blocks)


def steps(answer: Answer, positions: Iterable[int], batch: int = BATCH) -> Iterator[Step]:
    """The stream, in writes of at most `batch` deltas that end exactly at each of `positions`
    (delta counts; 0 is after message_start). The last step is message_stop alone."""
    stops = sorted(positions)
    sent = 0
    waiting = [frame(_message_start(answer))]
    if batch == 1 or (stops and stops[0] == 0):
        yield Step(waiting.pop(), 0)
    for index, block in enumerate(answer.plan.blocks):
        waiting.append(frame(_block_start(index, block)))
        if index == 0:
            waiting.append(frame({"type": "ping"}))
        deltas = _deltas(block, answer.plan)
        done = 0
        while done < len(deltas):
            count = min(batch, len(deltas) - done, _distance(stops, sent))
            waiting.append(_delta_frames(index, deltas[done : done + count]))
            done += count
            sent += count
            yield Step(b"".join(waiting), sent)
            waiting.clear()
        waiting.append(frame({"type": "content_block_stop", "index": index}))
        if batch == 1:  # paced: what comes between two deltas must not wait for the second
            yield Step(b"".join(waiting), sent)
            waiting.clear()
    waiting.append(frame(_message_delta(answer)))
    yield Step(b"".join(waiting), sent)
    yield Step(frame({"type": "message_stop"}), sent)


def message(answer: Answer) -> Json:
    """The answer without `stream`: what a client makes of the stream."""
    plan = answer.plan
    whole = _message_start(answer)["message"]
    end = _message_delta(answer)
    whole["content"] = [_whole(block, plan) for block in plan.blocks]
    whole |= end["delta"]
    whole["usage"] |= end["usage"]
    return dict(whole)


def _distance(stops: list[int], sent: int) -> int:
    index = bisect_right(stops, sent)
    return stops[index] - sent if index < len(stops) else BATCH


def _delta_frames(index: int, deltas: list[bytes]) -> bytes:
    head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'
    head %= index
    return b"%b%b}\n\n" % (head, (b"}\n\n" + head).join(deltas))


def _deltas(block: Block, plan: Plan) -> list[bytes]:
    """The `delta` objects of a block, encoded."""
    match block.kind:
        case "text":
            return _encoded(b'{"type":"text_delta","text":', block.pieces)
        case "thinking":
            steps = block.pieces if plan.thinking_shown else ()
            return [
                *_encoded(b'{"type":"thinking_delta","thinking":', steps),
                *_encoded(b'{"type":"signature_delta","signature":', (SIGNATURE,)),
            ]
        case "tool_use":
            return _encoded(b'{"type":"input_json_delta","partial_json":', ("", *block.pieces))
        case "redacted_thinking":
            return []


def _count(block: Block, plan: Plan) -> int:
    """The length of `_deltas`, without the work."""
    match block.kind:
        case "text":
            return len(block.pieces)
        case "thinking":
            return (len(block.pieces) if plan.thinking_shown else 0) + 1
        case "tool_use":
            return len(block.pieces) + 1
        case "redacted_thinking":
            return 0


def _encoded(head: bytes, pieces: tuple[str, ...]) -> list[bytes]:
    return [b"%b%b}" % (head, _encode(piece)) for piece in pieces]


def _block_start(index: int, block: Block) -> Json:
    return {"type": "content_block_start", "index": index, "content_block": _empty(block)}


def _empty(block: Block) -> Json:
    match block.kind:
        case "text":
            return {"type": "text", "text": ""}
        case "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "redacted_thinking":
            return {"type": "redacted_thinking", "data": REDACTED}
        case "tool_use":
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": {}}


def _whole(block: Block, plan: Plan) -> Json:
    text = "".join(block.pieces)
    match block.kind:
        case "text":
            return _empty(block) | {"text": text}
        case "thinking":
            shown = text if plan.thinking_shown else ""
            return _empty(block) | {"thinking": shown, "signature": SIGNATURE}
        case "redacted_thinking":
            return _empty(block)
        case "tool_use":
            try:
                return _empty(block) | {"input": msgspec.json.decode(text)}
            except msgspec.DecodeError:  # cut by max_tokens
                return _empty(block)


def _message_start(answer: Answer) -> Json:
    return {
        "type": "message_start",
        "message": {
            "id": answer.id,
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                **_input_usage(answer.usage),
                "cache_creation": {
                    "ephemeral_5m_input_tokens": answer.usage.written_5m,
                    "ephemeral_1h_input_tokens": answer.usage.written_1h,
                },
                "output_tokens": 1,
                "service_tier": "standard",
            },
        },
    }


def _message_delta(answer: Answer) -> Json:
    plan = answer.plan
    delta: Json = {"stop_reason": plan.stop_reason, "stop_sequence": plan.stop_sequence}
    if plan.stop_reason == "refusal":
        delta["stop_details"] = REFUSAL
    usage = {
        **_input_usage(answer.usage),
        "output_tokens": plan.output_tokens,
        "output_tokens_details": {"thinking_tokens": plan.thinking_tokens},
    }
    return {"type": "message_delta", "delta": delta, "usage": usage}


def _input_usage(usage: InputUsage) -> Json:
    return {
        "input_tokens": usage.uncached,
        "cache_creation_input_tokens": usage.written,
        "cache_read_input_tokens": usage.read,
    }
