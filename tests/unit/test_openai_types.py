"""The checker of the tests' own: right JSON passes, and each thing wrong in it is named."""

from __future__ import annotations

import copy
import json
from typing import Any, Literal

import pytest

# Of an older one the types are other types; the test extra has a newer one.
pytest.importorskip("openai", minversion="3.54")
from openai.types import chat, responses
from pydantic import BaseModel, Field

from tests.openai_types import problems, sequence_problems

ABSENT = object()
USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
    "output_tokens": 30,
    "output_tokens_details": {"reasoning_tokens": 7},
    "total_tokens": 42,
}
TOOLS = [
    {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True},
    {
        "type": "custom",
        "name": "shell",
        "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'},
    },
    {
        "type": "namespace",
        "name": "files",
        "description": "",
        "tools": [{"type": "function", "name": "read", "async": False}],
    },
]
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [
        {"type": "summary_text", "text": "First."},
        {"type": "summary_text", "text": "Then."},
    ],
    "encrypted_content": "c2lnbmVk",
}
TEXT = {"type": "output_text", "text": "It rains.", "annotations": [], "logprobs": []}
REFUSAL = {"type": "refusal", "refusal": "No more."}
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [TEXT, REFUSAL],
}
FUNCTION_CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Bonn"}',
    "status": "completed",
}
CUSTOM_CALL = {
    "type": "custom_tool_call",
    "id": "ctc_1",
    "call_id": "call_2",
    "name": "shell",
    "input": "ls -l",
}
OUTPUT = [REASONING, MESSAGE, FUNCTION_CALL, CUSTOM_CALL]


def response(status: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {"trace": "1"},
        "model": "any",
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": TOOLS,
        "top_p": 1,
        "text": {"format": {"type": "json_schema", "name": "s", "schema": {}}},
        "reasoning": {"effort": "high", "summary": "auto"},
        "usage": None,
        **fields,
    }


COMPLETED = response("completed", output=OUTPUT, usage=USAGE)


def in_summary(index: int, *deltas: str) -> list[dict[str, Any]]:
    at = {"item_id": "rs_1", "output_index": 0, "summary_index": index}
    text = "".join(deltas)
    of = "response.reasoning_summary_"
    return [
        {"type": f"{of}part.added", **at, "part": {"type": "summary_text", "text": ""}},
        *({"type": f"{of}text.delta", **at, "delta": delta} for delta in deltas),
        {"type": f"{of}text.done", **at, "text": text},
        {"type": f"{of}part.done", **at, "part": {"type": "summary_text", "text": text}},
    ]


def the_stream() -> list[dict[str, Any]]:
    """Reasoning, a message and two calls, as OpenAI would send them."""
    text_at = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    refusal_at = {**text_at, "content_index": 1}
    function_at = {"item_id": "fc_1", "output_index": 2}
    custom_at = {"item_id": "ctc_1", "output_index": 3}
    arguments, called = "response.function_call_arguments", "response.custom_tool_call_input"
    started = [
        {**REASONING, "summary": []},
        {**MESSAGE, "status": "in_progress", "content": []},
        {**FUNCTION_CALL, "status": "in_progress", "arguments": ""},
        {**CUSTOM_CALL, "input": ""},
    ]
    inner = [
        [*in_summary(0, "First", "."), *in_summary(1, "Then.")],
        [
            {"type": "response.content_part.added", **text_at, "part": {**TEXT, "text": ""}},
            {"type": "response.output_text.delta", **text_at, "delta": "It ", "logprobs": []},
            {"type": "response.output_text.delta", **text_at, "delta": "rains.", "logprobs": []},
            {"type": "response.output_text.done", **text_at, "text": "It rains.", "logprobs": []},
            {"type": "response.content_part.done", **text_at, "part": TEXT},
            {
                "type": "response.content_part.added",
                **refusal_at,
                "part": {"type": "refusal", "refusal": ""},
            },
            {"type": "response.refusal.delta", **refusal_at, "delta": "No more."},
            {"type": "response.refusal.done", **refusal_at, "refusal": "No more."},
            {"type": "response.content_part.done", **refusal_at, "part": REFUSAL},
        ],
        [
            {"type": f"{arguments}.delta", **function_at, "delta": '{"city":'},
            {"type": f"{arguments}.delta", **function_at, "delta": '"Bonn"}'},
            {"type": f"{arguments}.done", **function_at, "arguments": '{"city":"Bonn"}'},
        ],
        [
            {"type": f"{called}.delta", **custom_at, "delta": "ls -l"},
            {"type": f"{called}.done", **custom_at, "input": "ls -l"},
        ],
    ]
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response("in_progress")},
        {"type": "response.in_progress", "response": response("in_progress")},
    ]
    for index, (start, between, end) in enumerate(zip(started, inner, OUTPUT, strict=True)):
        at = {"output_index": index}
        events.append({"type": "response.output_item.added", **at, "item": start})
        events += between
        events.append({"type": "response.output_item.done", **at, "item": end})
    events.append({"type": "response.completed", "response": COMPLETED})
    return numbered(events)


