"""The model's own reasoning on its way back: what the CLI takes, and of whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.claude.history import ToolIds, alternating, block, to_turns
from claude_proxy.claude.tools import ToolNames
from claude_proxy.conversation import Conversation, Message, Reasoning, Text, ToolCall, ToolResult
from claude_proxy.errors import InvalidRequest

NAMES = ToolNames(Conversation("m", "", ()))
THOUGHT = Reasoning("hm", "sig", "claude-x")
OTHER = Reasoning("well", "sig", "claude-y")
REDACTED = Reasoning("", "data", "claude-x", redacted=True)
THINKING = {"type": "thinking", "thinking": "hm", "signature": "sig"}
CALL = ToolCall("a", "f", "{}")


def user(*parts) -> Message:
    return Message("user", tuple(Text(part) if isinstance(part, str) else part for part in parts))


def assistant(*parts) -> Message:
    return Message("assistant", user(*parts).parts)


def turns_of(*messages: Message) -> list:
    return to_turns(Conversation("m", "", messages), NAMES)


def said(*messages: Message) -> list[tuple]:
    return [(role, *parts) for role, parts in alternating(messages)]


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        (THOUGHT, THINKING),
        (
            Reasoning("", "sig", "claude-x"),
            {"type": "thinking", "thinking": "", "signature": "sig"},
        ),
        (REDACTED, {"type": "redacted_thinking", "data": "data"}),
    ],
)
def test_reasoning_is_a_block_of_anthropics_api(reasoning, expected):
    assert block(reasoning, ToolIds(), NAMES) == expected


@pytest.mark.parametrize("spoken", [Text("Hi."), CALL])
def test_reasoning_stands_before_what_it_led_to(spoken):
    answer = user(ToolResult("a", ()), "so?") if spoken is CALL else user("so?")
    turns = turns_of(user("q"), assistant(THOUGHT, REDACTED, spoken), answer)
    assert [item["type"] for item in turns[1].content[:2]] == ["thinking", "redacted_thinking"]
    assert len(turns[1].content) == 3
    assert turns[1].model == "claude-x"
    assert turns[0].model is turns[2].model is None


def test_reasoning_between_what_was_said_stays_there():
    parts = (THOUGHT, Text("a"), REDACTED, CALL)
    assert said(user("q"), assistant(*parts), user("so?"))[1] == ("assistant", *parts)


@pytest.mark.parametrize("trailing", [[THOUGHT], [THOUGHT, REDACTED], [OTHER, THOUGHT, Text(" ")]])
def test_reasoning_that_led_to_nothing_is_dropped(trailing):
    assert said(user("q"), assistant(THOUGHT, "Hi.", *trailing), user("so?")) == [
        ("user", Text("q")),
        ("assistant", THOUGHT, Text("Hi.")),
        ("user", Text("so?")),
    ]


def test_only_what_is_last_of_the_whole_turn_led_to_nothing():
    messages = [user("q"), assistant(THOUGHT), assistant("Hi."), user("so?")]
    assert said(*messages)[1] == ("assistant", THOUGHT, Text("Hi."))


@pytest.mark.parametrize("nothing", [[THOUGHT], [THOUGHT, REDACTED], [THOUGHT, Text("\n")]])
def test_a_turn_of_nothing_else_vanishes_and_its_neighbours_meet(nothing):
    assert said(user("q"), assistant(*nothing), user("so?")) == [("user", Text("q"), Text("so?"))]
    assert len(turns_of(user("q"), assistant(*nothing), user("so?"))) == 1


def test_a_conversation_may_begin_with_reasoning_that_led_to_nothing():
    assert len(turns_of(assistant(THOUGHT), user("q"))) == 1


def test_a_conversation_cannot_end_with_reasoning_only():
    """It does not end with it: the user's message before it is what is to be answered."""
    (turn,) = turns_of(user("q"), assistant(THOUGHT))
    assert turn.role == "user"
    with pytest.raises(InvalidRequest):
        turns_of(assistant(THOUGHT))


@pytest.mark.parametrize("signature", ["", "  \n"])
def test_reasoning_without_a_signature_is_not_taken_back(signature):
    unsigned = Reasoning("hm", signature, "claude-x")
    assert said(user("q"), assistant(unsigned, "Hi."), user("so?"))[1] == ("assistant", Text("Hi."))


def test_the_reasoning_of_one_model_only_is_in_a_turn():
    turns = turns_of(user("q"), assistant(THOUGHT, OTHER, "Hi.", REDACTED, CALL), user("so?"))
    assert [item["type"] for item in turns[1].content] == [
        *("thinking", "text", "redacted_thinking", "tool_use")
    ]
    assert turns[1].model == "claude-x"


def test_each_turn_has_its_own_model():
    turns = turns_of(
        *(user("q"), assistant(THOUGHT, "a"), user("r"), assistant(OTHER, "b")),
        *(user("s"), assistant("c"), user("t")),
    )
    assert [turn.model for turn in turns] == [
        *(None, "claude-x", None, "claude-y", None, None, None)
    ]


models = st.sampled_from(["x", "y"])
thoughts = st.builds(Reasoning, st.text(max_size=2), st.sampled_from(["", "s"]), models)
parts = st.lists(thoughts | st.sampled_from(["", " ", "a"]).map(Text), max_size=4)
conversations = st.lists(parts.map(lambda made: assistant(*made)) | st.just(user("q")))


@given(conversations)
def test_no_turn_ends_with_reasoning_or_has_that_of_two_models(messages):
    for turn in turns_of(user("first"), *messages, user("last")):
        kinds = [item["type"] for item in turn.content]
        assert kinds[-1] == "text"
        assert (turn.model is None) == ("thinking" not in kinds)
    roles = [turn.role for turn in turns_of(user("first"), *messages, user("last"))]
    assert roles == ["user", *["assistant", "user"] * (len(roles) // 2)]
