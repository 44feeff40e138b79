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
    ArgumentsDelta,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Usage,
    fold,
)
from claude_proxy.errors import Overloaded
from claude_proxy.openai.chat.completion import ChunkStream, to_completion

EXTENSIONS = {"reasoning_content"}
DONE = Finished(FinishReason.STOP, Usage(3, 20, 100, 40, 8))

counts = st.integers(0, 10**9)
usages = st.builds(Usage, counts, counts, counts, counts, counts)
texts = st.text(min_size=1)
fragments = st.lists(texts.map(ArgumentsDelta), max_size=3)
call_events = st.builds(
    lambda id_, name, said: [ToolCallStarted(id_, name), *said], texts, texts, fragments
)
pieces = st.one_of(
    texts.map(lambda text: [TextDelta(text)]),
    texts.map(lambda text: [ReasoningDelta(text)]),
    call_events,
)
deltas = st.lists(pieces).map(lambda groups: [event for group in groups for event in group])
plain = st.builds(Finished, st.sampled_from(FinishReason), usages)
refused = st.builds(Finished, st.just(FinishReason.REFUSAL), usages, st.text(min_size=1))


@st.composite
def answers(draw) -> list[Event]:
    model = draw(st.text(min_size=1))
    return [Started(model), *draw(deltas), draw(plain | refused)]


def streamed(
    events: Iterable[Event], *, include_usage: bool = True, functions: bool = False
) -> list[str]:
    """The data of each frame."""
    stream = ChunkStream(include_usage=include_usage, functions=functions)
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


def chunks(
    events: Iterable[Event], *, include_usage: bool = True, functions: bool = False
) -> list[ChatCompletionChunk]:
    *frames, done = streamed(events, include_usage=include_usage, functions=functions)
    assert done == "[DONE]"
    parsed = [ChatCompletionChunk.model_validate_json(frame, strict=True) for frame in frames]
    for chunk in parsed:
        assert unknown_fields(chunk) <= EXTENSIONS
    return parsed


def completion(events: Iterable[Event], *, functions: bool = False) -> ChatCompletion:
    body = to_completion(fold(events), functions=functions)
    parsed = ChatCompletion.model_validate_json(body, strict=True)
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
    expected = []
    calls = 0
    for event in events[1:-1]:
        match event:
            case TextDelta(text=text):
                expected.append({"content": text})
            case ReasoningDelta(text=text):
                expected.append({"reasoning_content": text})
            case ToolCallStarted(id=id_, name=name):
                function = {"name": name, "arguments": ""}
                start = {"index": calls, "id": id_, "type": "function", "function": function}
                expected.append({"tool_calls": [start]})
                calls += 1
            case ArgumentsDelta(text=text):
                more = {"index": calls - 1, "function": {"arguments": text}}
                expected.append({"tool_calls": [more]})
    refusal = events[-1].refusal
    assert said[1:-1] == expected + ([{"refusal": refusal}] if refusal else [])


def joined(total, piece):
    """As OpenAI's SDKs join deltas: texts are appended, lists merged by index."""
    match total, piece:
        case None, _:
            return piece
        case _, None:
            return total
        case str(), str():
            return total + piece
        case dict(), dict():
            same = ("index", "type")
            return total | {
                name: value if name in same else joined(total.get(name), value)
                for name, value in piece.items()
            }
        case list(), list():
            merged = {item["index"]: item for item in total}
            for item in piece:
                merged[item["index"]] = joined(merged.get(item["index"]), item)
            return list(merged.values())
    raise AssertionError((total, piece))


def folded(parsed: list[ChatCompletionChunk]) -> dict:
    """What a client makes of a stream."""
    total = None
    finish_reason = None
    for chunk in parsed:
        for choice in chunk.choices:
            total = joined(total, choice.delta.model_dump(exclude_unset=True))
            finish_reason = choice.finish_reason
    usage = parsed[-1].usage
    assert usage is not None
    return {
        **said(total),
        "finish_reason": finish_reason,
        "usage": usage.model_dump(),
        "model": parsed[0].model,
    }


