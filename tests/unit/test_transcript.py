"""Whether a conversation goes on from what a process holds, however the client echoes it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.claude.history import Turn, answer_turn
from claude_proxy.claude.prompt import Prompt
from claude_proxy.claude.transcript import Transcript, call_ids, digests, results_only, words
from claude_proxy.conversation import (
    Answer,
    Conversation,
    Document,
    Effort,
    Finished,
    FinishReason,
    Image,
    Message,
    Options,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolUse,
    Usage,
)

TOOLS = (Tool("f", '{"type":"object"}'), Tool("search the web", '{"type":"object"}'))
SAID = "First:\n\n  indented  words\n\nlast"


def user(*parts: Part | str) -> Message:
    return Message("user", tuple(Text(part) if isinstance(part, str) else part for part in parts))


def assistant(*parts: Part | str) -> Message:
    return Message("assistant", user(*parts).parts)


def asking(*messages: Message) -> Conversation:
    return Conversation("opus", "Be brief.", messages, tools=TOOLS)


QUESTION = asking(user("hi", Image("image/png", "QQ==")))


def after(asked: Conversation, text: str, *calls: ToolCall, reasoning: str = "") -> Transcript:
    """What a process holds that has answered."""
    prompt = Prompt.of(asked)
    finished = Finished(FinishReason.STOP, Usage())
    turn = answer_turn(Answer("claude-x", text, reasoning, calls, finished), prompt.names)
    return Transcript(prompt.identity, digests([*prompt.turns, turn]))


def new(held: Transcript, conversation: Conversation) -> list[Turn] | None:
    prompt = Prompt.of(conversation)
    known = held.known_of(prompt.identity, prompt.digests)
    return None if known is None else prompt.turns[known:]


def echoed(text: str) -> Conversation:
    return asking(*QUESTION.messages, assistant(text), user("so?"))


SO = [Turn("user", [{"type": "text", "text": "so?"}])]


# Text


def test_what_is_new_are_the_turns_after_the_answer():
    held = after(QUESTION, SAID)
    assert new(held, echoed(SAID)) == SO
    more = asking(*echoed(SAID).messages, assistant("hm"), user("well?"))
    assert new(held, more) == Prompt.of(more).turns[2:]


@pytest.mark.parametrize(
    "echo",
    [
        SAID.strip(),
        f"\n {SAID}\n\n",
        SAID.replace("\n", "\r\n"),
        SAID.replace("\n\n", "\n"),
        SAID.replace("\n\n", "\n \n\n"),
        SAID.replace("\n", " \t\n"),
        SAID.replace("indented  words", "indented words"),
        SAID.replace("indented  words", "indented\N{NO-BREAK SPACE}words"),
    ],
    ids=["same", "around", "CRLF", "blank line", "blank lines", "line ends", "blanks", "nbsp"],
)
def test_white_space_that_says_nothing_makes_no_other_answer(echo):
    assert new(after(QUESTION, SAID), echoed(echo)) == SO


@pytest.mark.parametrize(
    "echo",
    [
        SAID.replace("words", "word"),
        SAID.replace("words", "Words"),
        SAID.replace("First:", ""),
        SAID.replace("last", "last."),
        SAID.replace("  indented", "    indented"),
        SAID.replace("  indented", "\tindented"),
        SAID.replace("indented  words", "indentedwords"),
        SAID.replace("\n\n", " "),
        "",
    ],
)
def test_other_words_other_lines_or_another_indentation_are_another_answer(echo):
    assert new(after(QUESTION, SAID), echoed(echo)) is None


def test_reasoning_that_the_client_drops_is_no_part_of_the_answer():
    assert new(after(QUESTION, SAID, reasoning="hm, hm"), echoed(SAID)) == SO


def test_an_answer_may_come_back_in_several_parts_or_messages():
    several = asking(
        *QUESTION.messages, assistant("First:\n\n  ind", "ented  words\n"), user("so?")
    )
    assert new(after(QUESTION, SAID), several) is None
    several = asking(*QUESTION.messages, assistant(SAID[:9]), assistant(SAID[9:]), user("so?"))
    assert new(after(QUESTION, SAID), several) == SO


texts = st.text(st.sampled_from("ab.\n\r\t \N{NO-BREAK SPACE}")) | st.text()


@given(texts)
def test_trimming_and_other_line_ends_never_make_other_words(text):
    said = words(text)
    for echo in [text.strip(), f" {text}\n", text.replace("\n", "\r\n"), text.replace("\n", " \n")]:
        assert words(echo) == said
    assert words(said) == said


@given(texts, texts)
def test_the_same_words_in_the_same_lines_only(one, other):
    if words(one) == words(other):
        assert one.split() == other.split()


# Calls

CALL = ToolCall("call1", "f", '{"x":1.0,"list":[1,{"y":2.0}],"big":1e300}')
OTHER = ToolCall("call2", "search the web", '{"x":true}')


def answered(*calls: ToolCall, said: tuple[str, ...] = ()) -> Conversation:
    results = (ToolResult(call.id, (Text(call.name),)) for call in calls)
    return asking(*QUESTION.messages, assistant(*said, *calls), user(*results))


def test_what_is_new_after_calls_are_their_results():
    (turn,) = new(after(QUESTION, "", CALL, OTHER), answered(CALL, OTHER))
    assert results_only(turn)
    assert [block["tool_use_id"] for block in turn.content] == ["call1", "call2"]


@pytest.mark.parametrize("said", [(), ("",), (" \n",), ("", "")])
def test_no_content_and_an_empty_one_are_the_same(said):
    assert new(after(QUESTION, "", CALL), answered(CALL, said=said)) is not None


@pytest.mark.parametrize(
    "arguments",
    [
        '{"x":1,"list":[1,{"y":2}],"big":1e300}',
        '{ "big": 1E+300, "list": [1.0, {"y": 2.0}],\n "x": 1 }',
        json.dumps(json.loads(CALL.arguments), indent=2, sort_keys=True),
    ],
)
def test_arguments_may_be_serialised_anew(arguments):
    echo = replace(CALL, arguments=arguments)
    assert new(after(QUESTION, "", CALL), answered(echo)) is not None


@pytest.mark.parametrize(
    ("made", "echo"),
    [
        ('{"x":1}', '{"x":true}'),
        ('{"x":0}', '{"x":false}'),
        ('{"x":0}', '{"x":null}'),
        ('{"x":1}', '{"x":"1"}'),
        ('{"x":1}', '{"x":1.5}'),
        ('{"x":1}', "{}"),
        ('{"x":[1,2]}', '{"x":[2,1]}'),
        ('{"x":" a"}', '{"x":"a"}'),
    ],
)
def test_other_arguments_are_another_call(made, echo):
    held = after(QUESTION, "", replace(CALL, arguments=made))
    assert new(held, answered(replace(CALL, arguments=made))) is not None
    assert new(held, answered(replace(CALL, arguments=echo))) is None


def test_ids_may_be_respelled_in_every_turn():
    first = after(QUESTION, "", CALL, OTHER)
    respelled = replace(CALL, id="call_1"), replace(OTHER, id="functions.x:2")
    assert new(first, answered(*respelled)) is not None
    second = after(answered(CALL, OTHER), SAID)
    again = asking(*answered(*respelled).messages, assistant(SAID), user("so?"))
    assert new(second, again) == SO


def test_the_same_results_for_other_calls_are_another_conversation():
    held = after(answered(CALL, replace(CALL, id="call2")), SAID)
    question, calls, results = answered(CALL, replace(CALL, id="call2")).messages
    swapped = user(
        *(
            replace(result, call_id=id_)
            for result, id_ in zip(results.parts, ["call2", "call1"], strict=True)
        )
    )
    turns = asking(question, calls, swapped, assistant(SAID), user("so?"))
    assert new(held, turns) is None


@pytest.mark.parametrize(
    "calls",
    [
        (OTHER, CALL),
        (CALL,),
        (CALL, OTHER, replace(CALL, id="call3")),
        (CALL, replace(OTHER, name="f")),
    ],
    ids=["order", "fewer", "more", "name"],
)
def test_other_calls_are_another_answer(calls):
    assert new(after(QUESTION, "", CALL, OTHER), answered(*calls)) is None


# What must be the same to the byte


@pytest.mark.parametrize(
    "asked",
    [
        user("hi ", Image("image/png", "QQ==")),
        user("Hi", Image("image/png", "QQ==")),
        user("hi", Image("image/png", "QUI=")),
        user("hi", Image("image/gif", "QQ==")),
        user("hi", Document("QQ==")),
        user("hi"),
        user("hi", "", Image("image/png", "QQ=="), "more"),
    ],
)
def test_another_question_is_another_conversation(asked):
    _, *rest = echoed(SAID).messages
    assert new(after(QUESTION, SAID), asking(asked, *rest)) is None


def test_another_result_is_another_conversation():
    held = after(answered(CALL), SAID)
    *before, _ = answered(CALL).messages
    for text, known in [("f", True), ("f ", False), ("g", False)]:
        result = user(ToolResult("call1", (Text(text),)))
        echo = asking(*before, result, assistant(SAID), user("so?"))
        assert (new(held, echo) is not None) is known


@pytest.mark.parametrize(
    "change",
    [
        {"model": "haiku"},
        {"system": "Be brief"},
        {"tools": TOOLS[:1]},
        {"tools": TOOLS[::-1]},
        {"tools": (replace(TOOLS[0], description="f"), TOOLS[1])},
        {"tools": (replace(TOOLS[0], schema='{"type": "object"}'), TOOLS[1])},
        {"schema": '{"type":"object"}'},
    ],
)
def test_another_model_prompt_tool_or_schema_is_another_conversation(change):
    assert new(after(QUESTION, SAID), replace(echoed(SAID), **change)) is None


def test_options_may_change():
    choice = ToolChoice(ToolUse.REQUIRED, parallel=False)
    options = Options(max_tokens=5, stop=("x",), effort=Effort.LOW, tool_choice=choice)
    assert new(after(QUESTION, SAID), replace(echoed(SAID), options=options)) == SO


def test_a_conversation_that_is_not_longer_does_not_go_on():
    assert new(after(echoed(SAID), "end"), QUESTION) is None
    assert new(after(QUESTION, SAID), QUESTION) is None
    assert new(after(echoed(SAID), "end"), echoed(SAID)) is None
    prompt = Prompt.of(echoed(SAID))
    held = Transcript(prompt.identity, prompt.digests[:2])
    assert held.known_of(prompt.identity, prompt.digests[:2]) is None


def test_the_results_of_a_turn_may_have_words_beside_them():
    result = {"type": "tool_result", "tool_use_id": "a"}
    text = {"type": "text", "text": "and?"}
    assert results_only(Turn("user", [result, result]))
    assert not results_only(Turn("user", [result, text]))


def test_the_calls_of_a_turn_are_named_in_order():
    names = Prompt.of(QUESTION).names
    finished = Finished(FinishReason.TOOL_CALLS, Usage())
    turn = answer_turn(Answer("m", SAID, "", (OTHER, CALL), finished), names)
    assert call_ids(turn) == ["call2", "call1"]


def test_a_picture_put_into_the_models_turn_is_an_edit():
    history = (*QUESTION.messages, assistant(SAID, Image("image/png", "QQ==")), user("so?"))
    assert new(after(QUESTION, SAID), asking(*history)) is None
