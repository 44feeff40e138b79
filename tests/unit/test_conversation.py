"""fold: one whole answer of the events that a stream is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.conversation import (
    Answer,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
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
    assert answer == Answer("m", text, reasoning, DONE)


@given(deltas, st.data())
def test_events_that_end_early_are_no_answer(pieces, data):
    events = [Started("m"), *pieces]
    with pytest.raises(ValueError, match="before the answer is finished"):
        fold(events[: data.draw(st.integers(0, len(events)))])


@pytest.mark.parametrize("events", [[DONE], [TextDelta("x"), DONE]])
def test_an_answer_that_never_started_is_none(events):
    with pytest.raises(ValueError, match="before the answer is finished"):
        fold(events)


def test_what_comes_after_the_end_does_not_count():
    assert fold([Started("m"), DONE, TextDelta("late")]).text == ""


def test_the_prompt_counts_what_was_cached_too():
    assert Usage(input=1, cache_read=20, cache_write=300, output=4_000).prompt == 321
