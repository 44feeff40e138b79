"""Responses as they leave: every event, the whole body, and a kept one once more."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types import responses

from claude_proxy.conversation import (
    ArgumentsDelta,
    Event,
    Finished,
    FinishReason,
    Message,
    Reasoning,
    ReasoningDelta,
    ReasoningDone,
    Started,
    Text,
    TextDelta,
    ToolCall,
    ToolCallStarted,
    Usage,
)
from claude_proxy.errors import (
    BadUpstream,
    InvalidRequest,
    Overloaded,
    ProxyError,
    RateLimited,
    RequestTooLarge,
    UsageLimitReached,
)
from claude_proxy.openai.responses import response as response_module
from claude_proxy.openai.responses import stream as stream_module
from claude_proxy.openai.responses.freeform import to_arguments
from claude_proxy.openai.responses.items import read_history
from claude_proxy.openai.responses.messages import to_messages
from claude_proxy.openai.responses.reasoning import unseal
from claude_proxy.openai.responses.request import decode
from claude_proxy.openai.responses.response import begin
from claude_proxy.openai.responses.stream import ResponseStream, replay, whole
from claude_proxy.openai.responses.toolbox import Toolbox
from tests.openai_types import problems, sequence_problems

# A busy machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

OF_RESPONSES = ("store", "presence_penalty", "frequency_penalty")
# A custom call that was cut off has a status, which OpenAI's schema has only in its list of items.
OF_CUT_CALLS = ("item.status", "response.output.status")
EVENT_EXTENSIONS = frozenset(
    {*(f"response.{name}" for name in OF_RESPONSES), "error", "name", *OF_CUT_CALLS}
)
EXTENSIONS = frozenset({*OF_RESPONSES, "output.status"})
TOOLS = [
    {"type": "function", "name": "f", "parameters": {"type": "object"}},
    {
        "type": "custom",
        "name": "shell",
        "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'},
    },
    {
        "type": "namespace",
        "name": "files",
        "description": "On the disk",
        "tools": [{"type": "function", "name": "read"}, {"type": "custom", "name": "patch"}],
    },
    {"type": "web_search"},
]
TOOLBOX = Toolbox([msgspec.Raw(json.dumps(tool).encode()) for tool in TOOLS])
CUSTOM = ("shell", "files__patch")
MODEL = "claude-x"
STARTED = Started(MODEL)
USAGE = Usage(3, 20, 100, 40, 8)
DONE = Finished(FinishReason.STOP, USAGE)
CALLED = Finished(FinishReason.TOOL_CALLS, USAGE)
CUT = Finished(FinishReason.LENGTH, USAGE)
REFUSED = Finished(FinishReason.REFUSAL, USAGE, "I may not.")


def keep(stream: ResponseStream) -> bool:
    return stream.response.store


def stream_of(*, summarises: bool = True, seals: bool = True, **request) -> ResponseStream:
    asked = decode(json.dumps({"input": "hi", "tools": TOOLS, **request}).encode())
    return ResponseStream(
        begin(asked, kept=True), TOOLBOX, keep, summarises=summarises, seals=seals
    )


def frames_of(data: bytes) -> list[str]:
    text = data.decode()
    assert not text or text.endswith("\n\n")
    return text.removesuffix("\n\n").split("\n\n") if text else []


def parsed(data: bytes) -> list[dict]:
    events = []
    for frame in frames_of(data):
        kind, said = frame.split("\n")  # no line break in either
        assert "\r" not in frame
        event = json.loads(said.removeprefix("data: "))
        assert kind == f"event: {event['type']}"
        events.append(event)
    return events


def checked(data: bytes) -> list[dict]:
    """A whole stream, each event of OpenAI's types and all in its order."""
    events = parsed(data)
    kind = list[responses.ResponseStreamEvent]
    assert problems(events, kind, extensions=EVENT_EXTENSIONS) == []
    assert sequence_problems(events) == []
    return events


def fed(stream: ResponseStream, events: list[Event]) -> bytes:
    return b"".join(stream.feed(event) for event in events)


def events_of(*events: Event, **more) -> list[dict]:
    return checked(fed(stream_of(**more), [STARTED, *events]))