def numbered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events with numbers, each its own: nothing in one is the same object in another."""
    return json.loads(
        json.dumps([{**event, "sequence_number": i} for i, event in enumerate(events)])
    )


def changed(value: Any, way: str, to: Any) -> Any:
    """A copy with another value at that way through it, or without it."""
    result = copy.deepcopy(value)
    *steps, last = [int(step) if step.isdigit() else step for step in way.split("/")]
    inside = result
    for step in steps:
        inside = inside[step]
    if to is ABSENT:
        del inside[last]
    else:
        inside[last] = to
    return result


# One value and its type


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (COMPLETED, responses.Response),
        (response("in_progress"), responses.Response),
        (OUTPUT, list[responses.ResponseOutputItem]),
        (TOOLS, list[responses.Tool]),
        (USAGE, responses.ResponseUsage),
        (1, float),
        (1.5, float),
        (None, str | None),
        ([1, "a", None], list[int | str | None]),
        ({"a": [1]}, dict[str, list[int]]),
        ({"a": [1]}, dict),
        ([{"a": 1}], list),
        ("b", Literal["a", "b"]),
        ({"anything": [None]}, object),
        ({"anything": [None]}, Any),
        (
            {"role": "tool", "content": "x", "tool_call_id": "y"},
            chat.ChatCompletionMessageParam,
        ),
        ({"role": "user", "content": "Hi"}, responses.ResponseInputItem),
        ([{"role": "user", "content": "Hi"}], responses.ResponseInputParam),
        (
            {
                "id": "c",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "logprobs": None,
                        "message": {"role": "assistant", "content": "Hi", "refusal": None},
                    }
                ],
            },
            chat.ChatCompletion,
        ),
        (
            {
                "id": "c",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}],
            },
            chat.ChatCompletionChunk,
        ),
    ],
)
def test_what_is_right_has_no_problems(value, kind):
    assert problems(value, kind) == []


def test_what_is_optional_may_be_absent_or_null():
    for way in ("usage", "text", "reasoning/summary", "error", "metadata"):
        for to in (None, ABSENT):
            assert problems(changed(COMPLETED, way, to), responses.Response) == []


@pytest.mark.parametrize(
    ("way", "to", "problem"),
    [
        ("id", ABSENT, "$.id: missing"),
        ("tools", ABSENT, "$.tools: missing"),
        ("output/1/content/0/annotations", ABSENT, "$.output[1].content[0].annotations: missing"),
        (
            "usage/output_tokens_details",
            {},
            "$.usage.output_tokens_details.reasoning_tokens: missing",
        ),
        ("foo", 1, "$.foo: unknown field"),
        ("a b", None, "$['a b']: unknown field"),
        ("output/2/foo", None, "$.output[2].foo: unknown field"),
        ("output/3/status", "completed", "$.output[3].status: unknown field"),
        ("tools/2/tools/0/async_", True, "$.tools[2].tools[0].async_: unknown field"),
        ("text/format/schema_", {}, "$.text.format.schema_: unknown field"),
        ("text/format/schema", ABSENT, "$.text.format.schema: missing"),
        ("text/format/type", "xml", "$.text.format.type: 'xml' is none of 'text', 'json_schema'"),
        ("tools/2/tools/0/async", 1, "$.tools[2].tools[0].async: expected bool or null, got int"),
        ("object", "list", "$.object: 'list' is none of 'response'"),
        ("object", None, "$.object: None is none of 'response'"),
        ("output/1/role", "user", "$.output[1].role: 'user' is none of 'assistant'"),
        ("created_at", "now", "$.created_at: expected float, got str"),
        ("created_at", True, "$.created_at: expected float, got bool"),
        ("created_at", None, "$.created_at: expected float, got null"),
        ("created_at", float("nan"), "$.created_at: nan is not JSON"),
        ("parallel_tool_calls", 1, "$.parallel_tool_calls: expected bool, got int"),
        ("usage/total_tokens", True, "$.usage.total_tokens: expected int, got bool"),
        ("usage/total_tokens", 1.0, "$.usage.total_tokens: expected int, got float"),
        ("usage", [], "$.usage: expected object or null, got list"),
        ("tools", {}, "$.tools: expected list, got object"),
        ("tools/0", "weather", "$.tools[0]: expected object, got str"),
        ("metadata/trace", 1, "$.metadata.trace: expected str, got int"),
        ("model", 5, "$.model: expected str, got int"),
        ("tool_choice", "any", "$.tool_choice: 'any' is none of 'none', 'auto', 'required'"),
        ("tool_choice", {"type": "function"}, "$.tool_choice.name: missing"),
        ("tool_choice", {"name": "x"}, "$.tool_choice.type: missing"),
        ("output/0/type", "thought", "$.output[0].type: 'thought' is none of 'message'"),
        ("output/0/type", "message", "$.output[0].content: missing"),
        ("output/0/type", ABSENT, "$.output[0].type: missing"),
        ("output/0/type", ["message"], "$.output[0].type: ['message'] is none of"),
        ("output/1/content/0/type", "input_text", "$.output[1].content[0].type: 'input_text' is"),
        ("error", {"code": "overloaded", "message": ""}, "$.error.code: 'overloaded' is none of"),
    ],
)
def test_what_is_wrong_in_a_response_is_named(way, to, problem):
    found = problems(changed(COMPLETED, way, to), responses.Response)
    assert [each for each in found if each.startswith(problem)], found


def test_one_thing_wrong_is_one_problem():
    kind = responses.ResponseOutputMessage
    assert problems({**MESSAGE, "status": "done"}, kind) == [
        "$.status: 'done' is none of 'in_progress', 'completed', 'incomplete'"
    ]
    assert problems({**MESSAGE, "phase": 1}, kind) == [
        "$.phase: expected 'commentary' or 'final_answer' or null, got int"
    ]


def test_every_problem_is_named():
    value = {"type": "summary_text", "foo": 1, "bar": 2}
    kind = responses.response_reasoning_item.Summary
    assert problems(value, kind) == [
        "$.text: missing",
        "$.foo: unknown field",
        "$.bar: unknown field",
    ]


def test_extensions_are_named_by_the_way_to_them():
    value = changed(COMPLETED, "trace", {"any": "thing"})
    value = changed(value, "output/1/content/0/cited", 1)
    assert problems(value, responses.Response) == [
        "$.output[1].content[0].cited: unknown field",
        "$.trace: unknown field",
    ]
    known = frozenset({"trace", "output.content.cited"})
    assert problems(value, responses.Response, extensions=known) == []
    assert problems(value, responses.Response, extensions=frozenset({"cited", "output.trace"}))
    event = {"type": "response.completed", "sequence_number": 1, "response": value}
    known = frozenset({"response.trace", "response.output.content.cited"})
    assert problems(event, responses.ResponseStreamEvent, extensions=known) == []


def test_an_extension_does_not_excuse_what_the_type_knows():
    value = changed(COMPLETED, "usage", 1)
    assert problems(value, responses.Response, extensions=frozenset({"usage"}))


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (True, int, ["$: expected int, got bool"]),
        (1, bool, ["$: expected bool, got int"]),
        (1, Literal["1"], ["$: 1 is none of '1'"]),
        (True, Literal[1], ["$: True is none of 1"]),
        (float("inf"), float, ["$: inf is not JSON"]),
        (1, type(None), ["$: expected null, got int"]),
        (1.5, int | str, ["$: expected int or str, got float"]),
        ([1, "2"], list[int], ["$[1]: expected int, got str"]),
        ({"a": {"b": "c"}}, dict[str, dict[str, int]], ["$.a.b: expected int, got str"]),
        ("x", responses.Response, ["$: expected object, got str"]),
        # Of members that nothing tells apart, the nearest.
        ({"a": 1}, dict[str, int] | responses.Response, []),
        # What looks optional in the models is not in the types of parameters.
        (
            {"type": "function", "name": "f"},
            responses.FunctionToolParam,
            ["$.parameters: missing", "$.strict: missing"],
        ),
        (
            {"role": "tool", "content": 1},
            chat.ChatCompletionMessageParam,
            ["$.content: expected str or list, got int", "$.tool_call_id: missing"],
        ),
        (
            [{"role": "critic"}],
            list[responses.ResponseInputItem],
            ["$[0].role: 'critic' is none of 'user', 'assistant', 'system', 'developer'"],
        ),
        # Two kinds of messages have one `type`: their `role` tells them apart.
        ({**MESSAGE, "role": "user", "content": []}, responses.ResponseItem, []),
        (
            {**MESSAGE, "role": "user"},
            responses.ResponseItem,
            [
                f"$.content[{index}].type: '{kind}' is none of "
                "'input_text', 'input_image', 'input_file'"
                for index, kind in enumerate(["output_text", "refusal"])
            ],
        ),
        (FUNCTION_CALL, responses.ResponseItem, []),
        (CUSTOM_CALL, responses.ResponseItem, ["$.status: missing"]),
    ],
)
def test_what_is_wrong_with_other_types_is_named(value, kind, expected):
    assert problems(value, kind) == expected


def test_aliases_are_the_names():
    class Aliased(BaseModel):
        from_: int = Field(alias="from")

    assert problems({"from": 1}, Aliased) == []
    assert problems({"from_": 1}, Aliased) == ["$.from: missing", "$.from_: unknown field"]


def test_a_type_without_a_rule_is_no_silent_success():
    with pytest.raises(TypeError, match="no rule"):
        problems([1], list[set])


# A stream


def at(kind: str, number: int = 0) -> int:
    """The position of that event of this type."""
    return [i for i, event in enumerate(the_stream()) if event["type"] == f"response.{kind}"][
        number
    ]


def test_a_right_stream_has_no_problems():
    events = the_stream()
    assert sequence_problems(events) == []
    assert problems(events, list[responses.ResponseStreamEvent]) == []


@pytest.mark.parametrize("status", ["incomplete", "failed"])
@pytest.mark.parametrize("error", [False, True])
def test_other_ends_are_right_too(status, error):
    events = the_stream()
    fields: dict[str, Any] = (
        {"incomplete_details": {"reason": "max_output_tokens"}}
        if status == "incomplete"
        else {"error": {"code": "server_error", "message": "Sorry."}}
    )
    message = at("output_item.done", 1)
    events[message]["item"]["status"] = "incomplete"
    output = [*OUTPUT[:1], {**MESSAGE, "status": "incomplete"}]
    events = events[: message + 1]
    if error:
        events.append({"type": "error", "code": None, "message": "Sorry.", "param": None})
    end = response(status, output=output, usage=USAGE, **fields)
    events = numbered([*events, {"type": f"response.{status}", "response": end}])
    assert problems(events, list[responses.ResponseStreamEvent]) == []
    # An error announces only a failure.
    expected = error and status == "incomplete"
    assert [problem.split(": ")[1] for problem in sequence_problems(events)] == (
        ["only response.failed comes after an error"] if expected else []
    )


def test_a_stream_of_no_items_and_one_of_redacted_reasoning_are_right():
    first, second, *_, last = the_stream()
    last["response"]["output"] = []
    assert sequence_problems(numbered([first, second, last])) == []
    item = {**REASONING, "summary": []}
    added = {"type": "response.output_item.added", "output_index": 0, "item": item}
    last["response"]["output"] = [item]
    done = {**added, "type": "response.output_item.done"}
    assert sequence_problems(numbered([first, second, added, done, last])) == []


def test_an_empty_text_is_right_without_a_delta():
    events = [event for event in the_stream() if event.get("item_id") != "ctc_1"]
    done = {"type": "response.custom_tool_call_input.done", "item_id": "ctc_1", "output_index": 3}
    events.insert(-2, {**done, "input": ""})
    events[-2]["item"]["input"] = events[-1]["response"]["output"][3]["input"] = ""
    assert sequence_problems(numbered(events)) == []


ADDED, DONE = "output_item.added", "output_item.done"
PART, PART_DONE = "content_part.added", "content_part.done"
SUMMARY, SUMMARY_DONE = "reasoning_summary_part.added", "reasoning_summary_part.done"
ARGUMENTS, INPUT = "function_call_arguments", "custom_tool_call_input"
END = "response.completed: "


@pytest.mark.parametrize(
    ("where", "way", "to", "problem"),
    [
        # Numbers and responses
        (("created",), "sequence_number", 1, "sequence_number is 1, not 0"),
        (("in_progress",), "sequence_number", True, "sequence_number is True, not 1"),
        (("completed",), "sequence_number", ABSENT, "sequence_number is None, not "),
        (("created",), "type", "response.queued", "expected response.created here"),
        (("in_progress",), "type", "response.created", "expected response.in_progress here"),
        (("in_progress",), "response/id", "resp_2", "response.id is 'resp_2', not 'resp_1'"),
        (("completed",), "response/id", "resp_2", "response.id is 'resp_2', not 'resp_1'"),
        (("created",), "response/status", "completed", "status is 'completed', not 'in_progress'"),
        (("completed",), "response/status", "failed", "status is 'failed', not 'completed'"),
        (("completed",), "response/usage", None, "response.usage is not an object"),
        (("completed",), "response/usage", ABSENT, "response.usage is not an object"),
        (("created",), "response/usage", USAGE, "response.usage is not null"),
        (("in_progress",), "response/usage", 0, "response.usage is not null"),
        (("in_progress",), "response/output", OUTPUT, "response.output: 4 of them, not 0"),
        (("completed",), "response/error", {}, "response.error is not null"),
        (("completed",), "response/incomplete_details", {}, "incomplete_details is not null"),
        (("completed",), "type", "response.failed", "response.error is not an object"),
        (("completed",), "type", "response.incomplete", "incomplete_details is not an object"),
        (("completed",), "type", "error", "the last event is not a terminal one"),
        (("completed",), "response", "x", "response.id is None, not 'resp_1'"),
        # Items
        ((ADDED, 1), "output_index", 2, "output_index is 2, not 1"),
        ((ADDED, 1), "output_index", 0, "output_index is 0, not 1"),
        ((ADDED, 1), "item/id", "rs_1", "item.id 'rs_1' is that of an earlier item"),
        ((ADDED, 3), "item/id", ABSENT, "item.id is None, not a name"),
        ((ADDED, 3), "item/call_id", "call_1", "item.call_id 'call_1' is that of an earlier item"),
        ((ADDED, 2), "item/call_id", "", "item.call_id is '', not a name"),
        ((ADDED, 1), "item/status", "completed", "status is 'completed', not 'in_progress'"),
        ((ADDED, 1), "item/content", [TEXT], "item.content is not empty yet"),
        ((ADDED, 0), "item/summary", [{}], "item.summary is not empty yet"),
        ((ADDED, 2), "item/arguments", "{}", "item.arguments is '{}', not ''"),
        ((ADDED, 3), "item/input", "l", "item.input is 'l', not ''"),
        ((DONE, 0), "output_index", 1, "output_index is 1, not 0"),
        ((DONE, 0), "item/id", "rs_2", "item.id is 'rs_2', not 'rs_1'"),
        ((DONE, 2), "item/call_id", "call_3", "item.call_id is 'call_3', not 'call_1'"),
        ((DONE, 2), "item/name", "x", "item.name is 'x', not 'weather'"),
        ((DONE, 2), "item/type", "message", "item.type is 'message', not 'function_call'"),
        ((DONE, 1), "item/status", "in_progress", "item.status is 'in_progress'"),
        ((DONE, 1), "item/status", "incomplete", "output[1].status is 'incomplete'"),
        ((DONE, 1), "item/content/0/text", "?", "item.content[0].text: '?' is not 'It rains.'"),
        ((DONE, 1), "item/content/1/refusal", "?", "content[1].refusal: '?' is not 'No more.'"),
        ((DONE, 1), "item/content/0/logprobs", ABSENT, "item.content[0].logprobs: missing"),
        ((DONE, 1), "item/content", [TEXT], "item.content: 1 of them, not 2"),
        ((DONE, 0), "item/summary/1/text", "?", "item.summary[1].text: '?' is not 'Then.'"),
        ((DONE, 2), "item/arguments", "{}", "item.arguments is '{}', not "),
        ((DONE, 3), "item/input", "ls", "item.input is 'ls', not 'ls -l'"),
        # The final output
        (("completed",), "response/output/0", ABSENT, END + "response.output: 3 of them, not 4"),
        (("completed",), "response/output/0/id", "x", "response.output[0].id: 'x' is not 'rs_1'"),
        (("completed",), "response/output/2/call_id", "x", "response.output[2].call_id: 'x'"),
        (("completed",), "response/output/1/content/0/text", "", "content[0].text: '' is not"),
        (("completed",), "response/output/1/content/1/refusal", "", "refusal: '' is not"),
        (("completed",), "response/output/2/arguments", "", "response.output[2].arguments: ''"),
        (("completed",), "response/output/3/input", "", "response.output[3].input: '' is not"),
        (("completed",), "response/output/0/summary/0/text", "", "summary[0].text: '' is not"),
        (("completed",), "response/output/3/foo", 1, "output[3].foo: not there before"),
        # Parts
        ((PART, 0), "content_index", 1, "content_index is 1, not 0"),
        ((PART, 1), "content_index", 0, "content_index is 0, not 1"),
        ((PART, 0), "item_id", "rs_1", "item_id is 'rs_1', not 'msg_1'"),
        ((PART, 0), "output_index", 0, "output_index is 0, not 1"),
        ((PART, 0), "part/type", "summary_text", "part.type is 'summary_text', which is no part"),
        ((PART, 0), "part/text", "It", "part.text is 'It', not ''"),
        ((PART_DONE, 0), "content_index", 1, "content_index is 1, not 0"),
        ((PART_DONE, 0), "part/text", "?", "part.text is '?', not 'It rains.'"),
        ((PART_DONE, 1), "part/refusal", "?", "part.refusal is '?', not 'No more.'"),
        ((PART_DONE, 1), "part/type", "output_text", "part.type is 'output_text', not 'refusal'"),
        ((SUMMARY, 1), "summary_index", 0, "summary_index is 0, not 1"),
        ((SUMMARY, 0), "item_id", "msg_1", "item_id is 'msg_1', not 'rs_1'"),
        ((SUMMARY_DONE, 1), "summary_index", 0, "summary_index is 0, not 1"),
        ((SUMMARY_DONE, 1), "part/text", "?", "part.text is '?', not 'Then.'"),
        # Texts
        (("output_text.delta", 0), "delta", "", "delta is ''"),
        (("output_text.delta", 0), "delta", ABSENT, "delta is None"),
        (("output_text.delta", 0), "delta", "He ", "text is 'It rains.', not 'He rains.'"),
        (("output_text.delta", 0), "content_index", 1, "content_index is 1, not 0"),
        (("output_text.delta", 0), "output_index", 2, "output_index is 2, not 1"),
        (("output_text.delta", 0), "item_id", "msg_2", "item_id is 'msg_2', not 'msg_1'"),
        (("output_text.delta", 0), "type", "response.refusal.delta", "type is 'output_text', not"),
        (("output_text.delta", 0), "type", f"response.{INPUT}.delta", "the open type is 'message'"),
        (("output_text.delta", 0), "type", "response.shout.delta", "no rule for this type"),
        (("output_text.done",), "text", "?", "text is '?', not 'It rains.'"),
        (("output_text.done",), "content_index", 1, "content_index is 1, not 0"),
        (("refusal.delta",), "delta", "Yes.", "refusal is 'No more.', not 'Yes.'"),
        (("refusal.done",), "refusal", "?", "refusal is '?', not 'No more.'"),
        (("reasoning_summary_text.delta", 2), "summary_index", 0, "summary_index is 0, not 1"),
        (("reasoning_summary_text.delta", 2), "delta", "", "delta is ''"),
        (("reasoning_summary_text.done", 0), "text", "?", "text is '?', not 'First.'"),
        ((f"{ARGUMENTS}.delta", 0), "delta", "[", "arguments is "),
        ((f"{ARGUMENTS}.delta", 0), "item_id", "call_1", "item_id is 'call_1', not 'fc_1'"),
        ((f"{ARGUMENTS}.done",), "arguments", "{}", "arguments is '{}', not "),
        ((f"{ARGUMENTS}.done",), "output_index", 3, "output_index is 3, not 2"),
        ((f"{INPUT}.delta",), "delta", "rm", "input is 'ls -l', not 'rm'"),
        ((f"{INPUT}.done",), "input", "ls", "input is 'ls', not 'ls -l'"),
    ],
)
def test_what_is_wrong_in_an_event_is_named(where, way, to, problem):
    events = the_stream()
    index = at(*where)
    events[index] = changed(events[index], way, to)
    found = sequence_problems(events)
    assert [each for each in found if problem in each], found


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        (("created",), "expected response.created here"),
        (("in_progress",), "expected response.in_progress here"),
        (("completed",), "the last event is not a terminal one"),
        ((ADDED, 0), "there is no open item"),
        ((ADDED, 1), "there is no open item"),
        ((DONE, 0), "the item with output_index 0 is not done yet"),
        ((DONE, 3), "the item with output_index 3 is not done"),
        ((PART, 0), "there is no open content part"),
        ((PART_DONE, 0), "the content part 0 is not done yet"),
        ((PART_DONE, 1), "the content part 1 is not done"),
        ((SUMMARY, 0), "there is no open summary part"),
        ((SUMMARY_DONE, 0), "the summary part 0 is not done yet"),
        (("output_text.delta", 1), "text is 'It rains.', not 'It '"),
        (("output_text.done",), "the .done of its text has not come"),
        (("refusal.delta",), "refusal is 'No more.', not ''"),
        (("refusal.done",), "the .done of its refusal has not come"),
        (("reasoning_summary_text.done", 1), "the .done of its text has not come"),
        ((f"{ARGUMENTS}.done",), "the .done of its arguments has not come"),
        ((f"{INPUT}.done",), "the .done of its input has not come"),
        ((f"{INPUT}.delta",), "input is 'ls -l', not ''"),
    ],
)
def test_an_event_that_does_not_come_is_missed(where, problem):
    events = the_stream()
    del events[at(*where)]
    found = sequence_problems(numbered(events))
    assert [each for each in found if problem in each], found
    if where != ("completed",):  # the gap in the numbers is noticed by itself
        assert any("sequence_number" in problem for problem in sequence_problems(events))


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        (("created",), "expected response.in_progress here"),
        (("in_progress",), "expected no such event here"),
        (("completed",), "a terminal event is not the last one"),
        ((ADDED, 0), "the item with output_index 0 is not done yet"),
        ((DONE, 0), "there is no open item"),
        ((PART, 0), "the content part 0 is not done yet"),
        ((PART_DONE, 0), "there is no open content part"),
        ((SUMMARY, 0), "the summary part 0 is not done yet"),
        ((SUMMARY_DONE, 1), "there is no open summary part"),
        (("output_text.delta", 0), "text is 'It rains.', not 'It It rains.'"),
        (("output_text.done",), "the .done of its text has come already"),
        ((f"{ARGUMENTS}.done",), "the .done of its arguments has come already"),
    ],
)
def test_an_event_that_comes_twice_is_noticed(where, problem):
    events = the_stream()
    index = at(*where)
    found = sequence_problems(numbered([*events[: index + 1], *events[index:]]))
    assert [each for each in found if problem in each], found


@pytest.mark.parametrize(
    ("moved", "before", "problem"),
    [
        ((PART, 0), (ADDED, 1), "there is no open item"),
        (("output_text.delta", 0), (PART, 0), "there is no open content part"),
        (("output_text.delta", 1), (PART_DONE, 0), "the .done of its text has come already"),
        (("output_text.done",), (PART, 1), "the .done of its text has not come"),
        ((SUMMARY, 1), (SUMMARY_DONE, 0), "the summary part 0 is not done yet"),
        ((f"{ARGUMENTS}.delta", 1), (DONE, 2), "the .done of its arguments has come already"),
        ((ADDED, 2), (DONE, 1), "the item with output_index 1 is not done yet"),
        ((ADDED, 3), (f"{ARGUMENTS}.done",), "the item with output_index 2 is not done yet"),
        (("in_progress",), ("created",), "expected response.created here"),
        (("in_progress",), (DONE, 3), "expected no such event here"),
        (("completed",), (DONE, 3), "a terminal event is not the last one"),
    ],
)
def test_events_in_another_order_are_noticed(moved, before, problem):
    events = the_stream()
    place, origin = at(*before), at(*moved)
    events.insert(place - (origin < place), events.pop(origin))
    found = sequence_problems(numbered(events))
    assert [each for each in found if problem in each], found


def test_items_done_in_another_order_are_noticed():
    events = the_stream()
    output = events[-1]["response"]["output"]
    output[0], output[1] = output[1], output[0]
    assert sequence_problems(events)


def test_an_error_is_the_last_but_one():
    events = the_stream()
    error = {"type": "error", "code": None, "message": "Sorry.", "param": None}
    events.insert(at(ADDED, 1), error)
    found = sequence_problems(numbered(events))
    assert [problem.split(": ")[1] for problem in found] == [
        "only response.failed comes after an error"
    ]


def test_no_events_are_no_stream():
    assert sequence_problems([]) == ["no events"]


def test_what_is_no_event_at_all_is_a_problem_and_no_exception():
    for event in ({}, {"type": None}, {"type": 1, "item": []}):
        assert sequence_problems([event])
    stripped = [{"type": event["type"]} for event in the_stream()]
    assert sequence_problems(stripped)


def test_every_event_is_needed():
    for index in range(len(the_stream())):
        events = the_stream()
        del events[index]
        assert sequence_problems(numbered(events)), the_stream()[index]
