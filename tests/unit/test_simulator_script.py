"""Directives, plans and their rendering: pure, no server."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.simulator import directives as language
from claude_proxy.simulator.cache import InputUsage
from claude_proxy.simulator.directives import Directives, Hold, ToolCall
from claude_proxy.simulator.errors import ApiError
from claude_proxy.simulator.render import Answer, delta_count, message, steps
from claude_proxy.simulator.sample import sample
from claude_proxy.simulator.script import Plan, plan

Json = dict[str, Any]
WEATHER = {
    "name": "weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
    },
}


def request(content: Any = "hello", **more: Any) -> Json:
    body = {"model": "claude-x", "max_tokens": 100_000}
    return {**body, "messages": [{"role": "user", "content": content}], **more}


def answer(planned: Plan) -> Answer:
    return Answer("msg_1", "claude-x", planned, InputUsage(7, 5, 3, 1))


def events(planned: Plan, positions: Any = (), batch: int = 256) -> list[Json]:
    data = b"".join(step.data for step in steps(answer(planned), positions, batch))
    assert data.endswith(b"\n\n")
    found = []
    for piece in data.decode().removesuffix("\n\n").split("\n\n"):
        name, line = piece.split("\n")
        event = msgspec.json.decode(line.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def folded(stream: list[Json]) -> Json:
    """What a client makes of a stream, done the obvious way."""
    whole: Json = {}
    for event in stream:
        match event["type"]:
            case "message_start":
                whole = event["message"]
            case "content_block_start":
                assert event["index"] == len(whole["content"])
                whole["content"].append({**event["content_block"], "json": ""})
            case "content_block_delta":
                block = whole["content"][event["index"]]
                match event["delta"]:
                    case {"type": "input_json_delta", "partial_json": piece}:
                        block["json"] += piece
                    case {"type": kind, **rest}:
                        key, value = next(iter(rest.items()))
                        assert kind == f"{key}_delta"
                        block[key] += value
            case "content_block_stop":
                block = whole["content"][event["index"]]
                if written := block.pop("json"):
                    block["input"] = msgspec.json.decode(written)
            case "message_delta":
                whole |= event["delta"]
                whole["usage"] |= event["usage"]
    return whole


# --- directives


def test_values_plain_and_quoted() -> None:
    told = language.read(
        ["""a [simulate text="x ] \\"y\\"\\n\\\\z" tool=f input='{"a]": "\\n"}' tokens=3] b"""]
    )
    assert told.text == 'x ] "y"\n\\z'
    assert told.tools == (ToolCall("f", '{"a]": "\\n"}'),)
    assert told.tokens == 3


def test_brackets_of_all_texts_are_one() -> None:
    told = language.read(["[simulate tokens=1 delay_ms=2]x[simulate]", "[simulate tokens=9]"])
    assert told == Directives(tokens=9, delay_ms=2)


def test_repeated_keys_pair_up() -> None:
    told = language.read(
        ["[simulate tool=a tool=b input={} hold=x hold=y hold_after=4 header='A: 1' header='b:2']"]
    )
    assert told.tools == (ToolCall("a"), ToolCall("b", "{}"))
    assert told.holds == (Hold("x"), Hold("y", 4))
    assert told.headers == (("a", "1"), ("b", "2"))


@pytest.mark.parametrize("prose", ["[simulated annealing]", "simulate a=1", "[simulator x]"])
def test_prose_is_no_directive(prose: str) -> None:
    assert language.read([prose]) == Directives()


@pytest.mark.parametrize(
    "malformed",
    [
        "[simulate tokens]",
        "[simulate tokens=1",
        "[simulate tokens=-1]",
        "[simulate tokens=99999999]",
        "[simulate nonsense=1]",
        '[simulate text="open]',
        "[simulate input={}]",
        "[simulate hold_after=1]",
        "[simulate tool=a input=[1]]",
        "[simulate stop=whatever]",
        "[simulate error=418]",
        "[simulate torn=yes]",
        "[simulate input_chunk=0]",
        "[simulate hold='']",
        "[simulate header='no header']",
        '[simulate header="a: b\\nc"]',
    ],
)
def test_a_malformed_directive_is_named(malformed: str) -> None:
    with pytest.raises(ApiError) as caught:
        language.read([f"please {malformed}"])
    assert caught.value.status == 400
    assert malformed[:16].replace("'", "")[:9] in caught.value.message


@given(st.text())
def test_any_text_survives_double_quotes(text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    assert language.read([f'[simulate text="{quoted}"]']).text == text
    assert language.strip(f'a [simulate text="{quoted}"]') == "a"


@given(st.text(alphabet="[]simulate =\"'\\tokens1 ", max_size=60))
def test_reading_either_works_or_is_a_400(text: str) -> None:
    try:
        language.read([f"[simulate {text}"])
    except ApiError as error:
        assert error.status == 400  # noqa: PT017 - not every text fails


# --- plans


@given(st.text())
def test_joined_deltas_equal_the_text(text: str) -> None:
    planned = plan(request(), Directives(text=text))
    whole = folded(events(planned))
    assert "".join(block["text"] for block in whole["content"]) == text
    assert len(planned.blocks) == bool(text)


@given(
    st.lists(st.sampled_from(["alpha ", "be ta", "gamma", "\n", "END", " "]), max_size=20),
    st.lists(st.sampled_from(["END", "ta", "a g", "mmaEN", "zzz", "gammaE"]), max_size=3),
)
def test_stop_sequences(parts: list[str], sequences: list[str]) -> None:
    text = "".join(parts)
    planned = plan(request(stop_sequences=sequences), Directives(text=text, stop="end_turn"))
    said = "".join(piece for block in planned.blocks for piece in block.pieces)
    assert text.startswith(said)
    if any(sequence in text for sequence in sequences):
        assert planned.stop_reason == "stop_sequence"
        assert planned.stop_sequence in sequences
        assert text.startswith(said + planned.stop_sequence)
        assert not any(sequence in said for sequence in sequences)
    else:
        assert (said, planned.stop_reason, planned.stop_sequence) == (text, "end_turn", None)


@given(
    thinking=st.integers(0, 6),
    tokens=st.integers(0, 6),
    limit=st.integers(1, 16),
    tool=st.booleans(),
)
def test_max_tokens(thinking: int, tokens: int, limit: int, *, tool: bool) -> None:
    told = Directives(
        thinking=thinking,
        tokens=tokens,
        tools=(ToolCall("f", '{"abc":1}'),) if tool else (),
        input_chunk=4,
    )
    body = request(thinking={"type": "adaptive"})
    full = plan(body, told)
    cut = plan({**body, "max_tokens": limit}, told)
    length = thinking + tokens + (3 if tool else 0)
    assert cut.output_tokens == max(1, min(limit, length))
    assert cut.thinking_tokens == min(limit, thinking)
    if length > limit:
        assert cut.stop_reason == "max_tokens"
    else:
        assert cut.stop_reason == full.stop_reason == ("tool_use" if tool else "end_turn")


def test_the_default_answer_quotes_the_prompt() -> None:
    blocks = [
        {"type": "text", "text": "<system-reminder>\nno\n</system-reminder>\n"},
        {"type": "text", "text": "x" * 300 + " [simulate delay_ms=0]"},
    ]
    body = request(blocks)
    body["messages"].append({"role": "system", "content": "# Environment"})
    said = message(answer(plan(body, Directives())))["content"][0]["text"]
    assert said.endswith(f': no model was asked. You wrote: "{"x" * 200}"')


def test_the_default_answer_quotes_a_tool_result() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": "21 degrees"}
    said = message(answer(plan(request([result]), Directives())))["content"][0]["text"]
    assert said.endswith('The tool said: "21 degrees"')


@pytest.mark.parametrize("thinking", [None, {"type": "disabled"}])
def test_no_thinking_unless_asked_for(thinking: Json | None) -> None:
    body = request(thinking=thinking)
    planned = plan(body, Directives(thinking=3, redacted=True, tokens=1))
    assert [block.kind for block in planned.blocks] == ["text"]


@pytest.mark.parametrize(("display", "text"), [("omitted", ""), ("summarized", "step0 step1 ")])
def test_thinking(display: str, text: str) -> None:
    body = request(thinking={"type": "adaptive", "display": display})
    planned = plan(body, Directives(thinking=2, redacted=True, tokens=1))
    whole = folded(events(planned))
    assert [block["type"] for block in whole["content"]] == [
        "thinking",
        "redacted_thinking",
        "text",
    ]
    assert whole["content"][0]["thinking"] == text
    assert whole["content"][0]["signature"]
    assert whole["usage"]["output_tokens_details"] == {"thinking_tokens": 2}


def test_tools() -> None:
    told = Directives(tools=(ToolCall("weather"), ToolCall("other", '{"a": "bcdefghijk"}')))
    stream = events(plan(request(tools=[WEATHER]), told))
    pieces = [
        event["delta"]["partial_json"]
        for event in stream
        if event["type"] == "content_block_delta" and event["index"] == 1
    ]
    assert pieces == ["", '{"a": "b', "cdefghij", 'k"}']
    whole = folded(stream)
    assert whole["stop_reason"] == "tool_use"
    assert [block["input"] for block in whole["content"]] == [
        {"city": "sample", "days": 3},
        {"a": "bcdefghijk"},
    ]
    assert len({block["id"] for block in whole["content"]}) == 2


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_forced_tool(choice: Json) -> None:
    planned = plan(request(tools=[WEATHER], tool_choice=choice), Directives())
    assert [(block.kind, block.name) for block in planned.blocks] == [("tool_use", "weather")]


def test_a_json_schema_format() -> None:
    schema = WEATHER["input_schema"]
    body = request(output_config={"format": {"type": "json_schema", "schema": schema}})
    said = message(answer(plan(body, Directives())))["content"][0]["text"]
    assert msgspec.json.decode(said) == {"city": "sample", "days": 3}


def test_refusal() -> None:
    whole = message(answer(plan(request(), Directives(stop="refusal"))))
    assert whole["stop_reason"] == "refusal"
    assert whole["stop_details"].keys() == {"type", "category", "explanation"}


# --- rendering

plans = st.builds(
    lambda told, display: plan(request(thinking={"type": "adaptive", "display": display}), told),
    st.builds(
        Directives,
        text=st.none() | st.text(max_size=30),
        tokens=st.none() | st.integers(0, 8),
        thinking=st.integers(0, 3),
        redacted=st.booleans(),
        tools=st.lists(st.just(ToolCall("f", '{"a": 1, "b": [2]}')), max_size=2).map(tuple),
        input_chunk=st.integers(1, 9),
    ),
    st.sampled_from(["omitted", "summarized"]),
)


@given(plans, st.integers(1, 5))
def test_the_fold_of_the_stream_is_the_whole_message(planned: Plan, batch: int) -> None:
    stream = events(planned, (), batch)
    assert folded(stream) == message(answer(planned))
    assert [event["type"] for event in (stream[0], *stream[-2:])] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    deltas = [event for event in stream if event["type"] == "content_block_delta"]
    assert len(deltas) == delta_count(answer(planned))


@given(plans, st.sets(st.integers(0, 12)), st.integers(1, 5))
def test_writes_end_at_the_positions(planned: Plan, positions: set[int], batch: int) -> None:
    total = delta_count(answer(planned))
    written = b""
    ends = set()
    for step in steps(answer(planned), positions, batch):
        written += step.data
        assert written.count(b"event: content_block_delta") == step.deltas
        ends.add(step.deltas)
    assert {position for position in positions if position <= total} <= ends


def test_usage() -> None:
    stream = events(plan(request(), Directives(tokens=4)))
    cache = {"cache_creation_input_tokens": 4, "cache_read_input_tokens": 5, "input_tokens": 7}
    start, end = stream[0]["message"]["usage"], stream[-2]["usage"]
    assert cache.items() <= start.items()
    assert start["output_tokens"] == 1
    assert start["cache_creation"] == {
        "ephemeral_5m_input_tokens": 3,
        "ephemeral_1h_input_tokens": 1,
    }
    assert end == {**cache, "output_tokens": 4, "output_tokens_details": {"thinking_tokens": 0}}


# --- samples


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 9},
        {"type": "string", "maxLength": 2},
        {"type": "string", "format": "date-time"},
        {"type": "integer", "minimum": 5, "multipleOf": 4},
        {"type": "number", "exclusiveMaximum": 0},
        {"type": ["null", "boolean"]},
        {"type": "null"},
        {"enum": ["a", 1]},
        {"const": {"x": None}},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3},
        {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"a": {"const": 1}}}]},
        {"oneOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]},
        {"allOf": [{"required": ["a"]}, {"properties": {"a": {"type": "integer"}}}]},
        {
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {
                        "value": {"type": "integer"},
                        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                    },
                    "required": ["value", "next", "children"],
                    "additionalProperties": False,
                }
            },
            "$ref": "#/$defs/node",
        },
    ],
)
def test_a_sample_fits_its_schema(schema: Json) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(sample(schema), schema)


@pytest.mark.parametrize(
    "schema", [{"type": "array", "minItems": "many"}, {"allOf": [{"$ref": "#"}]}, {"enum": 3}]
)
def test_a_schema_that_is_none_is_refused(schema: Json) -> None:
    with pytest.raises(ApiError, match="invalid JSON schema"):
        sample(schema)


def test_a_forced_call_leaves_no_room_for_text() -> None:
    body = request("hi", tools=[WEATHER], tool_choice={"type": "any"})
    blocks = message(answer(plan(body, Directives(text="no"))))["content"]
    assert [block["type"] for block in blocks] == ["tool_use"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "array", "prefixItems": [{"type": "integer"}, {"enum": ["b"]}]}, [1, "b"]),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
    ],
)
def test_samples_of_tuples_and_of_open_intervals(schema, value) -> None:
    assert sample(schema) == value