def body_of(*events: Event, **more) -> dict:
    body = json.loads(whole([STARTED, *events], stream_of(**more)))
    assert problems(body, responses.Response, extensions=EXTENSIONS) == []
    return body


@contextmanager
def the_same_ids() -> Iterator[None]:
    numbers = itertools.count()
    secrets = SimpleNamespace(token_hex=lambda size: f"{next(numbers):0{2 * size}x}")
    clock = SimpleNamespace(time=lambda: 1_800_000_000.5)
    with (
        patch.object(response_module, "secrets", secrets),
        patch.object(response_module, "time", clock),
        patch.object(stream_module, "time", clock),
    ):
        yield


# Any answer

counts = st.integers(0, 10**9)
usages = st.builds(Usage, counts, counts, counts, counts, counts)
texts = st.text(max_size=8)
spoken = st.text(min_size=1, max_size=8)
signatures = st.text("abcXYZ019+/=", max_size=9)
objects = st.dictionaries(texts, st.integers() | texts, max_size=3).map(json.dumps)
inputs = texts.map(to_arguments) | texts.map(lambda text: json.dumps({"input": text}))


@st.composite
def split(draw, text: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]


@st.composite
def thoughts(draw) -> list[Event]:
    """Not every model shows what it thinks, or signs it."""
    said = draw(st.lists(spoken.map(ReasoningDelta), max_size=3))
    redacted = not said and draw(st.booleans())
    return [*said, ReasoningDone(draw(signatures), redacted=redacted)]


@st.composite
def calls(draw) -> list[Event]:
    name = draw(st.sampled_from(["f", "files__read", *CUSTOM, "f__", "gone"]))
    arguments = draw(inputs if name in CUSTOM else objects)
    return [ToolCallStarted("", name), *map(ArgumentsDelta, draw(split(arguments)))]


said_texts = st.lists(spoken.map(TextDelta), min_size=1, max_size=3)
odd = st.one_of(
    texts.map(lambda text: [ArgumentsDelta(text)]),
    texts.map(lambda text: [TextDelta(text)]),
    texts.map(lambda text: [ReasoningDelta(text)]),
)
groups = thoughts() | said_texts | calls()
ends = st.builds(
    lambda reason, usage, refusal: Finished(
        reason, usage, refusal if reason is FinishReason.REFUSAL else None
    ),
    st.sampled_from(FinishReason),
    usages,
    spoken,
)


def numbered(said: list[list[Event]]) -> list[Event]:
    number = itertools.count()
    return [
        ToolCallStarted(f"call{next(number)}", event.name)
        if isinstance(event, ToolCallStarted)
        else event
        for group in said
        for event in group
    ]


blocks = st.lists(groups, max_size=5).map(numbered)
odd_blocks = st.lists(groups | odd, max_size=5).map(numbered)


@st.composite
def answers(draw) -> list[Event]:
    return [Started(draw(st.text(min_size=1, max_size=5))), *draw(odd_blocks), draw(ends)]


errors = st.sampled_from(
    [
        BadUpstream("broken\n\nevent: x\r\n"),
        Overloaded("busy"),
        RateLimited("wait", retry_after=9),
        UsageLimitReached("wait long", resets_at=1.0),
        InvalidRequest("no", param="messages", code="context_length_exceeded"),
        RequestTooLarge("too much"),
        ProxyError("ours"),
    ]
)
flags = st.fixed_dictionaries({"summarises": st.booleans(), "seals": st.booleans()})


@unhurried
@given(answers(), flags)
def test_every_event_is_openais_and_they_come_in_its_order(events, flags):
    told = checked(fed(stream_of(**flags), events))
    status = "incomplete" if events[-1].reason in stream_module.INCOMPLETE else "completed"
    assert told[-1]["type"] == f"response.{status}"
    assert told[-1]["response"]["model"] == events[0].model


@unhurried
@given(answers(), flags)
def test_the_stream_ends_with_what_the_whole_answer_is(events, flags):
    with the_same_ids():
        *_, last = checked(fed(stream_of(**flags), events))
    with the_same_ids():
        body = json.loads(whole(events, stream_of(**flags)))
    assert last["response"] == body
    assert problems(body, responses.Response, extensions=EXTENSIONS) == []


