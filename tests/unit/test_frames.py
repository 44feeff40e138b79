"""Streams as clients read them: by the standard, by OpenAI's SDK, and by lines as httpx does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from claude_proxy.conversation import (
    ArgumentsDelta,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    ReasoningDone,
    Started,
    TextDelta,
    ToolCallStarted,
    Usage,
)
from claude_proxy.errors import BadUpstream
from claude_proxy.openai.chat.completion import ChunkStream
from claude_proxy.openai.responses.request import decode
from claude_proxy.openai.responses.response import begin
from claude_proxy.openai.responses.stream import ResponseStream
from claude_proxy.openai.responses.toolbox import Toolbox

# Everything at which something cuts lines, and what stands at the beginning of them.
BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
texts = st.text(st.sampled_from(f'{BREAKS}\x00\ufeff\\": a\u00e9\U0001f600'), max_size=12) | (
    st.sampled_from(["data: [DONE]", "\n\ndata: x\n\n", ":\n", "event: y", "id: \x00", "retry: 1"])
)


@st.composite
def answers(draw) -> list[Event]:
    said = st.one_of(
        texts.map(TextDelta),
        texts.map(ReasoningDelta),
        texts.map(ArgumentsDelta),
        st.builds(ToolCallStarted, texts, texts),
        texts.map(ReasoningDone),
    )
    refusal = draw(st.none() | texts.filter(bool))
    end = Finished(draw(st.sampled_from(FinishReason)), Usage(), refusal)
    return [Started(draw(texts)), *draw(st.lists(said, max_size=8)), end]


def by_the_standard(data: bytes) -> list[tuple[str, str]]:
    """WHATWG's event stream interpretation: types and data."""
    events, kind, found = [], "", []
    for line in re.split("\r\n|\r|\n", data.decode().removeprefix("\ufeff")):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if found:
                events.append((kind or "message", "\n".join(found)))
            kind, found = "", []
        elif name == "event":
            kind = value
        elif name == "data":
            found.append(value)
    return events


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def by_the_sdk(data: bytes, size: int) -> list[tuple[str, str]]:
    return [
        (event.event or "message", event.data)
        for event in SSEDecoder().iter_bytes(pieces(data, size))
    ]


def by_lines(data: bytes, size: int) -> list[str]:
    """As clients do that read no events, but lines that begin with ``data:``."""
    answer = httpx.Response(200, headers=UTF_8, content=pieces(data, size))
    return [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]


UTF_8 = {"content-type": "text/event-stream; charset=utf-8"}


def chat(events: list[Event], broken: str | None) -> bytes:
    return written(ChunkStream(include_usage=True), events, broken)


def response(events: list[Event], broken: str | None) -> bytes:
    stream = ResponseStream(
        begin(decode(json.dumps({"input": f"a{BREAKS}b", "user": BREAKS}).encode()), kept=False),
        Toolbox([]),
        lambda _: False,
        summarises=True,
        seals=True,
    )
    return written(stream, events, broken)


def written(stream: Any, events: list[Event], broken: str | None) -> bytes:
    """With a failure in the place of its end, if it is to break."""
    if broken is None:
        return b"".join(map(stream.feed, events))
    frames = b"".join(map(stream.feed, events[:-1]))
    return frames + stream.fail(BadUpstream(f"it broke{broken}"), Usage())


@pytest.mark.parametrize("dialect", [chat, response])
@settings(deadline=None)
@given(answers(), st.none() | texts, st.integers(1, 100))
@example([Started(BREAKS), TextDelta(BREAKS), Finished(FinishReason.STOP, Usage())], BREAKS, 1)
def test_every_reader_reads_the_same_events(dialect: Callable, events, broken, size):
    data = dialect(events, broken)
    read = by_the_standard(data)
    assert by_the_sdk(data, size) == read
    assert by_lines(data, size) == [said for _, said in read]
    assert data == b"".join(
        b"data: %b\n\n" % said.encode()
        if kind == "message"
        else b"event: %b\ndata: %b\n\n" % (kind.encode(), said.encode())
        for kind, said in read
    )


@settings(deadline=None)
@given(answers())
def test_what_chunks_say_is_what_was_said(events):
    *chunks, done = [said for _, said in by_the_standard(chat(events, None))]
    assert done == "[DONE]"
    parsed = [ChatCompletionChunk.model_validate_json(said, strict=True) for said in chunks]
    deltas = [choice.delta for chunk in parsed for choice in chunk.choices]
    assert [delta.content for delta in deltas[1:] if delta.content is not None] == [
        event.text for event in events if isinstance(event, TextDelta)
    ]
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    assert [call.function.name for call in calls if call.id is not None] == [
        event.name for event in events if isinstance(event, ToolCallStarted)
    ]
    assert {chunk.model for chunk in parsed} == {events[0].model}


one_event: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


@settings(deadline=None)
@given(answers(), st.none() | texts)
def test_what_events_say_is_what_was_said(events, broken):
    read = by_the_standard(response(events, broken))
    values = [json.loads(said) for _, said in read]
    assert [kind for kind, _ in read] == [value["type"] for value in values]
    for _, said in read:
        one_event.validate_json(said)
    assert "".join(v["delta"] for v in values if v["type"] == "response.output_text.delta") == (
        "".join(event.text for event in events if isinstance(event, TextDelta))
    )
