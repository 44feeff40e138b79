"""The request checks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.simulator.cache import PromptCache, count_tokens
from claude_proxy.simulator.directives import Directives
from claude_proxy.simulator.errors import ApiError
from claude_proxy.simulator.script import plan
from claude_proxy.simulator.validate import check

Json = dict[str, Any]
MARK = {"type": "ephemeral"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def assistant(content: Any) -> Json:
    return {"role": "assistant", "content": content}


def call(identifier: str) -> Json:
    return {"type": "tool_use", "id": identifier, "name": "f", "input": {}}


def result(identifier: str, content: Any = "r") -> Json:
    return {"type": "tool_result", "tool_use_id": identifier, "content": content}


def image(data: str) -> Json:
    source = {"type": "base64", "media_type": "image/png", "data": data}
    return {"type": "image", "source": source}


NOTE = {"role": "system", "content": [{"type": "text", "text": "# Environment"}]}
FULL = {
    "model": "claude-opus-5-5",
    "max_tokens": 2000,
    "stream": True,
    "temperature": 1,
    "top_p": 0.5,
    "stop_sequences": ["END"],
    "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
    "tool_choice": {"type": "auto"},
    "output_config": {
        "effort": "low",
        "format": {"type": "json_schema", "schema": {"type": "object", "properties": {}}},
    },
    "system": [{"type": "text", "text": "s", "cache_control": MARK}],
    "tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}],
    "messages": [
        user("hello"),
        NOTE,
        assistant([{"type": "thinking", "thinking": "", "signature": "x"}, call("a"), call("b")]),
        user([result("b", [{"type": "text", "text": "r"}, image("AAAA")])]),
        user([result("a"), {"type": "text", "text": "go", "cache_control": MARK}]),
        NOTE,
    ],
}


def simple(*messages: Json, **more: Any) -> Json:
    turns = list(messages) or [user("hello")]
    return {"model": "claude-x", "max_tokens": 5, "messages": turns, **more}


def without(key: str) -> Json:
    return {name: value for name, value in simple().items() if name != key}


def test_a_full_request_passes() -> None:
    assert check(copy.deepcopy(FULL)) == FULL
    assert check(without("max_tokens"), counting=True)


REFUSED = [
    ("valid dictionary", []),
    ("model: Field required", without("model")),
    ("model:", simple(model=3)),
    ("max_tokens: Field required", without("max_tokens")),
    ("max_tokens:", simple(max_tokens=0)),
    ("max_tokens:", simple(max_tokens=True)),
    ("max_tokens:", simple(max_tokens="5")),
    ("messages: Field required", without("messages")),
    ("at least one message", simple(messages=[])),
    ("messages:", simple(messages={})),
    ("messages.0:", simple(assistant("x"), user("x"))),
    ("messages.0:", simple(NOTE, user("x"))),
    ("messages.0.role", simple({"role": "tool", "content": "x"})),
    ("messages.0.content: Field required", simple({"role": "user"})),
    ("prefill", simple(user("x"), assistant("y"))),
    ("prefill", simple(user("x"), assistant("y"), NOTE)),
    ("messages.0: user messages must have non-empty content", simple(user(""))),
    ("non-empty content", simple(user([]))),
    ("messages.0.content.0.text: .*non-empty", simple(user([{"type": "text", "text": ""}]))),
    ("non-whitespace", simple(user([{"type": "text", "text": " \n"}]))),
    ("messages.0.content.0.text", simple(user([{"type": "text"}]))),
    ("messages.0.content.1.type", simple(user([{"type": "text", "text": "x"}, {"type": []}]))),
    ("only be in `assistant`", simple(user([call("a")]))),
    ("pattern", simple(user("x"), assistant([call("a.b")]), user([result("a.b")]))),
    (
        "messages.1: .*without `tool_result`.*: a",
        simple(user("x"), assistant([call("a")]), user("y")),
    ),
    (
        "messages.1: .*: b",
        simple(user("x"), assistant([call("a"), call("b")]), user([result("a")])),
    ),
    ("messages.0: unexpected", simple(user([result("a")]))),
    (
        "messages.4: unexpected",
        simple(
            user("x"),
            assistant([call("a")]),
            user([result("a")]),
            assistant("y"),
            user([result("a")]),
        ),
    ),
    (
        'messages.2.content.0.tool_result: all content must be type "text"',
        simple(
            user("x"),
            assistant([call("a")]),
            user([{**result("a", [image("QQ==")]), "is_error": True}]),
        ),
    ),
    (
        "multiple `tool_result`",
        simple(user("x"), assistant([call("a")]), user([result("a"), result("a")])),
    ),
    ("must be unique", simple(user("x"), assistant([call("a"), call("a")]), user([result("a")]))),
    ("unique", simple(tools=[TOOL, TOOL])),
    ("tools.0.custom.name", simple(tools=[{**TOOL, "name": "a b"}])),
    ("tools.0.custom.name", simple(tools=[{**TOOL, "name": "a" * 129}])),
    ("tools.0.custom.input_schema: Field", simple(tools=[{"name": "f"}])),
    ("input_schema.type", simple(tools=[{"name": "f", "input_schema": {}}])),
    ("while providing tools", simple(tool_choice={"type": "any"})),
    ("'g' not found", simple(tools=[TOOL], tool_choice={"type": "tool", "name": "g"})),
    ("tool_choice:", simple(tool_choice="auto")),
    (
        "Thinking may not be enabled",
        simple(tools=[TOOL], tool_choice={"type": "any"}, thinking={"type": "adaptive"}),
    ),
    ("budget_tokens", simple(thinking={"type": "enabled", "budget_tokens": 100})),
    ("greater than", simple(thinking={"type": "enabled", "budget_tokens": 1024})),
    ("thinking:", simple(thinking="on")),
    ("temperature", simple(temperature=1.1)),
    ("temperature", simple(temperature=0.5, thinking={"type": "adaptive"})),
    ("stop_sequences.0", simple(stop_sequences=[" "])),
    ("output_config.format.schema", simple(output_config={"format": {"type": "json_schema"}})),
    (
        "maximum of 4 .* Found 5",
        simple(user([{"type": "text", "text": "x", "cache_control": MARK}] * 5)),
    ),
    ("ttl", simple(cache_control={"type": "ephemeral", "ttl": "2h"})),
    ("base64", simple(user([image("A")]))),
    ("base64", simple(user([image("A===?")]))),
    ("valid URL", simple(user([{"type": "image", "source": {"type": "url", "url": "x"}}]))),
    ("messages.0.content.0.image.source", simple(user([{"type": "image"}]))),
    ("system.0.text", simple(system=[{"type": "text", "text": ""}])),
]


@pytest.mark.parametrize(("words", "body"), REFUSED, ids=range(len(REFUSED)))
def test_refused(words: str, body: Any) -> None:
    with pytest.raises(ApiError, match=words) as caught:
        check(body)
    assert caught.value.status == 400


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(ApiError, match="model: gpt-5") as caught:
        check(simple(model="gpt-5"))
    assert caught.value.status == 404


def paths(value: Any) -> list[tuple[Any, ...]]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    return [()] + [(key, *rest) for key, inner in items for rest in paths(inner)]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=500)
@given(st.sampled_from(paths(FULL)[1:]), anything)
def test_whatever_stands_anywhere_is_answered_or_refused(path: tuple[Any, ...], value: Any) -> None:
    body = copy.deepcopy(FULL)
    place: Any = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    try:
        check(body)
        plan(body, Directives())
    except ApiError as error:
        assert error.status in (400, 404)  # noqa: PT017 - not every value fails
    else:
        PromptCache(lambda: 0.0).account(body)
        count_tokens(body)