@unhurried
@given(answers(), flags)
def test_each_event_is_told_at_once(events, flags):
    """What is fed later changes nothing in what was said before."""
    stream = stream_of(**flags)
    parts = [stream.feed(event) for event in events]
    for event, part in zip(events, parts, strict=True):
        kinds = [told["type"] for told in parsed(part)]
        match event:
            case TextDelta(text=text) if text:
                assert kinds[-1] == "response.output_text.delta"
            case ReasoningDelta(text=text) if text and flags["summarises"]:
                assert kinds[-1] == "response.reasoning_summary_text.delta"
            case ReasoningDone():
                assert kinds[-1] == "response.output_item.done"
            case ToolCallStarted():
                assert kinds[-1] == "response.output_item.added"


@unhurried
@given(answers(), errors, usages, flags, st.data())
def test_a_stream_that_breaks_off_anywhere_fails(events, error, usage, flags, data):
    stream = stream_of(**flags)
    begun = fed(stream, events[: data.draw(st.integers(1, len(events) - 1))])
    told = checked(begun + stream.fail(error, usage))
    *_, announced, last = told
    assert last["type"] == "response.failed"
    failed = last["response"]
    assert failed["usage"]["output_tokens"] == usage.output
    assert failed["error"] == {"code": stream_module.failure_code(error), "message": error.message}
    assert failed["completed_at"] is None
    assert json.loads(stream.body) == failed
    details = {"code": error.code, "message": error.message, "param": error.param}
    assert announced == {
        "type": "error",
        "sequence_number": last["sequence_number"] - 1,
        **details,
        "error": {"type": error.type, **details},
    }


@unhurried
@given(answers(), usages, flags, st.data())
def test_a_client_gone_leaves_what_there_was(events, usage, flags, data):
    stream = stream_of(**flags)
    begun = parsed(fed(stream, events[: data.draw(st.integers(1, len(events) - 1))]))
    stream.cancel(usage)
    body = json.loads(stream.body)
    assert problems(body, responses.Response, extensions=EXTENSIONS) == []
    assert body["status"] == "cancelled"
    assert body["usage"]["output_tokens"] == usage.output
    assert body["error"] is None
    added = [e["item"]["id"] for e in begun if e["type"] == "response.output_item.added"]
    assert [item["id"] for item in body["output"]] == added


@unhurried
@given(answers(), flags)
def test_a_kept_response_is_told_once_more(events, flags):
    body = whole(events, stream_of(**flags))
    told = checked(replay(body, -1))
    assert told[-1]["response"] == json.loads(body)


@unhurried
@given(answers(), errors, flags, st.data())
def test_a_kept_failure_is_told_once_more(events, error, flags, data):
    stream = stream_of(**flags)
    fed(stream, events[: data.draw(st.integers(1, len(events) - 1))])
    stream.fail(error, USAGE)
    told = checked(replay(stream.body, -1))
    assert told[-1]["response"] == json.loads(stream.body)


@unhurried
@given(answers(), usages, flags, st.data())
def test_what_a_client_left_behind_is_told_to_its_end(events, usage, flags, data):
    """There is no event for a cancelled response; one that ends it there must be."""
    stream = stream_of(**flags)
    fed(stream, events[: data.draw(st.integers(1, len(events) - 1))])
    stream.cancel(usage)
    told = parsed(replay(stream.body, -1))
    assert problems(told, list[responses.ResponseStreamEvent], extensions=EVENT_EXTENSIONS) == []
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert told[-1]["type"] == "response.incomplete"
    assert told[-1]["response"]["output"] == json.loads(stream.body)["output"]
    assert told[-1]["response"]["usage"] is not None


@unhurried
@given(answers(), st.data())
def test_a_replay_begins_behind_any_event(events, data):
    body = whole(events, stream_of())
    frames = frames_of(replay(body, -1))
    after = data.draw(st.integers(-5, len(frames) + 5))
    first = min(max(0, after + 1), len(frames) - 1)  # the last one is always there
    assert frames_of(replay(body, after)) == frames[first:]


