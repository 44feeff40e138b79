"""Chat Completions as they leave: chunks, the whole body, and that both say the same."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from claude_proxy.conversation import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    Usage,
    fold,
)
from claude_proxy.errors import Overloaded
from claude_proxy.openai.completion import ChunkStream, to_completion

EXTENSIONS = {"reasoning_content"}
DONE = Finished(FinishReason.STOP, Usage(3, 20, 100, 40, 8))

counts = st.integers(0, 10**9)
usages = st.builds(Usage, counts, counts, counts, counts, counts)
deltas = st.lists(st.text(min_size=1).map(TextDelta) | st.text(min_size=1).map(ReasoningDelta))
plain = st.builds(Finished, st.sampled_from(FinishReason), usages)
refused = st.builds(Finished, st.just(FinishReason.REFUSAL), usages, st.text(min_size=1))


@st.composite
def answers(draw) -> list[Event]:
    model = draw(st.text(min_size=1))
    return [Started(model), *draw(deltas), draw(plain | refused)]


def streamed(events: Iterable[Event], *, include_usage: bool = True) -> list[str]:
    """The data of each frame."""
    stream = ChunkStream(include_usage=include_usage)
    text = b"".join(stream.feed(event) for event in events).decode()
    assert text.endswith("\n\n")
    frames = text[:-2].split("\n\n")
    for frame in frames:
        assert frame.startswith("data: ")
        assert not set(frame) & {"\n", "\r"}
    return [frame.removeprefix("data: ") for frame in frames]


def unknown_fields(model: pydantic.BaseModel) -> set[str]:
    """What OpenAI's own types do not know, at any depth."""
    found = set(model.model_extra or {})
    for value in dict(model).values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, pydantic.BaseModel):
                found |= unknown_fields(item)
    return found


def chunks(events: Iterable[Event], *, include_usage: bool = True) -> list[ChatCompletionChunk]:
    *frames, done = streamed(events, include_usage=include_usage)
    assert done == "[DONE]"
    parsed = [ChatCompletionChunk.model_validate_json(frame, strict=True) for frame in frames]
    for chunk in parsed:
        assert unknown_fields(chunk) <= EXTENSIONS
    return parsed


def completion(events: Iterable[Event]) -> ChatCompletion:
    parsed = ChatCompletion.model_validate_json(to_completion(fold(events)), strict=True)
    assert unknown_fields(parsed) <= EXTENSIONS
    return parsed


@given(answers(), st.booleans())
def test_a_stream_has_openais_order(events, include_usage):
    parsed = chunks(events, include_usage=include_usage)
    assert {(chunk.id, chunk.created, chunk.model) for chunk in parsed} == {
        (parsed[0].id, parsed[0].created, events[0].model)
    }
    if include_usage:
        *parsed, last = parsed
        assert last.choices == []
        assert last.usage is not None
    assert all(chunk.usage is None for chunk in parsed)
    choices = [choice for chunk in parsed for choice in chunk.choices]
    assert len(choices) == len(parsed)
    assert [choice.delta.role for choice in choices] == ["assistant"] + [None] * (len(choices) - 1)
    assert [choice.finish_reason is None for choice in choices[:-1]] == [True] * (len(choices) - 1)
    assert choices[-1].finish_reason is not None
    assert choices[-1].delta.model_dump(exclude_unset=True) == {}


@given(answers())
def test_a_delta_holds_what_it_says_and_nothing_else(events):
    said = [
        choice.delta.model_dump(exclude_unset=True)
        for chunk in chunks(events)
        for choice in chunk.choices
    ]
    assert said[0] == {"role": "assistant", "content": "", "refusal": None}
    expected = [
        {"content": event.text}
        if isinstance(event, TextDelta)
        else {"reasoning_content": event.text}
        for event in events[1:-1]
    ]
    refusal = events[-1].refusal
    assert said[1:-1] == expected + ([{"refusal": refusal}] if refusal else [])


def folded(parsed: list[ChatCompletionChunk]) -> dict:
    """What a client makes of a stream."""
    total = {"content": "", "refusal": "", "reasoning_content": "", "finish_reason": None}
    for chunk in parsed:
        for choice in chunk.choices:
            for name, piece in choice.delta.model_dump(exclude_unset=True).items():
                if name != "role" and piece is not None:
                    total[name] += piece
            total["finish_reason"] = choice.finish_reason
    usage = parsed[-1].usage
    assert usage is not None
    return {**total, "usage": usage.model_dump(), "model": parsed[0].model}


