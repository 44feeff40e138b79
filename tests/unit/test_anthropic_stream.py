"""Anthropic's messages as they leave: the stream, the whole body, and that both say the same."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from anthropic import Anthropic, APIStatusError
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from claude_proxy.anthropic.stream import MessageStream, whole
from claude_proxy.conversation import (
    ArgumentsDelta,
    Citation,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    ReasoningDone,
    Started,
    TextDelta,
    TextDone,
    ToolCallStarted,
    Usage,
)
from claude_proxy.errors import BadUpstream, Overloaded
from tests import openai_types

DONE = Finished(FinishReason.STOP, Usage(3, 20, 100, 40, 8))
CITED = {
    "type": "char_location",
    "cited_text": "x\u2028",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 2,
    "file_id": None,
}

one_event: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
counts = st.integers(0, 10**9)
usages = st.builds(Usage, counts, counts, counts, counts, counts)
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.sampled_from(
    ["\u2028", "\n\ndata: x\n\n", "event: y", "\x85\u2029\r"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def calls(draw) -> list[Event]:
    """Arguments in any pieces."""
    said = json.dumps(draw(st.dictionaries(texts, json_values, max_size=3)))
    cuts = sorted(draw(st.lists(st.integers(0, len(said)), max_size=4)))
    places = zip([0, *cuts], [*cuts, len(said)], strict=True)
    pieces = [ArgumentsDelta(said[begin:end]) for begin, end in places]
    id_ = f"call{draw(st.uuids()).hex}"
    return [ToolCallStarted(id_, draw(texts)), *pieces]


thoughts = st.tuples(st.lists(texts.map(ReasoningDelta)), texts.map(ReasoningDone)).map(
    lambda made: [*made[0], made[1]]
)
redacted = texts.map(lambda data: [ReasoningDone(data, redacted=True)])
said = st.lists(
    texts.map(TextDelta) | st.just(Citation(json.dumps(CITED))), min_size=1, max_size=5
).map(lambda made: [*made, TextDone()])
blocks = st.lists(thoughts | redacted | said | calls(), max_size=5)
ends = st.builds(
    Finished, st.sampled_from(FinishReason), usages, st.none() | texts, st.none() | texts
)


@st.composite
def answers(draw) -> list[Event]:
    between = [event for block in draw(blocks) for event in block]
    read = Usage(draw(counts), draw(counts), draw(counts), draw(counts))
    started = Started(draw(texts), draw(st.just("") | texts), read)
    return [started, *between, draw(ends)]


def streamed(events: Iterable[Event]) -> bytes:
    stream = MessageStream("req_1")
    return b"".join(map(stream.feed, events))


def wire(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The stream's events; each is one that Anthropic's types know, and of the type it says."""
    made = []
    *frames, rest = streamed(events).decode().split("\n\n")
    assert rest == ""
    for frame in frames:
        kind, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert kind == f"event: {event['type']}"
        if event["type"] != "ping":  # which the SDK drops before it looks at types
            one_event.validate_python(event, strict=True)
            assert openai_types.problems(event, RawMessageStreamEvent) == []
        made.append(event)
    return made


def message(events: Iterable[Event]) -> dict[str, Any]:
    made = json.loads(whole(events))
    assert openai_types.problems(made, Message) == []
    return made