def test_it_is_kept_before_anybody_is_told_and_says_whether_it_was():
    told: list[bytes] = []

    def lose(stream: ResponseStream) -> bool:
        told.append(stream.body)
        return False

    asked = decode(b'{"input":"x"}')
    stream = ResponseStream(begin(asked, kept=True), TOOLBOX, lose, summarises=False, seals=False)
    stream.feed(Started("m"))
    assert told == []
    last = stream.feed(Finished(FinishReason.STOP, Usage()))
    assert json.loads(told[0])["store"] is True
    assert b'"store":false' in last
    assert json.loads(stream.body)["store"] is False


# What is kept, and comes back


def heard(events: list[Event]) -> list[Text | Reasoning | ToolCall]:
    """What the model should find of its answer in the next turn."""
    parts: list[Text | Reasoning | ToolCall] = []
    for kind, group in itertools.groupby(events, kind_of):
        run = list(group)
        if kind is TextDelta:
            parts.append(Text("".join(event.text for event in run)))
        elif kind is ReasoningDelta:
            parts += thought(run)
        elif kind is ToolCallStarted:
            parts += called(run)
    return parts


def kind_of(event: Event) -> type:
    return {ReasoningDone: ReasoningDelta, ArgumentsDelta: ToolCallStarted}.get(
        type(event), type(event)
    )


def thought(events: list[Event]) -> Iterator[Reasoning]:
    said = ""
    for event in events:
        if isinstance(event, ReasoningDelta):
            said += event.text
            continue
        if event.signature:
            yield Reasoning(said, event.signature, MODEL, event.redacted)
        said = ""


def called(events: list[Event]) -> Iterator[ToolCall]:
    begins = [at for at, event in enumerate(events) if isinstance(event, ToolCallStarted)]
    for begin_at, end in itertools.pairwise([*begins, len(events)]):
        call, *pieces = events[begin_at:end]
        said = "".join(piece.text for piece in pieces)
        given_text = to_arguments(json.loads(said)["input"]) if call.name in CUSTOM else said
        yield ToolCall(call.id, call.name, given_text)


