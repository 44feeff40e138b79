"""Completions: what a client may send, and what becomes of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.conversation import Conversation, Message, Options, Text
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.completions import request as wire


def body(prompt="Once", **more) -> bytes:
    return json.dumps({"prompt": prompt, **more}).encode()


def translated(prompt="Once", *, sampling: bool = False, **more) -> Conversation:
    return wire.to_conversation(wire.decode(body(prompt, **more)), "opus", sampling=sampling)


def refused(data: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        wire.to_conversation(wire.decode(data), "opus", sampling=True)
    assert caught.value.status == 400
    assert caught.value.message
    return caught.value


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.booleans())
def test_the_prompt_is_the_one_message_as_it_is(prompt, listed):
    asked = translated([prompt] if listed else prompt)
    assert asked == Conversation(
        "opus", "", (Message("user", (Text(prompt),)),), Options(thinks=False)
    )


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (b"[]", None),
        (b"{}", "prompt"),
        (body(None), "prompt"),
        (body([]), "prompt"),
        (body(7), "prompt"),
        (body(["a", None]), "prompt[1]"),
        (body([[1, "a"]]), "prompt[0][1]"),
        (body(model=4), "model"),
        (body(suffix=4), "suffix"),
        (body(stream="yes"), "stream"),
        (body(stream_options={"include_usage": 1}), "stream_options.include_usage"),
        (body(max_tokens=0), "max_tokens"),
        (body(max_tokens="16"), "max_tokens"),
        (body(stop=["a", "b", "c", "d", "e"]), "stop"),
        (body(stop="\n"), "stop"),
        (body(echo="yes"), "echo"),
        (body(temperature=2.1), "temperature"),
        (body(top_p=-0.1), "top_p"),
        (body(frequency_penalty=3), "frequency_penalty"),
        (body(presence_penalty=-3), "presence_penalty"),
        (body(n=0), "n"),
        (body(best_of=21), "best_of"),
        (body(logprobs=6), "logprobs"),
        (body(logprobs=True), "logprobs"),
    ],
)
def test_a_wrong_type_or_range_is_refused_at_its_place(data, param):
    assert refused(data).param == param


@pytest.mark.parametrize(
    ("param", "value"), [("n", 2), ("best_of", 2), ("logprobs", 0), ("suffix", "the end")]
)
def test_what_would_change_the_answer_and_is_not_there_is_refused(param, value):
    error = refused(body(**{param: value}))
    assert (error.param, error.code) == (param, "unsupported_parameter")
    assert param in error.message


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ([1, 2, 3], "tokens"),
        ([[1, 2], [3]], "tokens"),
        ([[]], "tokens"),
        (["a", 1], "tokens"),
        (["a", "b", "c"], "these 3"),
    ],
)
def test_a_prompt_that_is_no_one_text_is_refused_and_the_reason_said(prompt, reason):
    error = refused(body(prompt))
    assert (error.param, error.code) == ("prompt", "unsupported_value")
    assert reason in error.message


@pytest.mark.parametrize(
    "harmless",
    [
        {"n": 1, "best_of": 1, "logprobs": None, "suffix": None, "echo": False},
        {"best_of": 0, "suffix": "", "stream": False, "stop": None, "max_tokens": None},
        {"logit_bias": {}, "user": "me", "seed": 7, "x_other": [1]},
    ],
)
def test_what_is_as_usual_is_taken(harmless):
    assert translated(**harmless) == translated()


def test_options_arrive():
    asked = translated(max_tokens=9, stop=["a", "b"], temperature=0.5, top_p=0.9, sampling=True)
    assert asked.options == Options(
        max_tokens=9, stop=("a", "b"), thinks=False, temperature=0.5, top_p=0.9
    )
    assert translated(stop="a", temperature=0.5).options == Options(stop=("a",), thinks=False)


@pytest.mark.parametrize(
    ("echo", "prompt", "beginning"),
    [(True, "Once", "Once"), (True, ["Once"], "Once"), (False, "Once", ""), (None, "Once", "")],
)
def test_what_is_echoed(echo, prompt, beginning):
    assert wire.echoed(wire.decode(body(prompt, echo=echo))) == beginning


def test_what_has_no_effect_is_named():
    data = body(temperature=1, top_p=1, logit_bias={"50256": -100}, user="me", n=1, echo=True)
    assert wire.ignored(data, sampling=False) == ["temperature", "top_p", "logit_bias", "user"]
    assert wire.ignored(data, sampling=True) == ["logit_bias", "user"]
