"""Requests of the Responses API: what is taken, what is refused and where, and no surprises."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from claude_proxy.conversation import (
    ArgumentsDelta,
    Conversation,
    Effort,
    Finished,
    FinishReason,
    Options,
    Reasoning,
    ReasoningDelta,
    ReasoningDone,
    Started,
    TextDelta,
    ToolCallStarted,
    ToolChoice,
    ToolUse,
    Usage,
)
from claude_proxy.dialect.schemas import ANY_OBJECT
from claude_proxy.errors import InvalidRequest, ProxyError, openai_body
from claude_proxy.openai.responses import request as wire
from claude_proxy.openai.responses.items import read_history
from claude_proxy.openai.responses.listing import Page, list_items
from claude_proxy.openai.responses.messages import to_messages
from claude_proxy.openai.responses.reasoning import seal
from claude_proxy.openai.responses.request import ResponsesRequest, Wanted
from claude_proxy.openai.responses.response import begin
from claude_proxy.openai.responses.stream import ResponseStream, replay

# A busy machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FUNCTION = {"type": "function", "name": "f", "parameters": SCHEMA}
USAGE = Usage(1, 2, 3, 4, 5)


def body(**fields) -> bytes:
    return json.dumps({"input": "hello", **fields}).encode()


def nothing(_: str) -> None:
    return None


def resolved(data: bytes) -> Wanted:
    return wire.resolve(wire.decode(data), nothing, nothing)


def translated(*, sampling: bool = False, **fields) -> Conversation:
    return wire.to_conversation(resolved(body(**fields)), "opus", sampling=sampling)


def refused(data: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        wire.to_conversation(resolved(data), "opus", sampling=True)
    assert caught.value.status == 400
    assert caught.value.message
    return caught.value


def formatted(**form) -> bytes:
    return body(text={"format": form})


# What is refused


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (b"[]", None),
        (b'"x"', None),
        (b"7", None),
        (b"null", None),
        (b"{}", "input"),
        (b'{"model": "opus"}', "input"),
        (body(input=None), "input"),
        (body(input=7), "input"),
        (body(input={}), "input"),
        (body(input=[]), "input"),
        (body(model=7), "model"),
        (body(instructions=7), "instructions"),
        (body(instructions=[]), "instructions"),
        (body(stream="yes"), "stream"),
        (body(store=1), "store"),
        (body(previous_response_id=7), "previous_response_id"),
        (body(background="yes"), "background"),
        (body(tools={}), "tools"),
        (body(tools=[None]), "tools[0]"),
        (body(tool_choice=7), "tool_choice"),
        (body(tool_choice=[]), "tool_choice"),
        (body(tool_choice={}), "tool_choice.type"),
        (body(tool_choice={"type": 7}), "tool_choice.type"),
        (body(tool_choice={"type": "function", "name": 7}), "tool_choice.name"),
        (body(tool_choice={"type": "allowed_tools", "tools": 7}), "tool_choice.tools"),
        (body(tool_choice={"type": "allowed_tools", "tools": [7]}), "tool_choice.tools[0]"),
        (body(tool_choice={"type": "allowed_tools", "mode": 7}), "tool_choice.mode"),
        (body(parallel_tool_calls="no"), "parallel_tool_calls"),
        (body(max_tool_calls=0), "max_tool_calls"),
        (body(max_tool_calls="3"), "max_tool_calls"),
        (body(reasoning="high"), "reasoning"),
        (body(reasoning={"effort": "huge"}), "reasoning.effort"),
        (body(reasoning={"effort": 3}), "reasoning.effort"),
        (body(reasoning={"summary": "long"}), "reasoning.summary"),
        (body(reasoning={"generate_summary": "long"}), "reasoning.generate_summary"),
        (body(text="json"), "text"),
        (body(text={"verbosity": "huge"}), "text.verbosity"),
        (body(text={"format": "json"}), "text.format"),
        (formatted(type=7), "text.format.type"),
        (formatted(type="xml"), "text.format.type"),
        (formatted(type="grammar"), "text.format.type"),
        (formatted(type="json_schema"), "text.format.name"),
        (formatted(type="json_schema", name=7), "text.format.name"),
        (formatted(type="json_schema", name="a b"), "text.format.name"),
        (formatted(type="json_schema", name="x" * 65, schema={}), "text.format.name"),
        (formatted(type="json_schema", name="n", schema=[]), "text.format.schema"),
        (formatted(type="json_schema", name="n", schema="{}"), "text.format.schema"),
        (formatted(type="json_schema", name="n", schema={"type": "array"}), "text.format.schema"),
        (formatted(type="json_schema", name="n", schema={"anyOf": []}), "text.format.schema"),
        (formatted(type="json_schema", name="n", strict="yes"), "text.format.strict"),
        (formatted(type="json_schema", name="n", description=7), "text.format.description"),
        (body(max_output_tokens=15), "max_output_tokens"),
        (body(max_output_tokens=0), "max_output_tokens"),
        (body(max_output_tokens=-1), "max_output_tokens"),
        (body(max_output_tokens=16.5), "max_output_tokens"),
        (body(max_output_tokens="99"), "max_output_tokens"),
        (body(temperature=3), "temperature"),
        (body(temperature=-0.1), "temperature"),
        (body(temperature="1"), "temperature"),
        (body(top_p=1.1), "top_p"),
        (body(top_p=-1), "top_p"),
        (body(top_logprobs=21), "top_logprobs"),
        (body(top_logprobs=-1), "top_logprobs"),
        (body(top_logprobs=1), "top_logprobs"),
        (body(truncation="always"), "truncation"),
        (body(include="all"), "include"),
        (body(include=[7]), "include[0]"),
        (body(metadata=7), "metadata"),
        (body(metadata=[]), "metadata"),
        (body(metadata={"a": 1}), "metadata[...]"),
        (body(metadata={"a": None}), "metadata[...]"),
        (body(metadata={"k" * 65: "v"}), "metadata"),
        (body(metadata={"k": "v" * 513}), "metadata[...]"),
        (body(metadata={str(key): "" for key in range(17)}), "metadata"),
        (body(user=7), "user"),
        (body(safety_identifier=7), "safety_identifier"),
        (body(prompt_cache_key=7), "prompt_cache_key"),
    ],
)
def test_a_wrong_type_or_range_is_refused_at_its_place(data, param):
    assert refused(data).param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"background": True},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"conversation": ""},
        {"prompt": {"id": "pmpt_1"}},
        {"prompt": {}},
        {"top_logprobs": 5},
    ],
)
def test_what_would_change_the_answer_is_not_ignored_silently(fields):
    error = refused(body(**fields))
    assert (error.param, error.code) == (next(iter(fields)), "unsupported_parameter")


@pytest.mark.parametrize(
    "fields",
    [
        {"max_output_tokens": 16, "max_tool_calls": 1, "temperature": 2, "top_p": 1},
        {"temperature": 0, "top_p": 0, "top_logprobs": 0},
        {"metadata": {"k" * 64: "v" * 512, **{str(key): "" for key in range(15)}}},
        {"background": False, "store": False, "truncation": "auto", "include": ["anything"]},
        {"text": {"format": {"type": "text"}, "verbosity": "high"}},
        {"stream": True, "stream_options": {"include_obfuscation": False}},
        {"client_metadata": {"x": [1]}, "service_tier": "flex", "unheard_of": {}},
        dict.fromkeys(sorted({*ResponsesRequest.__struct_fields__} - {"input"})),
    ],
)
def test_the_limits_themselves_and_extras_are_taken(fields):
    assert translated(**fields).messages


@pytest.mark.parametrize(
    "data", [b"", b"{", b"hello", b"\xff", b'{"input": [NaN]}', b'{"input":"x","temperature":NaN}']
)
def test_what_is_no_json_is_refused_as_such(data):
    error = refused(data)
    assert error.param is None
    assert "not valid JSON" in error.message


PLACES = [
    b'{"input":%b}',
    b'{"input":[%b]}',
    b'{"input":[{"role":"user","content":"x","id":%b}]}',
    b'{"input":[{"role":"user","content":%b}]}',
    b'{"input":[{"type":%b}]}',
    b'{"input":[{"type":"item_reference","id":%b}]}',
    b'{"input":"x","tools":[%b]}',
    b'{"input":"x","tools":[{"type":"web_search","x":%b}]}',
    b'{"input":"x","tools":[{"type":"function","name":"f","parameters":%b}]}',
    b'{"input":"x","tools":[{"type":"function","name":"f","parameters":{"x":%b}}]}',
    b'{"input":"x","tools":[{"type":"namespace","name":"n","tools":[%b]}]}',
    b'{"input":"x","tool_choice":%b}',
    b'{"input":"x","tool_choice":{"type":"function","name":"f","x":%b}}',
    b'{"input":"x","text":{"format":{"type":"text","schema":%b}}}',
    b'{"input":"x","text":{"format":{"type":"json_schema","name":"n","schema":{"x":%b}}}}',
    b'{"input":"x","conversation":%b}',
    b'{"input":"x","unknown":%b}',
]
DEEP = b"[" * 100_000 + b"]" * 100_000
LESS_DEEP = b'{"a":' * 900 + b"1" + b"}" * 900


@pytest.mark.parametrize("place", PLACES)
def test_a_deep_nesting_is_refused_wherever_it_stands(place):
    assert "nested too deeply" in refused(place % DEEP).message
    survived(place % LESS_DEEP)


@pytest.mark.parametrize("place", [*PLACES, b'{"input":"x",%b:1}', b'{"input":[{%b:1}]}'])
@pytest.mark.parametrize(
    "half", [rb"\ud800", rb"\udc00", rb"\ud800 and more", rb"\ud800\u0041", rb"\ud800\ud800"]
)
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(place, half):
    error = refused(place % (b'"%b"' % half))
    assert "not valid JSON" in error.message


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("raw", [b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xe2\x82"'])
def test_what_is_not_utf_8_is_refused_wherever_it_stands(place, raw):
    assert "not UTF-8" in refused(place % raw).message


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("raw", [b"NaN", b"Infinity", b"nul", b"01", b"'x'", b'"\n"', b"1e999"])
def test_what_only_looks_like_json_is_refused_or_harmless(place, raw):
    """A line break in a string would be one in a server-sent event."""
    survived(place % raw)


# What becomes of it


def test_a_plain_request():
    assert translated() == Conversation(
        "opus", "", wire.to_conversation(resolved(body()), "opus", sampling=False).messages
    )


@pytest.mark.parametrize("sampling", [True, False])
def test_options(sampling):
    said = translated(
        sampling=sampling,
        max_output_tokens=99,
        temperature=0.5,
        top_p=0.25,
        reasoning={"effort": "xhigh"},
        parallel_tool_calls=False,
        tools=[FUNCTION],
        tool_choice="required",
    )
    assert said.options == Options(
        max_tokens=99,
        effort=Effort.XHIGH,
        temperature=0.5 if sampling else None,
        top_p=0.25 if sampling else None,
        tool_choice=ToolChoice(ToolUse.REQUIRED, None, parallel=False),
    )
    assert [tool.name for tool in said.tools] == ["f"]


@pytest.mark.parametrize("effort", [effort.value for effort in Effort])
def test_every_effort_is_known(effort):
    assert translated(reasoning={"effort": effort}).options.effort is Effort(effort)


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, ANY_OBJECT),
        ({"type": "json_schema", "name": "n"}, ANY_OBJECT),
        ({"type": "json_schema", "name": "n", "schema": SCHEMA}, json.dumps(SCHEMA)),
    ],
)
def test_formats(form, schema):
    assert translated(text={"format": form}).schema == schema


@pytest.mark.parametrize(
    ("fields", "keeps", "summarises", "seals"),
    [
        ({}, True, False, False),
        ({"store": None, "reasoning": {}, "include": []}, True, False, False),
        ({"store": False, "include": ["reasoning.encrypted_content"]}, False, False, True),
        ({"store": True, "reasoning": {"summary": "auto"}}, True, True, False),
        ({"reasoning": {"generate_summary": "detailed"}, "include": ["x"]}, True, True, False),
    ],
)
def test_what_a_client_wants_of_its_answer(fields, keeps, summarises, seals):
    request = wire.decode(body(**fields))
    assert (request.keeps, request.summarises, request.seals) == (keeps, summarises, seals)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, []),
        ({"temperature": 1, "top_p": 1}, ["temperature", "top_p"]),
        ({"max_tool_calls": 1, "user": "u"}, ["max_tool_calls", "user"]),
        ({"service_tier": "auto", "client_metadata": {}}, ["service_tier", "client_metadata"]),
        ({"user": None, "unknown": None}, []),
        ({"text": {"verbosity": "low"}}, ["text.verbosity"]),
        ({"tools": [FUNCTION, {"type": "web_search"}]}, ["tools.web_search"]),
        (
            {"input": [{"role": "user", "content": "x"}, {"type": "web_search_call", "id": "x"}]},
            ["input.web_search_call"],
        ),
    ],
)
def test_what_has_no_effect_is_named(fields, names):
    data = body(**fields)
    assert wire.ignored(resolved(data), data, sampling=False) == names


def test_sampling_that_is_forwarded_has_an_effect():
    data = body(temperature=1, top_p=1)
    assert wire.ignored(resolved(data), data, sampling=True) == []


# Any JSON at all

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n not really").decode()
PNG = f"data:image/png;base64,{PIXEL}"
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "hm"}],
    "encrypted_content": seal(Reasoning("hm", "sig", "claude-x")),
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": "{}"}
FULL: dict[str, Any] = {
    "model": "opus",
    "instructions": "Be brief.",
    "previous_response_id": "resp_1",
    "input": [
        {"role": "developer", "content": "Mind."},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "hello"},
                {"type": "input_image", "image_url": PNG, "detail": "auto"},
                {"type": "input_file", "file_url": "https://example.org/a.pdf", "filename": "a"},
            ],
        },
        {**THOUGHT, "id": "rs_2"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "id": "msg_2",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hi."}, {"type": "refusal", "refusal": ""}],
        },
        {**CALL, "id": "fc_2"},
        {"type": "custom_tool_call", "call_id": "b", "name": "shell", "input": "ls"},
        {"type": "function_call", "call_id": "c", "name": "g", "arguments": "", "namespace": "n"},
        {"type": "function_call_output", "call_id": "a", "output": "done"},
        {
            "type": "custom_tool_call_output",
            "call_id": "b",
            "output": [{"type": "input_text", "text": "x"}],
        },
        {"type": "function_call_output", "call_id": "c", "output": []},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "item_reference", "id": "msg_1"},
        {"role": "user", "content": "so?"},
    ],
    "tools": [
        FUNCTION,
        {"type": "custom", "name": "shell", "format": {"type": "grammar", "definition": "x"}},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "g"}]},
        {"type": "web_search"},
    ],
    "tool_choice": {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "f"}],
    },
    "parallel_tool_calls": True,
    "reasoning": {"effort": "high", "summary": "auto"},
    "text": {
        "format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True},
        "verbosity": "low",
    },
    "max_output_tokens": 100,
    "max_tool_calls": 3,
    "temperature": 1,
    "top_p": 1,
    "truncation": "auto",
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "store": True,
    "stream": True,
}
KNOWN = {
    "rs_1": THOUGHT,
    "msg_1": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hi."}],
    },
}
ITEMS = {id_: json.dumps(item).encode() for id_, item in KNOWN.items()}
CONTEXT = {"resp_1": [json.dumps(i).encode() for i in ({"role": "user", "content": "q"}, THOUGHT)]}
ANSWER = [
    Started("claude-x"),
    *(ReasoningDelta("hm"), ReasoningDone("sig"), TextDelta("Hi.")),
    *(ToolCallStarted("x", "shell"), ArgumentsDelta('{"input": "ls"}')),
    *(ToolCallStarted("y", "f"), ArgumentsDelta("{}"), ToolCallStarted("z", "n__g")),
    Finished(FinishReason.TOOL_CALLS, USAGE),
]


def survived(data: bytes) -> bool:
    """Whether it was taken; all that follows from it must hold then."""
    try:
        request = wire.decode(data)
        wanted = wire.resolve(request, ITEMS.get, CONTEXT.get)
        wire.to_conversation(wanted, "m", sampling=True)
    except ProxyError as error:
        return is_an_answer(error)
    for name in wire.ignored(wanted, data, sampling=False):
        assert name.isascii()
        assert name.isprintable()
    answered(request, wanted)
    kept(wanted)
    return True


def is_an_answer(error: ProxyError) -> bool:
    assert error.status in (400, 404)
    assert len(error.message) < 1_000
    assert len(error.param or "") < 1_000
    openai_body(error)
    return False


def answered(request: ResponsesRequest, wanted: Wanted) -> None:
    stream = ResponseStream(
        begin(request, kept=True),
        wanted.toolbox,
        lambda _: True,
        summarises=True,
        seals=request.seals,
    )
    frames = b"".join(stream.feed(event) for event in ANSWER)
    for told in (frames, replay(stream.body, -1)):
        for frame in told.removesuffix(b"\n\n").split(b"\n\n"):
            json.loads(frame.partition(b"data: ")[2].decode())
    assert json.loads(stream.body)["status"] == "completed"
    said = read_history([*(given.raw for given in wanted.given.items), *stream.kept().values()])
    assert len(said) == len(wanted.given.items) + 5


def kept(wanted: Wanted) -> None:
    """It can go on, and it can be listed."""
    asked = [given.raw for given in wanted.given.items]
    again = read_history([*(given.raw for given in wanted.history), *asked])
    items = [*wanted.history, *wanted.given.items]
    assert [given.item for given in again] == [given.item for given in items]
    assert to_messages(again, wanted.toolbox) == to_messages(items, wanted.toolbox)
    for seals in (True, False):
        listed = json.loads(list_items("resp_2", asked, Page(limit=100), seals=seals))
        assert len(listed["data"]) == len(asked)


def test_the_full_request_is_taken():
    assert survived(json.dumps(FULL).encode())


def places(value: Any, way: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, child in inner:
        found.append((*way, key))
        if isinstance(child, dict | list):
            found += places(child, (*way, key))
    return found


def put(value: Any, way: tuple, to: Any) -> None:
    *before, last = way
    for key in before:
        value = value[key]
    if to is ABSENT:
        del value[last]
    else:
        value[last] = to


ABSENT = object()
words = st.sampled_from(
    [
        *("message", "user", "assistant", "system", "function_call", "function_call_output"),
        *("reasoning", "item_reference", "custom_tool_call", "namespace", "function", "custom"),
        *("auto", "none", "required", "rs_1", "a", "f", "n", "g", "input_text"),
        *("input_image", "input_file", "web_search", "", " ", "{}", "null", "json_object"),
        *("`$.x`", "x - at `$.y`", "\x00", "a\nb", "é\u2028", "allowed_tools", "resp_1"),
    ]
)
scalars = st.one_of(
    words,
    st.text(max_size=5),
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**30, -(2**63) - 1, 2**64, 1e300, 0, 16]),
    st.floats(allow_nan=False, allow_infinity=False),
)
fields = st.sampled_from(["type", "id", "role", "content", "name", "tools", "x", "call_id"])
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields | words, inner, max_size=4),
    max_leaves=8,
)
ways = st.sampled_from(places(FULL))


@settings(unhurried, max_examples=400)
@given(st.lists(st.tuples(ways, anything | st.just(ABSENT)), min_size=1, max_size=3))
@example([(("input", 1, "id"), {"a": [1]})])
@example([(("tools", 3, "x\ny"), 1)])
def test_any_json_anywhere_is_taken_or_refused(changes):
    changed = copy.deepcopy(FULL)
    for way, to in changes:
        try:
            put(changed, way, to)
        except (KeyError, IndexError, TypeError):
            continue  # another change has been there already
    survived(json.dumps(changed).encode())


@settings(unhurried, max_examples=300)
@given(st.lists(anything, max_size=4), st.sampled_from(["input", "tools", "include"]))
def test_any_list_is_taken_or_refused(items, field):
    survived(body(**{field: items}))


@unhurried
@given(st.dictionaries(st.sampled_from([*FULL, "prompt", "background", "x"]), anything))
def test_any_fields_are_taken_or_refused(given_fields):
    survived(body(**given_fields))


@unhurried
@given(st.binary())
def test_any_bytes_are_refused(data):
    assert not survived(data)
