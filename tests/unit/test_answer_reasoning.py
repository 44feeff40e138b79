"""A turn's reasoning: each block has an end, with the signature that lets it come back."""

from __future__ import annotations

import pytest

from claude_proxy.claude.answer import Answer
from claude_proxy.claude.stream_json import (
    ContentBlock,
    Delta,
    Line,
    Message,
    StreamEvent,
    StreamLine,
    Usage,
)
from claude_proxy.claude.tools import ToolNames
from claude_proxy.conversation import (
    Conversation,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    ReasoningDone,
    Started,
    TextDelta,
    TextDone,
)
from claude_proxy.errors import BadUpstream

NAMES = ToolNames(Conversation("m", "", ()))
START = StreamLine(StreamEvent("message_start", Message("claude-x", Usage())))
STOP = StreamLine(StreamEvent("content_block_stop"))


def begin(type_: str, **fields: str) -> StreamLine:
    return StreamLine(
        StreamEvent("content_block_start", content_block=ContentBlock(type_, **fields))
    )


def delta(type_: str, **fields: str) -> StreamLine:
    return StreamLine(StreamEvent("content_block_delta", delta=Delta(type_, **fields)))


def think(text: str) -> StreamLine:
    return delta("thinking_delta", thinking=text)


def sign(signature: str) -> StreamLine:
    return delta("signature_delta", signature=signature)


def end(reason: str = "end_turn") -> StreamLine:
    return StreamLine(StreamEvent("message_delta", delta=Delta(stop_reason=reason)))


SAY = [begin("text"), delta("text_delta", text="Hi."), STOP]


def told(*lines: Line) -> list[Event]:
    answer = Answer(NAMES)
    return [event for line in [START, *lines] for event in answer.feed(line)][1:]


@pytest.mark.parametrize(
    ("lines", "events"),
    [
        (
            [begin("thinking"), think("Let"), think(" me"), sign("sig"), STOP],
            [ReasoningDelta("Let"), ReasoningDelta(" me"), ReasoningDone("sig")],
        ),
        ([begin("thinking"), sign("s"), sign("ig"), STOP], [ReasoningDone("sig")]),
        ([begin("thinking"), think("hm"), STOP], [ReasoningDelta("hm"), ReasoningDone("")]),
        (
            [begin("redacted_thinking", data="abc"), STOP],
            [ReasoningDone("abc", redacted=True)],
        ),
        (
            [
                *(begin("thinking"), think("a"), sign("1"), STOP),
                *(begin("redacted_thinking", data="2"), STOP),
                *(begin("thinking"), sign("3"), STOP),
            ],
            [
                *(ReasoningDelta("a"), ReasoningDone("1")),
                *(ReasoningDone("2", redacted=True), ReasoningDone("3")),
            ],
        ),
    ],
)
def test_each_block_of_reasoning_ends_with_its_signature(lines, events):
    *said, last = told(*lines, *SAY, end())
    assert said == [*events, TextDelta("Hi."), TextDone()]
    assert isinstance(last, Finished)


def test_a_block_that_is_cut_off_ends_before_the_answer_does():
    said = told(begin("thinking"), think("hm"), end("max_tokens"))
    assert said[:2] == [ReasoningDelta("hm"), ReasoningDone("")]
    assert said[2].reason is FinishReason.LENGTH
    assert len(told(begin("thinking"), think("hm"), STOP, end("max_tokens"))) == 3


def test_a_block_of_text_ends_too():
    assert told(*SAY) == [TextDelta("Hi."), TextDone()]


def test_a_signature_outside_of_reasoning_is_nobodys():
    assert told(begin("text"), sign("sig"), *SAY[1:]) == [TextDelta("Hi."), TextDone()]
    said = told(begin("thinking"), sign("1"), STOP, sign("2"), STOP, *SAY)
    assert said == [ReasoningDone("1"), TextDelta("Hi."), TextDone()]


@pytest.mark.parametrize("kind", ["thinking", "redacted_thinking"])
def test_reasoning_before_the_beginning_is_no_answer(kind):
    with pytest.raises(BadUpstream):
        Answer(NAMES).feed(begin(kind, data="x"))


def test_an_answer_that_was_thought_about_only_has_said_nothing():
    """It can begin anew: nobody was told anything that the second try would say again."""
    answer = Answer(NAMES)
    lines = [START, begin("thinking"), sign("1"), STOP]
    said = [event for line in lines for event in answer.feed(line)]
    assert said == [Started("claude-x"), ReasoningDone("1")]
