"""Chat Completions: calls and their results, however clients write and order them."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.conversation import Image, Message, Text, ToolCall, ToolResult
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.chat.messages import ChatMessage, to_messages

HELLO = {"role": "user", "content": "hello"}


def translated(*messages: dict, first: int = 0) -> list[Message]:
    received = msgspec.json.decode(json.dumps(messages), type=list[ChatMessage])
    return to_messages(received, first)


def refused(*messages: dict) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        translated(*messages)
    assert caught.value.message
    return caught.value.param


def calling(*ids: str, **more) -> dict:
    calls = [{"id": id_, "function": {"name": "f", "arguments": "{}"}} for id_ in ids]
    return {"role": "assistant", "tool_calls": calls, **more}


def result(id_: str, content="done") -> dict:
    return {"role": "tool", "tool_call_id": id_, "content": content}


def calling_of_old(name: str = "f", arguments: str = "{}") -> dict:
    call = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": None, "function_call": call}


def result_of_old(content="done", **more) -> dict:
    return {"role": "function", "name": "f", "content": content, **more}


def links(messages: list[Message]) -> list[tuple[str, str]]:
    """The ids of the calls, each with the text of its result."""
    parts = [part for message in messages for part in message.parts]
    texts = {part.call_id: part.parts[0].text for part in parts if isinstance(part, ToolResult)}
    return [(part.id, texts[part.id]) for part in parts if isinstance(part, ToolCall)]


# Results and the calls that they answer


@given(st.lists(st.text(max_size=4), unique=True, min_size=1, max_size=4), st.data())
def test_results_may_come_in_any_order(ids, data):
    given_order = data.draw(st.permutations(ids))
    messages = translated(HELLO, calling(*ids), *(result(id_, id_) for id_ in given_order))
    assert links(messages) == [(id_, id_) for id_ in ids]
    assert [message.parts[0].call_id for message in messages[2:]] == list(given_order)


@pytest.mark.parametrize(
    ("call_id", "result_id"),
    [
        ("call_1", "call1"),
        ("call1", "call_1"),
        ("functions.f:0", "functionsf0"),
        ("call-1", "call_1"),
        ("call_1", "call_1"),
    ],
)
def test_the_id_of_a_result_may_lack_the_punctuation_of_its_calls(call_id, result_id):
    messages = translated(HELLO, calling("other", call_id), result(result_id, "x"), result("other"))
    assert links(messages) == [("other", "done"), (call_id, "x")]


def test_an_exact_id_is_preferred_to_a_similar_one():
    messages = translated(HELLO, calling("a_1", "a1"), result("a1", "two"), result("a_1", "one"))
    assert links(messages) == [("a_1", "one"), ("a1", "two")]


def test_the_last_of_similar_ids_is_the_one_that_is_left():
    messages = translated(HELLO, calling("a_1", "a-1"), result("a-1", "two"), result("a1", "one"))
    assert links(messages) == [("a_1", "one"), ("a-1", "two")]


def test_an_id_that_may_be_two_calls_is_refused():
    assert refused(HELLO, calling("a_1", "a-1"), result("a1")) == "messages[2].tool_call_id"


@pytest.mark.parametrize("id_", ["call_2", "CALL_1", "", "call_11"])
def test_the_id_of_no_call_is_refused(id_):
    assert refused(HELLO, calling("call_1"), result(id_)) == "messages[2].tool_call_id"


@pytest.mark.parametrize(
    "after", [[], [HELLO], [{"role": "system", "content": "s"}], [{"role": "assistant"}]]
)
def test_a_missing_result_is_refused_at_its_call(after):
    messages = [HELLO, calling("a", "b", "c"), result("a"), result("c"), *after]
    assert refused(*messages) == "messages[1].tool_calls[1]"


def test_a_call_is_answered_once():
    messages = [HELLO, calling("a", "b"), result("a"), result("a")]
    assert refused(*messages) == "messages[3].tool_call_id"


def test_the_same_ids_may_come_again_in_a_later_answer():
    turn = [HELLO, calling("call_0"), result("call_0")]
    assert len(translated(*turn, *turn)) == 6


def test_two_calls_of_one_answer_have_two_ids():
    assert refused(HELLO, calling("a", "a"), result("a")) == "messages[1].tool_calls[1].id"


def test_a_result_holds_what_a_user_may_say():
    picture = {"type": "image_url", "image_url": {"url": "https://x.example/y.png"}}
    content = [{"type": "text", "text": "see"}, picture]
    *_, message = translated(HELLO, calling("a"), result("a", content))
    inside = (Text("see"), Image(url="https://x.example/y.png"))
    assert message == Message("user", (ToolResult("a", inside),))


def test_the_place_of_an_error_counts_the_messages_of_the_system_too():
    with pytest.raises(InvalidRequest) as caught:
        translated({"role": "system", "content": "s"}, HELLO, result("a"), first=1)
    assert caught.value.param == "messages[2].tool_call_id"


# The old form


def test_the_old_form_of_a_call_and_its_result_belong_together():
    messages = translated(HELLO, calling_of_old("g", '{"x": 1}'), result_of_old("r", name="g"))
    (call,), (answer,) = messages[1].parts, messages[2].parts
    assert (call.name, call.arguments) == ("g", '{"x": 1}')
    assert answer == ToolResult(call.id, (Text("r"),))


def test_calls_of_the_old_form_have_ids_of_their_own_that_stay_the_same():
    turn = [HELLO, calling_of_old(), result_of_old()]
    ids = [id_ for id_, _ in links(translated(*turn, *turn, *turn))]
    assert len(set(ids)) == 3
    assert [id_ for id_, _ in links(translated(*turn, *turn))] == ids[:2]


def test_a_result_of_the_old_form_needs_no_name():
    bare = {"role": "function", "content": None}
    assert len(translated(HELLO, calling_of_old(), bare)) == 3


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([HELLO, result_of_old()], "messages[1]"),
        ([HELLO, calling_of_old(), result_of_old(), result_of_old()], "messages[3]"),
    ],
)
def test_a_result_of_the_old_form_without_a_call_is_refused(messages, param):
    assert refused(*messages) == param


@pytest.mark.parametrize("after", [[HELLO], []])
def test_a_call_of_the_old_form_must_be_answered(after):
    assert str(refused(HELLO, calling_of_old(), *after)).startswith("messages[1]")


@pytest.mark.parametrize("arguments", ["x", "[]", "null", '{"a": 1'])
def test_arguments_of_the_old_form_must_be_a_json_object(arguments):
    messages = [HELLO, calling_of_old(arguments=arguments), result_of_old()]
    assert refused(*messages) == "messages[1].function_call.arguments"


@pytest.mark.parametrize("call", [calling("a"), calling_of_old()], ids=["tools", "functions"])
def test_what_was_said_before_a_call_stays_before_it(call):
    call = {**call, "content": "wait", "refusal": "no"}
    answer = result("a") if "tool_calls" in call else result_of_old()
    said, refusal, made = translated(HELLO, call, answer)[1].parts
    assert (said, refusal) == (Text("wait"), Text("no"))
    assert isinstance(made, ToolCall)