def read_back(kept: dict[str, bytes]) -> tuple[Message, ...]:
    """With an output for each call, without which no conversation goes on."""
    items = [json.loads(item) for item in kept.values()]
    assert [item["id"] for item in items] == list(kept)
    outputs = [
        {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": "r"}
        for item in items
        if "call_id" in item
    ]
    raw = [*kept.values(), *(json.dumps(output).encode() for output in outputs)]
    return tuple(to_messages(read_history(raw), TOOLBOX))


def said_again(kept: dict[str, bytes]) -> list:
    return [part for m in read_back(kept) if m.role == "assistant" for part in m.parts]


@unhurried
@given(blocks, flags)
def test_the_answer_comes_back_as_it_was(said, flags):
    """Also to a client that saw neither the reasoning nor its seal."""
    stream = stream_of(**flags)
    fed(stream, [STARTED, *said, CALLED])
    expected = heard(said)
    if not any(isinstance(event, TextDelta | ToolCallStarted) for event in said):
        expected.append(Text(""))
    assert said_again(stream.kept()) == expected


@unhurried
@given(blocks, flags)
def test_a_client_with_the_seals_can_give_it_back_itself(said, flags):
    body = json.loads(whole([STARTED, *said, DONE], stream_of(**flags)))
    kept = {item["id"]: json.dumps(item).encode() for item in body["output"]}
    back = said_again(kept)
    expected = [p for p in heard(said) if flags["seals"] or not isinstance(p, Reasoning)]
    assert [part for part in back if part != Text("")] == expected
    for item in body["output"]:
        assert ("encrypted_content" in item) <= flags["seals"]


@unhurried
@given(blocks, errors, flags, st.booleans(), st.data())
def test_an_answer_that_broke_off_leaves_nothing_that_waits(said, error, flags, gone, data):
    stream = stream_of(**flags)
    fed(stream, [STARTED, *said[: data.draw(st.integers(0, len(said)))]])
    if gone:
        stream.cancel(USAGE)
    else:
        stream.fail(error, USAGE)
    raw = stream.kept().values()
    to_messages(read_history(raw), TOOLBOX)  # without any outputs
    assert not any(isinstance(part, ToolCall) for part in said_again(stream.kept()))


def call_events(name: str, *pieces: str, id_: str = "a") -> list[Event]:
    return [ToolCallStarted(id_, name), *map(ArgumentsDelta, pieces)]


@pytest.mark.parametrize(
    ("name", "piece", "field", "said"),
    [("f", '{"a":', "arguments", '{"a":'), ("shell", '{"input":"rm -r /tm', "input", "rm -r /tm")],
)
@pytest.mark.parametrize("answered", [True, False])
def test_a_call_that_is_not_whole_says_so_and_need_not_be_answered(
    name, piece, field, said, answered
):
    stream = stream_of()
    fed(stream, [STARTED, TextDelta("So."), *call_events(name, piece), CUT])
    _, call = stream.response.output
    assert (call.status, getattr(call, field)) == ("incomplete", said)
    assert json.loads(stream.body)["output"][1]["status"] == "incomplete"
    output = {"type": "function_call_output", "call_id": "a", "output": "no JSON"}
    more = [json.dumps(output).encode()] if answered else []
    first, *rest = to_messages(read_history([*stream.kept().values(), *more]), TOOLBOX)
    assert [type(part) for part in first.parts] == [Text, *([ToolCall] if answered else [])]
    assert len(rest) == answered


def test_a_call_that_is_whole_has_the_status_that_openai_gives_it():
    stream = stream_of()
    fed(stream, [STARTED, *call_events("shell", '{"input":"ls"}'), DONE])
    assert "status" not in json.loads(stream.body)["output"][0]


def test_a_call_in_which_the_model_was_stopped_is_not_completed():
    stream = stream_of()
    fed(stream, [STARTED, *call_events("f", '{"a":'), REFUSED])
    call, _ = stream.response.output
    assert call.status == "incomplete"
    assert json.loads(stream.kept()[call.id])["status"] == "incomplete"


# What in particular is said


def test_the_whole_of_a_simple_answer():
    told = events_of(TextDelta("Hel"), TextDelta("lo"), DONE)
    assert [event["type"] for event in told] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    response = told[-1]["response"]
    (item,) = response.pop("output")
    assert item.pop("id").startswith("msg_")
    assert item == {
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
    }
    assert response.pop("id").startswith("resp_")
    assert type(response.pop("created_at")) is int
    assert type(response.pop("completed_at")) is int
    tools = response.pop("tools")
    assert tools[0] == {
        "type": "function",
        "name": "f",
        "description": None,
        "parameters": {"type": "object"},
        "strict": False,
    }
    assert tools[1:] == TOOLS[1:]
    assert response == {
        "object": "response",
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": MODEL,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "top_logprobs": 0,
        "top_p": 1.0,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": 123,
            "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 100},
            "output_tokens": 40,
            "output_tokens_details": {"reasoning_tokens": 8},
            "total_tokens": 163,
        },
        "user": None,
        "metadata": {},
    }


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
JSON_SCHEMA = {"type": "json_schema", "name": "n", "schema": SCHEMA}


@pytest.mark.parametrize(
    ("given_fields", "echo"),
    [
        ({"instructions": "Be brief."}, {"instructions": "Be brief."}),
        ({"max_output_tokens": 16, "max_tool_calls": 3}, {}),
        ({"previous_response_id": "resp_1"}, {}),
        ({"metadata": {"a": "b"}, "user": "me", "safety_identifier": "s"}, {}),
        ({"prompt_cache_key": "k", "truncation": "auto"}, {}),
        ({"temperature": 0, "top_p": 0.5, "parallel_tool_calls": False}, {}),
        ({"tool_choice": "required"}, {}),
        ({"tool_choice": {"type": "custom", "name": "shell"}}, {}),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "f"}],
                }
            },
            {},
        ),
        ({"reasoning": {"effort": "xhigh", "summary": "auto"}}, {}),
        (
            {"reasoning": {"generate_summary": "concise"}},
            {"reasoning": {"effort": None, "summary": "concise"}},
        ),
        (
            {"text": {"format": {"type": "json_object"}}},
            {"text": {"format": {"type": "json_object"}, "verbosity": "medium"}},
        ),
        (
            {"text": {"format": JSON_SCHEMA, "verbosity": "low"}},
            {
                "text": {
                    "format": {**JSON_SCHEMA, "description": None, "strict": False},
                    "verbosity": "low",
                }
            },
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "n"}}},
            {
                "text": {
                    "format": {
                        "type": "json_schema",
                        "name": "n",
                        "description": None,
                        "schema": {"type": "object"},
                        "strict": False,
                    },
                    "verbosity": "medium",
                }
            },
        ),
        ({"tools": None}, {"tools": []}),
        ({"tools": []}, {}),
    ],
)
def test_what_is_asked_for_is_echoed(given_fields, echo):
    body = body_of(TextDelta("x"), DONE, **given_fields)
    expected = {**given_fields, **echo}
    assert {name: body[name] for name in expected} == expected