def summary(whole: ChatCompletion) -> dict:
    (choice,) = whole.choices
    message = choice.message.model_dump()
    assert whole.usage is not None
    return {
        **{name: message.get(name) or "" for name in ("content", "refusal", "reasoning_content")},
        "finish_reason": choice.finish_reason,
        "usage": whole.usage.model_dump(),
        "model": whole.model,
    }


@given(answers())
def test_the_stream_says_what_the_whole_answer_says(events):
    assert folded(chunks(events)) == summary(completion(events))


@given(answers(), st.builds(Finished, st.sampled_from(FinishReason), usages, st.text()))
@example([Started("m"), DONE], Finished(FinishReason.STOP, Usage(), "a refusal that is none"))
def test_the_stream_says_what_the_whole_answer_says_also_of_an_odd_refusal(events, end):
    odd = [*events[:-1], end]
    assert folded(chunks(odd)) == summary(completion(odd))


@given(answers())
def test_required_keys_are_there_even_when_null(events):
    *frames, _ = streamed(events, include_usage=True)
    for choice in [choice for frame in frames for choice in json.loads(frame)["choices"]]:
        assert {"index", "delta", "logprobs", "finish_reason"} <= choice.keys()
    (choice,) = json.loads(to_completion(fold(events)))["choices"]
    assert {"index", "message", "logprobs", "finish_reason"} <= choice.keys()
    assert {"role", "content", "refusal"} <= choice["message"].keys()


@pytest.mark.parametrize(("include_usage", "keys"), [(True, {None}), (False, {"absent"})])
def test_usage_is_null_in_every_other_chunk_or_absent(include_usage, keys):
    *frames, last, _ = streamed([Started("m"), TextDelta("x"), DONE], include_usage=include_usage)
    if not include_usage:
        frames.append(last)
    assert {json.loads(frame).get("usage", "absent") for frame in frames} == keys


def test_usage_counts_as_openai_does():
    usage = completion([Started("m"), DONE]).usage
    assert usage is not None
    assert usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 123,
        "completion_tokens": 40,
        "total_tokens": 163,
        "prompt_tokens_details": {
            "cached_tokens": 20,
            "cache_write_tokens": 100,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 8,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (FinishReason.STOP, "stop"),
        (FinishReason.LENGTH, "length"),
        (FinishReason.TOOL_CALLS, "tool_calls"),
        (FinishReason.REFUSAL, "content_filter"),
    ],
)
def test_finish_reasons(reason, told):
    events = [Started("m"), TextDelta("x"), Finished(reason, Usage())]
    assert completion(events).choices[0].finish_reason == told
    assert folded(chunks(events))["finish_reason"] == told


def test_the_whole_answer():
    events = [Started("m"), ReasoningDelta("hm"), TextDelta("Hel"), TextDelta("lo"), DONE]
    whole = json.loads(to_completion(fold(events)))
    assert whole["object"] == "chat.completion"
    assert whole["id"].startswith("chatcmpl-")
    assert isinstance(whole["created"], int)
    assert whole["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Hello",
        "reasoning_content": "hm",
        "refusal": None,
        "annotations": [],
    }


@pytest.mark.parametrize(
    ("text", "content"), [("", None), ("So far", "So far")], ids=["nothing", "something"]
)
def test_a_refusal_stands_beside_what_was_said_before_it(text, content):
    end = Finished(FinishReason.REFUSAL, Usage(), "I may not.")
    message = completion([Started("m"), TextDelta(text), end]).choices[0].message
    assert (message.content, message.refusal) == (content, "I may not.")


def test_an_empty_answer_has_content_and_no_reasoning():
    (choice,) = json.loads(to_completion(fold([Started("m"), DONE])))["choices"]
    assert choice["message"]["content"] == ""
    assert "reasoning_content" not in choice["message"]


def test_two_answers_have_two_ids():
    assert len({completion([Started("m"), DONE]).id for _ in range(9)}) == 9
    assert len({chunks([Started("m"), DONE])[0].id for _ in range(9)}) == 9


def test_an_error_is_one_frame_with_openais_body():
    frame = ChunkStream(include_usage=True).fail(Overloaded("busy\nnow"))
    assert frame.startswith(b"data: ")
    assert frame.endswith(b"}\n\n")
    assert frame.count(b"\n") == 2
    assert json.loads(frame.removeprefix(b"data: ")) == {
        "error": {
            "message": "busy\nnow",
            "type": "server_error",
            "param": None,
            "code": "overloaded",
        }
    }
