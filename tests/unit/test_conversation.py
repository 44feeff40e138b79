"""fold: one whole answer of the events that a stream is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.conversation import (
    Answer,
    ArgumentsDelta,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCall,
    ToolCallStarted,
    Usage,
    fold,
)

DONE = Finished(FinishReason.STOP, Usage(output=1))
deltas = st.lists(st.text().map(TextDelta) | st.text().map(ReasoningDelta))


@given(deltas)
def test_the_answer_is_the_joined_pieces_in_order(pieces):
    answer = fold([Started("m"), *pieces, DONE])
    text = "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))
    reasoning = "".join(piece.text for piece in pieces if isinstance(piece, ReasoningDelta))
    assert answer == Answer("m", text, reasoning, (), DONE)


@given(deltas, st.data())
def test_events_that_end_early_are_no_answer(pieces, data):
    events = [Started("m"), *pieces]
    with pytest.raises(ValueError, match="before the answer is finished"):
        fold(events[: data.draw(st.integers(0, len(events)))])


@pytest.mark.parametrize("events", [[DONE], [TextDelta("x"), DONE], [ToolCallStarted("a", "f")]])
def test_an_answer_that_never_started_is_none(events):
    with pytest.raises(ValueError, match="before the answer is finished"):
        fold(events)


def test_what_comes_after_the_end_does_not_count():
    assert fold([Started("m"), DONE, TextDelta("late")]).text == ""


def test_the_prompt_counts_what_was_cached_too():
    assert Usage(input=1, cache_read=20, cache_write=300, output=4_000).prompt == 321


calls = st.lists(st.tuples(st.text(), st.text(), st.lists(st.text(), max_size=3)), max_size=4)


@given(deltas, calls)
def test_a_call_has_the_fragments_that_follow_it(pieces, made):
    events = [Started("m"), *pieces]
    for id_, name, fragments in made:
        events += [ToolCallStarted(id_, name), *map(ArgumentsDelta, fragments)]
    answer = fold([*events, DONE])
    assert answer.calls == tuple(
        ToolCall(id_, name, "".join(fragments)) for id_, name, fragments in made
    )


def test_what_is_said_between_two_calls_belongs_to_the_text():
    events = [
        *(Started("m"), TextDelta("a"), ToolCallStarted("1", "f"), ArgumentsDelta("{}")),
        *(TextDelta("b"), ToolCallStarted("2", "f"), ArgumentsDelta("{ }"), DONE),
    ]
    answer = fold(events)
    assert answer.text == "ab"
    assert answer.calls == (ToolCall("1", "f", "{}"), ToolCall("2", "f", "{ }"))


def test_arguments_of_no_call_are_no_answer():
    with pytest.raises(ValueError, match="before the answer is finished"):
        fold([Started("m"), ArgumentsDelta("{}"), DONE])


def test_usage_adds_up():
    assert Usage(1, 2, 3, 4, 5) + Usage(10, 20, 30, 40, 50) == Usage(11, 22, 33, 44, 55)