def test_a_response_that_is_not_kept_says_so():
    response = begin(decode(b'{"input": "hi"}'), kept=False)
    assert (
        json.loads(ResponseStream(response, TOOLBOX, keep, summarises=False, seals=False).body)[
            "store"
        ]
        is False
    )


PRETTY = json.dumps(
    {
        "input": "hi",
        "tools": TOOLS,
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": JSON_SCHEMA},
    },
    indent=2,
).encode()


@pytest.mark.parametrize("data", [PRETTY, PRETTY.replace(b"\n", b"\r\n")])
def test_a_request_of_many_lines_makes_frames_of_two(data):
    stream = ResponseStream(
        begin(decode(data), kept=True), TOOLBOX, keep, summarises=False, seals=False
    )
    checked(fed(stream, [STARTED, DONE]))


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        (FinishReason.STOP, "completed", None),
        (FinishReason.TOOL_CALLS, "completed", None),
        (FinishReason.LENGTH, "incomplete", {"reason": "max_output_tokens"}),
        (FinishReason.REFUSAL, "incomplete", {"reason": "content_filter"}),
    ],
)
def test_ends(reason, status, details):
    body = body_of(TextDelta("x"), Finished(reason, USAGE))
    assert (body["status"], body["incomplete_details"]) == (status, details)
    assert body["output"][0]["status"] == status
    assert (body["completed_at"] is None) == (status != "completed")


def test_only_what_was_cut_is_incomplete():
    body = body_of(*call_events("f", "{}"), TextDelta("x"), CUT)
    assert [item["status"] for item in body["output"]] == ["completed", "incomplete"]


@pytest.mark.parametrize("before", [[], [TextDelta("So far")]])
def test_a_refusal_stands_behind_what_was_said_before_it(before):
    told = events_of(*before, REFUSED)
    (item,) = told[-1]["response"]["output"]
    assert [part.get("text", part.get("refusal")) for part in item["content"]] == [
        *(event.text for event in before),
        "I may not.",
    ]
    kinds = [event["type"] for event in told]
    assert kinds.count("response.refusal.delta") == kinds.count("response.refusal.done") == 1


@pytest.mark.parametrize("before", [[], [ReasoningDelta("hm"), ReasoningDone("s")]])
def test_an_answer_that_says_nothing_has_an_empty_message(before):
    (*_, item) = body_of(*before, DONE)["output"]
    assert item["content"][0]["text"] == ""
    assert item["status"] == "completed"


@pytest.mark.parametrize("end", [CALLED, DONE, CUT])
def test_an_answer_of_calls_has_no_message(end):
    output = body_of(*call_events("f", "{}"), end)["output"]
    assert [item["type"] for item in output] == ["function_call"]


def test_nothing_is_said_when_all_tokens_went_into_the_reasoning():
    (item,) = body_of(ReasoningDelta("hm"), ReasoningDone(""), CUT)["output"]
    assert item["type"] == "reasoning"
    assert "encrypted_content" not in item


@pytest.mark.parametrize("summarises", [True, False])
@pytest.mark.parametrize("seals", [True, False])
def test_reasoning_is_shown_and_sealed_only_when_asked(summarises, seals):
    thinking = [ReasoningDelta("Let "), ReasoningDelta("me see"), ReasoningDone("sig")]
    told = events_of(*thinking, TextDelta("x"), DONE, summarises=summarises, seals=seals)
    item = told[-1]["response"]["output"][0]
    assert item["id"].startswith("rs_")
    shown = [{"type": "summary_text", "text": "Let me see"}] if summarises else []
    assert item["summary"] == shown
    assert ("encrypted_content" in item) is seals
    if seals:
        expected = Reasoning("Let me see", "sig", MODEL)
        assert unseal(item["encrypted_content"]) == expected
    assert any("reasoning_summary" in event["type"] for event in told) is summarises
    (done,) = [e for e in told if e["type"] == "response.output_item.done" and e["item"] == item]
    assert done["output_index"] == 0


