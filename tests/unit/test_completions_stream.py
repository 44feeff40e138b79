"""Completions as they leave: the stream, the whole body, and that both say the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion

from claude_proxy.conversation import (
    ArgumentsDelta,
    Citation,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    ReasoningDone,
    Started,
    TextDelta,
    TextDone,
    ToolCallStarted,
    Usage,
    fold,
)
from claude_proxy.errors import Overloaded
from claude_proxy.openai.completions.completion import TextStream, to_completion
from tests import openai_types

DONE = Finished(FinishReason.STOP, Usage(3, 20, 100, 40, 8))

counts = st.integers(0, 10**9)
texts = st.text(min_size=1)
unseen = st.one_of(
    st.builds(ReasoningDelta, texts),
    st.builds(ReasoningDone, texts),
    st.builds(Citation, texts),
    st.just(TextDone()),
)
calls = st.builds(
    lambda id_, name: [ToolCallStarted(id_, name), ArgumentsDelta("{}")], texts, texts
)
pieces = st.one_of(
    texts.map(lambda text: [TextDelta(text)]), unseen.map(lambda event: [event]), calls
)
ends = st.builds(
    Finished,
    st.sampled_from(FinishReason),
    st.builds(Usage, counts, counts, counts, counts, counts),
    st.none() | texts,
)


@st.composite
def answers(draw) -> list[Event]:
    between = [event for made in draw(st.lists(pieces)) for event in made]
    return [Started(draw(texts)), *between, draw(ends)]


def streamed(
    events: Iterable[Event], *, include_usage: bool = True, echo: str = ""
) -> list[dict[str, Any]]:
    """Every chunk; each is one that OpenAI's types know, but that they let none end with null."""
    stream = TextStream(include_usage=include_usage, echo=echo)
    text = b"".join(stream.feed(event) for event in events).decode()
    *frames, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    for chunk in chunks:
        ended = [
            {**choice, "finish_reason": choice["finish_reason"] or "stop"}
            for choice in chunk["choices"]
        ]
        assert openai_types.problems({**chunk, "choices": ended}, Completion) == []
    return chunks


def whole(events: Iterable[Event], *, echo: str = "") -> dict[str, Any]:
    made = json.loads(to_completion(fold(events), echo=echo))
    assert openai_types.problems(made, Completion) == []
    return made


@given(answers(), st.text())
def test_the_stream_says_what_the_whole_answer_says(events, echo):
    *chunks, last = streamed(events, echo=echo)
    answer = whole(events, echo=echo)
    (choice,) = answer["choices"]
    text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text == choice["text"] == echo + said
    assert chunks[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]
    assert last["usage"] == answer["usage"]
    assert last["model"] == answer["model"] == events[0].model


@given(answers(), st.booleans())
def test_a_stream_has_openais_order(events, include_usage):
    chunks = streamed(events, include_usage=include_usage)
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    if include_usage:
        assert chunks.pop()["choices"] == []
        assert {chunk["usage"] for chunk in chunks} == {None}
    else:
        assert not any("usage" in chunk for chunk in chunks)
    ends = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert ends[:-1] == [None] * (len(ends) - 1)
    assert ends[-1] is not None


@given(answers())
def test_one_chunk_for_each_delta(events):
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    chunks = streamed(events, include_usage=False, echo="so:")
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["so:", *texts, ""]


def test_the_whole_answer():
    answer = whole([Started("m"), ReasoningDelta("hm"), TextDelta("Hel"), TextDelta("lo"), DONE])
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [
        {"text": "Hello", "index": 0, "logprobs": None, "finish_reason": "stop"}
    ]
    assert answer["usage"]["prompt_tokens"] == 123
    assert answer["usage"]["total_tokens"] == 163


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (FinishReason.STOP, "stop"),
        (FinishReason.LENGTH, "length"),
        (FinishReason.CONTEXT_FULL, "length"),
        (FinishReason.TOOL_CALLS, "stop"),
        (FinishReason.REFUSAL, "content_filter"),
    ],
)
def test_finish_reasons(reason, told):
    events = [Started("m"), TextDelta("x"), Finished(reason, Usage())]
    assert whole(events)["choices"][0]["finish_reason"] == told


def test_two_answers_have_two_ids():
    assert len({whole([Started("m"), DONE])["id"] for _ in range(9)}) == 9
    assert len({streamed([Started("m"), DONE])[0]["id"] for _ in range(9)}) == 9


def test_an_error_is_one_frame_with_openais_body():
    frame = TextStream(include_usage=True).fail(Overloaded("busy\nnow"), Usage())
    assert frame.startswith(b"data: ")
    assert frame.count(b"\n") == 2
    error = {"message": "busy\nnow", "type": "server_error", "param": None, "code": "overloaded"}
    assert json.loads(frame.removeprefix(b"data: ")) == {"error": error}
