"""How much a body may hold, and what its doubled keys mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.conversation import Conversation, Text
from claude_proxy.dialect.body import MOST_TOOLS, MOST_VALUES, is_wide
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.chat import request as chat
from claude_proxy.openai.responses import request as responses

texts = st.text(st.sampled_from('\\",[]{}:a\n\u00e9\U0001f600'), max_size=8)
jsons = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)


def chat_conversation(data: bytes) -> Conversation:
    request = chat.decode(data)
    chat.ignored(data, sampling=False)
    return chat.to_conversation(request, "m", sampling=False)


def responses_conversation(data: bytes) -> Conversation:
    wanted = responses.resolve(responses.decode(data), lambda _: None, lambda _: None)
    responses.ignored(wanted, data, sampling=False)
    return responses.to_conversation(wanted, "m", sampling=False)


def refused(translate: Callable[[bytes], Conversation], data: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        translate(data)
    return caught.value


def separators(value: Any) -> int:
    """How many lists, objects and commas JSON has for it."""
    if not isinstance(value, list | dict):
        return 0
    inner = list(value.values() if isinstance(value, dict) else value)
    return 1 + max(0, len(inner) - 1) + sum(map(separators, inner))


@given(jsons, st.booleans())
def test_what_stands_in_strings_does_not_count(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    count = separators(value)
    assert not is_wide(text, count)
    if count:
        assert is_wide(text, count - 1)


@given(st.text('\\",[]{}:a', max_size=40), st.integers(0, 20))
def test_of_any_bytes_something_is_said(text, most):
    assert is_wide(text.encode(), most) in (True, False)


HELLO = {"role": "user", "content": "hello"}
MANY = MOST_VALUES


@pytest.mark.parametrize(
    ("translate", "fields"),
    [
        (chat_conversation, {"messages": [HELLO] * MANY}),
        (
            chat_conversation,
            {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * MANY}]},
        ),
        (chat_conversation, {"messages": [HELLO], "tools": [{}] * (MANY + 1)}),
        (
            chat_conversation,
            {"messages": [HELLO], "metadata": dict.fromkeys(map(str, range(MANY)))},
        ),
        (chat_conversation, {"messages": [HELLO], "unknown": [0] * MANY}),
        (responses_conversation, {"input": [HELLO] * MANY}),
        (responses_conversation, {"input": "x", "tools": [{"type": "a", "b": [0] * MANY}]}),
        (responses_conversation, {"input": "x", "prompt": [[]] * MANY}),
    ],
    ids=["messages", "parts", "tools", "keys", "unknown", "items", "schema", "any"],
)
def test_more_values_than_can_be_read_at_once_are_refused(translate, fields):
    error = refused(translate, json.dumps(fields).encode())
    assert f"more than {MOST_VALUES} values" in error.message


def test_a_text_may_hold_what_looks_like_any_number_of_values():
    said = '[{"a": 1}, {"b": "\\"}]' * MOST_VALUES
    (message,) = chat_conversation(
        json.dumps({"messages": [{"role": "user", "content": said}]}).encode()
    ).messages
    assert message.parts == (Text(said),)


def called(arguments: str, times: int) -> list[dict[str, Any]]:
    calls = [
        {"id": str(n), "type": "function", "function": {"name": "f", "arguments": arguments}}
        for n in range(times)
    ]
    results = [{"role": "tool", "tool_call_id": str(n), "content": "x"} for n in range(times)]
    return [HELLO, {"role": "assistant", "tool_calls": calls}, *results]


def items_called(arguments: str, times: int) -> list[dict[str, Any]]:
    call = {"type": "function_call", "name": "f", "arguments": arguments}
    result = {"type": "function_call_output", "output": "x"}
    calls = [{**call, "call_id": str(n)} for n in range(times)]
    return [HELLO, *calls, *({**result, "call_id": str(n)} for n in range(times))]


@pytest.mark.parametrize(
    ("translate", "field", "written", "param"),
    [
        (
            *(chat_conversation, "messages", called),
            "messages[1].tool_calls[0].function.arguments",
        ),
        (responses_conversation, "input", items_called, "input[1].arguments"),
    ],
)
def test_the_arguments_of_all_calls_together_have_the_same_limit(translate, field, written, param):
    half = json.dumps({"a": [0] * (MOST_VALUES // 2)})
    assert translate(json.dumps({field: written(half, 1)}).encode())
    error = refused(translate, json.dumps({field: written(half, 3)}).encode())
    assert f"more than {MOST_VALUES} values" in error.message
    assert error.param == param


def functions(count: int) -> list[dict[str, Any]]:
    return [{"type": "function", "name": f"f{n}"} for n in range(count)]


@pytest.mark.parametrize(
    ("translate", "fields"),
    [
        (
            chat_conversation,
            {"messages": [HELLO], "tools": [{"function": f} for f in functions(MOST_TOOLS + 1)]},
        ),
        (chat_conversation, {"messages": [HELLO], "functions": functions(MOST_TOOLS + 1)}),
        (responses_conversation, {"input": "x", "tools": functions(MOST_TOOLS + 1)}),
        (
            responses_conversation,
            {
                "input": "x",
                "tools": [
                    {"type": "namespace", "name": name, "tools": functions(MOST_TOOLS // 2 + 1)}
                    for name in ("a", "b")
                ],
            },
        ),
    ],
    ids=["tools", "functions", "responses", "namespaces"],
)
def test_tools_have_a_limit(translate, fields):
    error = refused(translate, json.dumps(fields).encode())
    assert str(MOST_TOOLS) in error.message
    assert error.param in ("tools", "functions")


# Each of two equal keys must be valid; the last one counts, as in JavaScript, which the CLI is.


@pytest.mark.parametrize(
    ("translate", "data"),
    [
        (
            chat_conversation,
            b'{"messages":[{"role":"user","content":"a"}],"messages":[{"role":"user","content":"b"}]}',
        ),
        (chat_conversation, b'{"messages":[{"role":"user","content":"a","content":"b"}]}'),
        (chat_conversation, b'{"messages":[{"content":"a","role":"user","content":"b"}]}'),
        (chat_conversation, rb'{"messages":[{"role":"user","content":"a","\u0063ontent":"b"}]}'),
        (responses_conversation, b'{"input":"a","input":"b"}'),
        (responses_conversation, b'{"input":[{"role":"user","content":"a","content":"b"}]}'),
        (responses_conversation, b'{"input":[{"role":"system","content":"b","role":"user"}]}'),
        (
            responses_conversation,
            b'{"input":[{"type":"reasoning","type":"message","role":"user","content":"b"}]}',
        ),
    ],
)
def test_the_last_of_equal_keys_counts(translate, data):
    (message,) = translate(data).messages
    assert (message.role, message.parts) == ("user", (Text("b"),))


@pytest.mark.parametrize(
    ("translate", "data"),
    [
        (chat_conversation, b'{"messages":[{"role":"user","content":"a","role":"system"}]}'),
        (
            responses_conversation,
            b'{"input":[{"type":"message","role":"user","content":"a","type":"reasoning"}]}',
        ),
        (
            responses_conversation,
            b'{"input":[{"role":"user","content":[{"type":"text","text":"","type":"refusal"}]}]}',
        ),
    ],
)
def test_a_thing_that_is_of_two_kinds_is_refused(translate, data):
    assert "Invalid value" in refused(translate, data).message


def test_doubled_keys_of_a_tool_are_read_alike_everywhere():
    data = b'{"input":"x","tools":[{"type":"function","name":"a","name":"b"}]}'
    wanted = responses.resolve(responses.decode(data), lambda _: None, lambda _: None)
    assert [tool.name for tool in wanted.toolbox.tools] == ["b"]
    names = responses.ignored(wanted, b'{"input":"x","user":"a","user":null}', sampling=False)
    assert names == []