def said(message: dict) -> dict:
    calls = [
        {name: value for name, value in call.items() if name != "index"}
        for call in message.get("tool_calls") or ()
    ]
    texts = {name: message.get(name) or "" for name in ("content", "refusal", "reasoning_content")}
    return {**texts, "tool_calls": calls, "function_call": message.get("function_call")}


def summary(whole: ChatCompletion) -> dict:
    (choice,) = whole.choices
    assert whole.usage is not None
    return {
        **said(choice.message.model_dump()),
        "finish_reason": choice.finish_reason,
        "usage": whole.usage.model_dump(),
        "model": whole.model,
    }


@given(answers(), st.booleans())
def test_the_stream_says_what_the_whole_answer_says(events, functions):
    streamed_answer = folded(chunks(events, functions=functions))
    assert streamed_answer == summary(completion(events, functions=functions))


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
    frame = ChunkStream(include_usage=True).fail(Overloaded("busy\nnow"), Usage())
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


# Tool calls

CALLS = [
    *(ToolCallStarted("call_a", "f"), ArgumentsDelta('{"a"'), ArgumentsDelta(":1}")),
    *(ToolCallStarted("call_b", "f"), ArgumentsDelta("{}")),
]
CALLED = Finished(FinishReason.TOOL_CALLS, Usage(output=9))


def message_of(*events: Event, functions: bool = False) -> dict:
    (choice,) = json.loads(to_completion(fold(events), functions=functions))["choices"]
    return choice["message"]


def deltas_of(*events: Event, functions: bool = False) -> list[dict]:
    *frames, done = streamed(events, functions=functions, include_usage=False)
    assert done == "[DONE]"
    return [choice["delta"] for frame in frames for choice in json.loads(frame)["choices"]]


def test_calls_of_the_whole_answer():
    message = message_of(Started("m"), TextDelta("wait"), *CALLS, CALLED)
    assert message["content"] == "wait"
    assert message["tool_calls"] == [
        {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "call_b", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    ]
    assert "function_call" not in message


def test_a_streamed_call_has_its_id_type_and_name_once_and_its_index_always():
    _, *said, _ = deltas_of(Started("m"), *CALLS, CALLED)
    assert said == [
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "call_a",
                    "type": "function",
                    "function": {"name": "f", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": "call_b",
                    "type": "function",
                    "function": {"name": "f", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
    ]


@pytest.mark.parametrize("functions", [False, True])
def test_without_calls_there_are_no_keys_for_them(functions):
    events = [Started("m"), TextDelta("x"), DONE]
    for said in [message_of(*events, functions=functions), *deltas_of(*events)]:
        assert not {"tool_calls", "function_call"} & said.keys()


@pytest.mark.parametrize("functions", [False, True])
def test_content_is_null_when_there_are_only_calls(functions):
    message = message_of(Started("m"), *CALLS, CALLED, functions=functions)
    assert message["content"] is None
    assert message["refusal"] is None


def test_the_old_form_has_the_first_call_only_and_no_id():
    events = [Started("m"), *CALLS, CALLED]
    message = message_of(*events, functions=True)
    assert message["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert "tool_calls" not in message
    _, *said, _ = deltas_of(*events, functions=True)
    assert said == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": '{"a"'}},
        {"function_call": {"arguments": ":1}"}},
    ]


@pytest.mark.parametrize(
    ("end", "told"),
    [(CALLED, "function_call"), (DONE, "stop"), (Finished(FinishReason.LENGTH, Usage()), "length")],
)
def test_the_old_form_has_a_finish_reason_of_its_own(end, told):
    events = [Started("m"), *CALLS, end]
    assert completion(events, functions=True).choices[0].finish_reason == told
    assert folded(chunks(events, functions=True))["finish_reason"] == told
