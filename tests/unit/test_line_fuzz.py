"""What a CLI may never say: real lines with something odd in them, and bytes of all kinds.

A real process, ``cat``, says them; whatever we answer comes back from it as one more line.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from claude_proxy.claude import stream_json
from claude_proxy.claude.answer import Answer
from claude_proxy.claude.channel import Channel
from claude_proxy.claude.process import LineBuffer, Process, ProcessEnded
from claude_proxy.claude.stream_json import LineError, decode
from claude_proxy.claude.structured import StructuredAnswer
from claude_proxy.claude.tools import ToolNames
from claude_proxy.conversation import Conversation, Event, Message, Text, Tool
from claude_proxy.errors import BadUpstream, ProxyError, openai_body
from claude_proxy.openai.chat.completion import ChunkStream
from tests.unit.fake_cli import run

USAGE = {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 1}


def stream(kind: str, **event: Any) -> dict[str, Any]:
    return {"type": "stream_event", "parent_tool_use_id": None, "event": {"type": kind, **event}}


# One turn and what may stand in it, as CLI 2.1.330 says it.
LINES: list[dict[str, Any]] = [
    {"type": "system", "subtype": "init", "tools": ["StructuredOutput"], "model": "m"},
    {"type": "system", "subtype": "api_retry", "attempt": 1, "retry_delay_ms": 9.5, "error": "x"},
    {
        "type": "rate_limit_event",
        "rate_limit_info": {"status": "rejected", "resetsAt": 1, "rateLimitType": "five_hour"},
    },
    stream("message_start", message={"model": "claude-x", "usage": USAGE}),
    stream("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
    stream("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}),
    stream("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "s"}),
    stream("content_block_stop", index=0),
    stream("content_block_start", index=1, content_block={"type": "text", "text": ""}),
    stream("content_block_delta", index=1, delta={"type": "text_delta", "text": "\u2028 a\n"}),
    stream("content_block_stop", index=1),
    stream(
        "content_block_start",
        index=2,
        content_block={"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
    ),
    stream("content_block_delta", index=2, delta={"type": "input_json_delta", "partial_json": "{"}),
    stream("content_block_stop", index=2),
    stream("message_delta", delta={"stop_reason": "tool_use"}, usage=USAGE),
    stream("message_stop"),
    {"type": "assistant", "message": {"content": []}, "error": "rate_limit"},
    {"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "a"}]}},
    {
        "type": "control_request",
        "request_id": "r",
        "request": {
            "subtype": "mcp_message",
            "message": {"id": 1, "method": "initialize", "params": {"protocolVersion": "1"}},
        },
    },
    {"type": "control_request", "request_id": "r", "request": {"subtype": "hook_callback"}},
    {"type": "control_response", "response": {"subtype": "success", "request_id": "q"}},
    {
        "type": "result",
        "subtype": "success",
        "is_error": True,
        "api_error_status": 429,
        "num_turns": 1,
        "result": "x",
        "total_cost_usd": 0.1,
        "modelUsage": {"m": {"outputTokens": 3}},
    },
]


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(value, dict | list):
        return []
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [place for key, child in inner for place in [(*way, key), *places(child, (*way, key))]]


def put(value: Any, way: tuple[Any, ...], to: Any) -> Any:
    value = copy.deepcopy(value)
    inside = value
    for key in way[:-1]:
        inside = inside[key]
    inside[way[-1]] = to
    return value


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    st.sampled_from(["text_delta", "tool_use", "result", "mcp_message", "\x00", "a\nb", "\u2028"]),
    st.sampled_from([0, -1, 2**63, 10**400, 1e300, -1e300, 5e-324, 0.5]),
)
odd = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=3), scalars)
mutated = st.sampled_from([(line, way) for line in LINES for way in places(line)]).flatmap(
    lambda place: odd.map(lambda value: put(*place, value))
)
written = mutated.map(lambda line: json.dumps(line).encode())


@st.composite
def torn(draw) -> bytes:
    """A real line with some bytes changed."""
    line = bytearray(json.dumps(draw(st.sampled_from(LINES))).encode())
    at = draw(st.integers(0, len(line)))
    line[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(line)


any_line = written | torn() | st.sampled_from(LINES).map(lambda line: json.dumps(line).encode())


@settings(max_examples=300, deadline=None)
@given(any_line)
def test_a_real_line_with_something_odd_is_a_line_none_or_a_line_error(line):
    assert isinstance(outcome_of(line), stream_json.Line | LineError | None)


def outcome_of(line: bytes) -> stream_json.Line | LineError | None:
    try:
        return decode(line)
    except LineError as error:
        return error


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"user","message":{"content":[' + b"{}," * 1_000_000 + b"{}]}}",
        b'{"type":"control_request","request_id":"r","request":{"a":"'
        + rb"\ud800" * 100_000
        + b'"}}',
        b'{"type":"assistant","error":' + b'{"a":' * 200_000,
        b"{" * 1_000_000,
        b'{"type":' * 200_000,
    ],
    ids=["wide", "halves", "deep", "braces", "types"],
)
def test_a_monstrous_line_is_one_like_any_other(line):
    outcome = outcome_of(line)
    if isinstance(outcome, LineError):
        assert f"{len(line)} bytes" in str(outcome)
    else:
        assert isinstance(outcome, stream_json.Line)


CONVERSATION = Conversation("m", "", (Message("user", (Text("x"),)),), tools=(Tool("f", "{}"),))


def told(answer: Answer | StructuredAnswer, lines: list[bytes]) -> None:
    """What comes of the lines can be written to a client, as can the error that ends them."""
    out = ChunkStream(include_usage=True)
    try:
        for raw in lines:
            try:
                line = decode(raw)
            except LineError:
                return
            events: list[Event] = [] if line is None else answer.feed(line)
            b"".join(map(out.feed, events)).decode()
    except ProxyError as error:
        openai_body(error).decode()
        error.headers()


@settings(max_examples=200, deadline=None)
@given(st.lists(any_line, max_size=12), st.booleans())
def test_any_lines_make_an_answer_or_an_error(lines, structured):
    names = ToolNames(CONVERSATION)
    answer = Answer(names)
    told(StructuredAnswer(names, answer.spent) if structured else answer, lines)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(LINES) - 1), st.data())
def test_one_odd_line_in_a_turn_makes_an_answer_or_an_error(at, data):
    lines = [json.dumps(line).encode() for line in LINES]
    way = data.draw(st.sampled_from(places(LINES[at])))
    lines[at] = json.dumps(put(LINES[at], way, data.draw(odd))).encode()
    told(Answer(ToolNames(CONVERSATION)), lines)


@settings(max_examples=60, deadline=None)
@given(st.lists(any_line | st.binary(max_size=20), max_size=8))
@example([json.dumps(put(LINES[18], ("request", "message", "params"), [1])).encode()])
@example([json.dumps(put(LINES[18], ("request", "message", "params"), "x")).encode()])
@example([b"\x00", b"\xff\xfe", b"[]", b"  ", b'{"type":"x"}'])
def test_a_channel_gives_lines_or_one_of_its_errors(lines):
    async def work() -> None:
        process = await Process.spawn(["cat"], {"PATH": os.environ["PATH"]}, Path("/"))
        channel = Channel(process)
        try:
            await process.write(b"".join(line + b"\n" for line in lines) + END, 5)
            async with asyncio.timeout(20):
                while True:
                    batch = await channel.next(10)
                    assert all(isinstance(line, stream_json.Line) for line in batch or ())
                    if any(line == decode(END) for line in batch or ()):
                        return
        except (BadUpstream, ProcessEnded):
            pass
        finally:
            await process.end(1)

    run(work)


END = b'{"type":"control_response","response":{"request_id":"the end"}}\n'


@given(st.lists(st.binary(max_size=8) | st.just(b"\n") | st.just(b"\r\n\n"), max_size=20))
def test_lines_are_those_of_the_whole_and_the_rest_waits(pieces):
    buffer = LineBuffer()
    lines = [line for piece in pieces for line in buffer.feed(piece)]
    whole = b"".join(pieces)
    assert b"\n".join([*lines, b""]) == whole[: whole.rfind(b"\n") + 1]
    assert buffer.feed(b"\n") == [whole[whole.rfind(b"\n") + 1 :]]