def test_redacted_reasoning_shows_nothing_and_comes_back():
    (item, _) = body_of(ReasoningDone("data", redacted=True), TextDelta("x"), DONE)["output"]
    assert item["summary"] == []
    assert unseal(item["encrypted_content"]) == Reasoning("", "data", MODEL, redacted=True)


def test_thoughts_between_calls_are_items_of_their_own():
    body = body_of(
        *(ReasoningDelta("one"), ReasoningDone("1"), *call_events("f", "{}")),
        *(ReasoningDelta("two"), ReasoningDone("2"), TextDelta("x"), DONE),
    )
    assert [item["type"] for item in body["output"]] == [
        *("reasoning", "function_call", "reasoning", "message")
    ]
    sealed = [unseal(i["encrypted_content"]) for i in body["output"] if i["type"] == "reasoning"]
    assert sealed == [Reasoning("one", "1", MODEL), Reasoning("two", "2", MODEL)]


def test_a_function_call():
    told = events_of(*call_events("f", '{"a"', ":1}", id_="call_a"), CALLED)
    (item,) = told[-1]["response"]["output"]
    assert item.pop("id").startswith("fc_")
    assert item == {
        "type": "function_call",
        "status": "completed",
        "call_id": "call_a",
        "name": "f",
        "arguments": '{"a":1}',
    }
    (done,) = [e for e in told if e["type"] == "response.function_call_arguments.done"]
    assert (done["name"], done["arguments"]) == ("f", '{"a":1}')


def test_a_custom_tools_call_has_its_text():
    told = events_of(*call_events("shell", '{"inp', 'ut": "ls', " -l\\n", '"}'), CALLED)
    (item,) = told[-1]["response"]["output"]
    assert item.pop("id").startswith("ctc_")
    assert item == {
        "type": "custom_tool_call",
        "call_id": "a",
        "name": "shell",
        "input": "ls -l\n",
    }
    deltas = [e["delta"] for e in told if e["type"] == "response.custom_tool_call_input.delta"]
    assert deltas == ["ls", " -l\n"]


@pytest.mark.parametrize(
    ("name", "kind", "bare"),
    [("files__read", "function_call", "read"), ("files__patch", "custom_tool_call", "patch")],
)
def test_a_call_into_a_namespace_has_the_bare_name(name, kind, bare):
    told = events_of(*call_events(name, '{"input":"x"}'), CALLED)
    items = [event["item"] for event in told if "item" in event]
    assert [(i["type"], i["name"], i["namespace"]) for i in items] == [(kind, bare, "files")] * 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadUpstream("x"), "server_error"),
        (Overloaded("x"), "server_error"),
        (RateLimited("x"), "rate_limit_exceeded"),
        (UsageLimitReached("x"), "rate_limit_exceeded"),
        (InvalidRequest("x"), "invalid_prompt"),
        (RequestTooLarge("x"), "invalid_prompt"),
    ],
)
def test_failures_have_one_of_openais_codes(error, code):
    assert stream_module.failure_code(error) == code


def test_what_was_whole_before_the_failure_stays():
    stream = stream_of()
    begun = fed(stream, [STARTED, TextDelta("Hello"), *call_events("f", '{"a')])
    told = checked(begun + stream.fail(Overloaded("busy"), USAGE))
    message, *_ = told[-1]["response"]["output"]
    assert message["content"][0]["text"] == "Hello"
    assert message["status"] == "completed"


def test_ids_differ():
    events = [TextDelta("x"), *call_events("f", "{}"), TextDelta("y"), DONE]
    bodies = [body_of(*events) for _ in range(9)]
    ids = [body["id"] for body in bodies]
    ids += [item["id"] for body in bodies for item in body["output"]]
    assert len(set(ids)) == 9 * 4
