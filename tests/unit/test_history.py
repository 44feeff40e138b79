"""A conversation as the turns that the CLI takes."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.claude.history import (
    ToolIds,
    Turn,
    answer_turn,
    block,
    is_blank,
    marked,
)
from claude_proxy.claude.history import to_turns as turns_of
from claude_proxy.claude.tools import ToolNames
from claude_proxy.conversation import (
    Answer,
    CacheMark,
    Conversation,
    Document,
    Finished,
    FinishReason,
    Image,
    Message,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from claude_proxy.errors import InvalidRequest

NAMES = ToolNames(Conversation("m", "", ()))


def to_turns(messages: list[Message]) -> list[Turn]:
    return turns_of(Conversation("m", "", tuple(messages)), NAMES)


def text(value: str) -> dict:
    return {"type": "text", "text": value}


def user(*parts) -> Message:
    return Message("user", tuple(Text(part) if isinstance(part, str) else part for part in parts))


def assistant(*parts) -> Message:
    return Message("assistant", user(*parts).parts)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Text(" a\n"), text(" a\n")),
        (
            Image(url="https://x/y.png"),
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        ),
        (
            Image("image/png", "QQ=="),
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="},
            },
        ),
        (
            Document("QQ==", "a.pdf"),
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="},
                "title": "a.pdf",
            },
        ),
        (
            ToolCall("call_1", "f", '{"a": [1, null]}'),
            {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": [1, None]}},
        ),
        (
            ToolResult("call_1", (Text("r"), Text(" "))),
            {"type": "tool_result", "tool_use_id": "call_1", "content": [text("r")]},
        ),
        (ToolResult("call_1", (Text(""),)), {"type": "tool_result", "tool_use_id": "call_1"}),
    ],
)
def test_every_part_is_a_block_of_anthropics_api(part, expected):
    assert block(part, ToolIds(), NAMES) == expected


def test_a_document_without_a_name_has_no_title():
    assert "title" not in block(Document("QQ=="), ToolIds(), NAMES)


def test_neighbours_of_one_role_are_one_turn_block_by_block():
    messages = [user("a"), user("b", "c"), assistant("d"), assistant("e"), user("f")]
    assert to_turns(messages) == [
        Turn("user", [text("a"), text("b"), text("c")]),
        Turn("assistant", [text("d"), text("e")]),
        Turn("user", [text("f")]),
    ]


def test_blank_messages_are_left_out_and_their_neighbours_meet():
    messages = [user("a"), assistant(" \n"), user("", "b")]
    assert to_turns(messages) == [Turn("user", [text("a"), text("b")])]


@pytest.mark.parametrize("messages", [[], [user("")], [user("a"), assistant("b"), user(" ")]])
def test_nothing_to_answer_is_an_invalid_request(messages):
    with pytest.raises(InvalidRequest, match="nothing to answer") as caught:
        to_turns(messages)
    assert caught.value.param == "messages"


def test_a_conversation_cannot_begin_with_the_assistant():
    with pytest.raises(InvalidRequest, match="must be a user's") as caught:
        to_turns([assistant("hello"), user("hi")])
    assert caught.value.param == "messages"


def test_a_call_id_that_comes_again_is_made_another_one():
    """Other servers number their calls per answer (call_0). The CLI (2.1.330) takes a tool_use
    whose id was there before for a repetition: it sends "[Tool use interrupted]" in its place
    and "(no content)" instead of the result, and the model answers to that."""
    messages = [
        user("q"),
        *(assistant(ToolCall("call_0", "f", "{}")), user(ToolResult("call_0", (Text("one"),)))),
        *(assistant(ToolCall("call_0", "f", "{}")), user(ToolResult("call_0", (Text("two"),)))),
    ]
    _, first_call, first, second_call, second = [turn.content[0] for turn in to_turns(messages)]
    assert first_call["id"] == first["tool_use_id"]
    assert second_call["id"] == second["tool_use_id"]
    assert first_call["id"] != second_call["id"]


def test_a_long_history_of_one_id_costs_no_more_than_its_length():
    """4,000 turns took 7 s of the event loop when each id tried all the earlier ones again."""
    turn = [
        user("q"),
        assistant(ToolCall("call_0", "f", "{}")),
        user(ToolResult("call_0", (Text("r"),))),
    ]
    before = time.process_time()
    turns = to_turns(turn * 4_000)
    assert time.process_time() - before < 2
    ids = [item["id"] for turn in turns for item in turn.content if item["type"] == "tool_use"]
    assert len(set(ids)) == 4_000


texts = st.text(max_size=5) | st.sampled_from([" ", "\n\t"])
results = st.builds(ToolResult, texts, st.tuples(texts.map(Text)))
calls = st.builds(ToolCall, texts, st.just("f"), st.just("{}"))
parts = st.tuples(texts.map(Text) | results | calls, texts.map(Text))
conversations = st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), parts))


@given(conversations)
def test_turns_alternate_and_hold_every_part_that_says_something(messages):
    try:
        turns = to_turns(messages)
    except InvalidRequest:
        return
    roles = [turn.role for turn in turns]
    assert roles == ["user", *["assistant", "user"] * (len(turns) // 2)]
    ids = ToolIds()
    said = [
        (m.role, block(part, ids, NAMES))
        for m in messages
        for part in m.parts
        if not is_blank(part)
    ]
    assert [(turn.role, item) for turn in turns for item in turn.content] == said
    assert '"text": ""' not in json.dumps([turn.content for turn in turns])


@given(st.text(), st.text())
def test_any_id_becomes_one_that_the_api_takes_and_different_ones_stay_different(one, other):
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", ToolIds().of_call(one))
    assert (ToolIds().of_call(one) == ToolIds().of_call(other)) is (one == other)


@pytest.mark.parametrize("given_id", ["call_abc123", "toolu_01A-b", "x" * 128])
def test_ids_that_the_api_takes_stay_as_they_are(given_id):
    assert ToolIds().of_call(given_id) == given_id


AWKWARD = "search the web"


def test_calls_bear_the_names_that_the_api_knows():
    names = ToolNames(Conversation("m", "", (), tools=(Tool(AWKWARD, "{}"),)))
    call = block(ToolCall("a", AWKWARD, "{}"), ToolIds(), names)
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", call["name"])
    assert names.to_client(call["name"]) == AWKWARD


MARK = {"cache_control": {"type": "ephemeral"}}
TURNS = [Turn("user", [text("a"), text("b")]), Turn("assistant", [text("c")])]


@pytest.mark.parametrize(
    ("marks", "place"),
    [([(), (), ()], (2, 1)), ([(0,), (), ()], (0, 0)), ([(0, 1), (0,), ()], (1, 0))],
)
def test_a_mark_of_the_cache_stands_at_the_end_or_where_the_client_has_set_its_last(marks, place):
    turns = [*TURNS, Turn("user", [text("d"), text("e")])]
    given_ = [replace(turn, marks=mark) for turn, mark in zip(turns, marks, strict=True)]
    placed = [list(turn.content) for turn in marked(given_)]
    turn, block = place
    placed[turn][block] = {k: v for k, v in placed[turn][block].items() if k not in MARK}
    assert placed == [turn.content for turn in turns]
    assert marked(given_)[turn].content[block] == {**turns[turn].content[block], **MARK}


def test_marks_belong_to_the_block_before_them_and_are_none_of_it():
    mark = CacheMark()
    parts = [Text("a"), mark, Text(" "), Text("b"), mark, mark]
    (turn,) = turns_of(Conversation("m", "", (Message("user", tuple(parts)),)), NAMES)
    assert turn == Turn("user", [text("a"), text("b")], marks=(0, 1, 1))
    nothing = Conversation("m", "", (user("a"), Message("assistant", (mark,)), user("b")))
    (turn,) = turns_of(nothing, NAMES)
    assert turn.content == [text("a"), text("b")]


@given(texts, texts, st.lists(st.builds(ToolCall, texts, texts, st.just('{"a": 1}')), max_size=3))
def test_the_models_answer_is_the_turn_that_a_client_will_echo(said, reasoning, made):
    names = ToolNames(Conversation("m", "", (), tools=(Tool(AWKWARD, "{}"),)))
    answer = Answer("m", said, reasoning, tuple(made), Finished(FinishReason.STOP, Usage()))
    echo = Conversation("m", "", (user("q"), assistant(said, *made), user("so?")))
    turn = answer_turn(answer, names)
    turns = turns_of(echo, names)
    assert turn.role == "assistant"
    assert [turn] * bool(turn.content) == turns[1:-1]


def test_an_answer_that_says_nothing_is_a_turn_without_content():
    answer = Answer("m", " \n", "hm", (), Finished(FinishReason.STOP, Usage()))
    assert answer_turn(answer, NAMES) == Turn("assistant", [])