class Canned(BaseHTTPRequestHandler):
    """Says what ``server.said`` is to who asks for a stream, else ``server.body``."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        streams = asked.get("stream")
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if streams else "application/json")
        self.end_headers()
        self.wfile.write(self.server.said if streams else self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def canned():
    with ThreadingHTTPServer(("127.0.0.1", 0), Canned) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def sdk(canned):
    with Anthropic(
        base_url=f"http://127.0.0.1:{canned.server_port}", api_key="x", max_retries=0
    ) as made:
        yield made


ASKED = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}


def as_told(message: Any) -> dict[str, Any]:
    """Without what only one way, or one version, of the SDK adds or leaves out."""

    def bare(value: dict[str, Any]) -> dict[str, Any]:
        odd = ("parsed_output", "output_tokens_details")
        return {k: v for k, v in value.items() if v is not None and k not in odd}

    told = bare(message.to_dict())
    return told | {"content": [*map(bare, told["content"])], "usage": bare(told["usage"])}


@settings(deadline=None, max_examples=40)
@given(answers())
def test_what_the_sdk_makes_of_the_stream_is_the_whole_answer(canned, sdk, events):
    canned.said, canned.body = streamed(events), whole(events)
    with sdk.messages.stream(**ASKED) as stream:
        accumulated = as_told(stream.get_final_message())
    expected = as_told(sdk.messages.create(**ASKED))
    if not events[0].id:
        assert accumulated.pop("id") != expected.pop("id")
    assert accumulated == expected


@settings(deadline=None, max_examples=50)
@given(answers())
def test_every_block_is_begun_and_ended_once_and_in_turn(events):
    first, ping, *between, delta, stop = wire(events)
    kinds = [event["type"] for event in (first, ping, delta, stop)]
    assert kinds == ["message_start", "ping", "message_delta", "message_stop"]
    is_open, index = False, -1
    for event in between:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                is_open, index = True, index + 1
            case "content_block_stop":
                assert is_open
                is_open = False
            case kind:
                assert (kind, is_open) == ("content_block_delta", True)
        assert event["index"] == index
    assert not is_open


@settings(deadline=None, max_examples=50)
@given(answers())
def test_the_whole_answer_holds_all_that_was_said(events):
    made = message(events)
    kinds = {"text": "", "thinking": "", "data": ""}
    for block in made["content"]:
        for name in kinds:
            kinds[name] += block.get(name, "")
    assert kinds["text"] == "".join(e.text for e in events if isinstance(e, TextDelta))
    assert kinds["thinking"] == "".join(e.text for e in events if isinstance(e, ReasoningDelta))
    hidden = [e.signature for e in events if isinstance(e, ReasoningDone) and e.redacted]
    assert kinds["data"] == "".join(hidden)
    uses = [block for block in made["content"] if block["type"] == "tool_use"]
    started = [event for event in events if isinstance(event, ToolCallStarted)]
    assert [use["name"] for use in uses] == [call.name for call in started]
    arguments = "".join(e.text for e in events if isinstance(e, ArgumentsDelta))
    assert "".join(json.dumps(use["input"]) for use in uses) == arguments
    finished = events[-1]
    assert made["usage"]["input_tokens"] == finished.usage.input
    assert made["usage"]["output_tokens"] == finished.usage.output


def test_the_whole_answer():
    events = [
        Started("claude-x-1", "msg_1", Usage(3, 20, 100, 1)),
        *(ReasoningDelta("h"), ReasoningDelta("m"), ReasoningDone("sig")),
        *(TextDelta("Hel"), TextDelta("lo"), Citation(json.dumps(CITED)), TextDone()),
        *(ToolCallStarted("call12ab", "look"), ArgumentsDelta('{"n"'), ArgumentsDelta(": 1}")),
        Finished(FinishReason.TOOL_CALLS, Usage(3, 20, 100, 40, 8)),
    ]
    assert message(events) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x-1",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "text", "text": "Hello", "citations": [CITED]},
            {"type": "tool_use", "id": "toolu_12ab", "name": "look", "input": {"n": 1}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 100,
            "cache_read_input_tokens": 20,
            "output_tokens": 40,
            "output_tokens_details": {"thinking_tokens": 8},
        },
    }


@pytest.mark.parametrize(
    ("finished", "told"),
    [
        ({"reason": FinishReason.STOP}, ("end_turn", None)),
        ({"reason": FinishReason.STOP, "stopped_at": "END"}, ("stop_sequence", "END")),
        ({"reason": FinishReason.LENGTH}, ("max_tokens", None)),
        ({"reason": FinishReason.CONTEXT_FULL}, ("model_context_window_exceeded", None)),
        ({"reason": FinishReason.TOOL_CALLS}, ("tool_use", None)),
        ({"reason": FinishReason.REFUSAL, "refusal": "no"}, ("refusal", None)),
    ],
)
def test_stop_reasons(finished, told):
    made = message([Started("m"), TextDelta("x"), Finished(usage=Usage(), **finished)])
    assert (made["stop_reason"], made["stop_sequence"]) == told
    why = (
        {"type": "refusal", "category": None, "explanation": "no"}
        if "refusal" in finished
        else None
    )
    assert made.get("stop_details") == why


@pytest.mark.parametrize("said", ['{"a": ', "[1]x", '{"a": "\u2028'])
def test_arguments_that_were_cut_off_are_kept_as_a_text(said):
    events = [Started("m"), ToolCallStarted("call1", "f"), ArgumentsDelta(said), DONE]
    assert message(events)["content"][0]["input"] == {"INVALID_JSON": said}


def test_an_answer_without_an_id_gets_one():
    assert message([Started("m"), DONE])["id"].startswith("msg_")


def test_no_line_break_but_those_of_the_format_is_in_a_stream():
    data = streamed([Started("m"), TextDelta("a\u2028b\u2029c\x85d\r\ne"), DONE]).decode()
    assert len(data.splitlines()) == data.count("\n")
    (delta,) = [line for line in data.splitlines() if "text_delta" in line]
    assert json.loads(delta.removeprefix("data: "))["delta"]["text"] == "a\u2028b\u2029c\x85d\r\ne"


@pytest.mark.parametrize(
    ("error", "kind"),
    [(Overloaded("busy\nnow"), "overloaded_error"), (BadUpstream("x"), "api_error")],
)
def test_an_error_in_mid_stream_is_one_frame_that_the_sdk_raises(canned, sdk, error, kind):
    stream = MessageStream("req_1")
    frame = stream.fail(error, Usage())
    assert frame.startswith(b"event: error\ndata: ")
    assert frame.count(b"\n") == 3
    assert json.loads(frame.partition(b"data: ")[2]) == {
        "type": "error",
        "error": {"type": kind, "message": error.message},
        "request_id": "req_1",
    }
    begun = MessageStream("req_1")
    canned.said = begun.feed(Started("m")) + begun.feed(TextDelta("one")) + frame
    with (
        pytest.raises(APIStatusError) as caught,
        sdk.messages.stream(**ASKED) as events,
    ):
        events.until_done()
    assert caught.value.body["error"]["message"] == error.message


def test_what_keeps_a_stream_alive_is_a_ping():
    assert MessageStream.keep_alive == b'event: ping\ndata: {"type":"ping"}\n\n'
