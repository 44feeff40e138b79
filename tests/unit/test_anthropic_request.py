"""Anthropic's messages: what a client may send, and what becomes of it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings

from claude_proxy.anthropic import request as wire
from claude_proxy.claude.configuration import extra_body, flag_settings
from claude_proxy.claude.prompt import Prompt
from claude_proxy.conversation import (
    Conversation,
    Effort,
    Options,
    Tool,
    ToolChoice,
    ToolUse,
)
from claude_proxy.errors import InvalidRequest, anthropic_body
from tests.anthropic_requests import (
    MARK,
    PDF_SOURCE,
    PNG_SOURCE,
    SEARCH_RESULT,
    as_turns,
    conversations,
    text,
)

HELLO = [{"role": "user", "content": "hello"}]
OBJECT = {"type": "object"}
LOOK = {"name": "look", "input_schema": OBJECT}


def body(messages: Any = HELLO, **more: Any) -> bytes:
    return json.dumps({"model": "opus", "max_tokens": 9, "messages": messages} | more).encode()


def translated(messages: Any = HELLO, *, sampling: bool = False, **more: Any) -> Conversation:
    asked = wire.decode(body(messages, **more))
    return wire.to_conversation(asked, "opus", "claude-opus-1", sampling=sampling)


def refused(data: bytes, betas: str = "") -> str:
    """The message, as the client reads it."""
    with pytest.raises(InvalidRequest) as caught:  # noqa: PT012 - in any of the three
        asked = wire.decode(data, betas)
        conversation = wire.to_conversation(asked, "opus", "claude-opus-1", sampling=True)
        Prompt.of(conversation)
    assert caught.value.status == 400
    error = json.loads(anthropic_body(caught.value.named(wire.PARAMS), "req_1"))["error"]
    assert error["type"] == "invalid_request_error"
    return error["message"]


@settings(deadline=None)
@given(conversations())
def test_every_block_becomes_what_the_cli_is_told(steps):
    messages = [{"role": role, "content": content} for role, content, _ in steps]
    prompt = Prompt.of(translated(messages, tools=[LOOK]))
    assert [(turn.role, turn.content) for turn in prompt.turns] == as_turns(steps)
    assert {turn.model for turn in prompt.turns} <= {None, "claude-opus-1"}


@settings(deadline=None)
@given(conversations())
def test_a_mark_changes_nothing_but_where_the_cache_ends(steps):
    """Clients move them from turn to turn: the same conversation goes on."""
    messages = [{"role": role, "content": content} for role, content, _ in steps]
    bare = json.loads(json.dumps(messages), object_hook=without_mark)
    marked, plain = (Prompt.of(translated(each)) for each in (messages, bare))
    assert (marked.digests, marked.identity) == (plain.digests, plain.identity)
    assert not any(turn.marks for turn in plain.turns)
    last = [b for _, sent, _ in steps if isinstance(sent, list) for b in sent]
    assert any(turn.marks for turn in marked.turns) <= any(b.get("cache_control") for b in last)


def without_mark(value: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in value.items() if name != "cache_control"}


def test_marks_stand_behind_their_blocks():
    messages = [
        {"role": "user", "content": [text("a"), text("b", **MARK), text("c")]},
        {"role": "assistant", "content": [text("d", **MARK), text(" ", **MARK)]},
        {"role": "user", "content": [text(" ", **MARK), text("e")]},
    ]
    turns = Prompt.of(translated(messages)).turns
    assert [turn.marks for turn in turns] == [(1,), (0, 0), ()]


# What cannot be had, or is wrong.


def ask(**more: Any) -> bytes:
    return body(**more)


def answered(content: Any, *, id_: str = "toolu_1") -> bytes:
    """A call and, as the last message, ``content``."""
    use = {"type": "tool_use", "id": id_, "name": "look", "input": {}}
    return body(
        [*HELLO, {"role": "assistant", "content": [use]}, {"role": "user", "content": content}]
    )


def in_user(*blocks: Any) -> bytes:
    return body([{"role": "user", "content": [*blocks]}])


FORM = {"type": "json_schema", "schema": OBJECT}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "Expected `object`, got `array`"),
        (b"{", "The body is not valid JSON: Input data was truncated"),
        (b"{}", "model: Object missing required field `model`"),
        (b'{"model": "m"}', "messages: Object missing required field `messages`"),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}',
            "max_tokens: Object missing required field `max_tokens`",
        ),
        (body([]), "messages: Expected `array` of length >= 1"),
        (ask(max_tokens=0), "max_tokens: Expected `int` >= 1"),
        (ask(max_tokens="9"), "max_tokens: Expected `int`, got `str`"),
        (ask(temperature=1.5), "temperature: Expected `float` <= 1.0"),
        (ask(top_k=-1), "top_k: Expected `int` >= 0"),
        (ask(stream="yes"), "stream: Expected `bool | null`, got `str`"),
        (ask(metadata=[]), "metadata: Expected `object | null`, got `array`"),
        (ask(system=[{"type": "text"}]), "system.0.text: Object missing required field `text`"),
        (ask(system=[{"type": "image", "text": "x"}]), "system.0.type: Invalid enum value 'image'"),
        (
            ask(stop_sequences=["a", " \n"]),
            "stop_sequences.1: A stop sequence must hold more than white space",
        ),
        (body([{"role": "tool", "content": "x"}]), "messages.0.role: Invalid enum value 'tool'"),
        (
            body([{"role": "user", "content": 7}]),
            "messages.0.content: Expected `str | array`, got `int`",
        ),
        (
            body([*HELLO, {"role": "assistant", "content": "Well,"}]),
            (
                "messages.1.role: The last message must be a user's: Claude Code does not continue "
                "an assistant's message (prefill)"
            ),
        ),
        (
            body([{"role": "assistant", "content": "a"}, *HELLO]),
            (
                "messages: The first message after the system prompt must be a user's: Claude "
                "takes no conversation that begins with the assistant"
            ),
        ),
        (
            body([{"role": "user", "content": " "}]),
            "messages: There is nothing to answer: no user message, or a blank one at the end",
        ),
        (in_user({"text": "x"}), "messages.0.content.0.type: Object missing required field `type`"),
        (
            in_user(text("x", cache_control={"type": "persistent"})),
            "messages.0.content.0.cache_control.type: Invalid enum value 'persistent'",
        ),
        (
            in_user(text("x", cache_control={"type": "ephemeral", "ttl": "2h"})),
            "messages.0.content.0.cache_control.ttl: Invalid enum value '2h'",
        ),
        (
            in_user(text("x"), {"type": "server_tool_use", "id": "a"}),
            (
                "messages.0.content.1.type: A block of the type 'server_tool_use' cannot be had "
                "here, which takes text, image, document, search_result, tool_result"
            ),
        ),
        (
            body([*HELLO, {"role": "assistant", "content": [{"type": "image"}]}, *HELLO]),
            (
                "messages.1.content.0.type: A block of the type 'image' cannot be had here, which "
                "takes text, thinking, redacted_thinking, tool_use"
            ),
        ),
        (
            answered(
                [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [SEARCH_RESULT]}]
            ),
            (
                "messages.2.content.0.content.0.type: A block of the type 'search_result' cannot "
                "be had here, which takes text, image, document"
            ),
        ),
        (
            answered(
                [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "content": [{"type": "image", "source": PNG_SOURCE}],
                        "is_error": True,
                    }
                ]
            ),
            (
                "messages.2.content.0.content: All content must be of the type 'text' where "
                "is_error is true"
            ),
        ),
        (
            in_user(SEARCH_RESULT | {"content": [{"text": "x"}]}),
            "messages.0.content.0.content.0.type: Object missing required field `type`",
        ),
        (
            in_user({"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}}),
            "messages.0.content.0.source.url: Expected an http(s) URL",
        ),
        (
            in_user({"type": "image", "source": {**PNG_SOURCE, "data": "%%"}}),
            "messages.0.content.0.source.data: The base64 cannot be read",
        ),
        (
            in_user({"type": "image", "source": {**PNG_SOURCE, "media_type": "image/gif"}}),
            "messages.0.content.0.source.data: The image is no image/gif, or it is broken",
        ),
        (
            in_user({"type": "image", "source": {**PNG_SOURCE, "media_type": "image/tiff"}}),
            (
                "messages.0.content.0.source.data: An image must be one of image/jpeg, image/png, "
                "image/gif, image/webp"
            ),
        ),
        (
            in_user({"type": "document", "source": {**PDF_SOURCE, "media_type": "text/html"}}),
            "messages.0.content.0.source.media_type: A document must be a PDF",
        ),
        (
            in_user({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
            "messages.0.content.0.source: There is no Files API here: send the data itself",
        ),
        (
            answered("so?"),
            (
                "messages.1.content: No tool_result block answers the tool_use 'toolu_1' in the "
                "next message"
            ),
        ),
        (
            answered([{"type": "tool_result", "tool_use_id": "toolu_2"}]),
            (
                "messages.2.content: The tool_use_id 'toolu_2' is that of no tool_use block of the "
                "assistant's message before it, or has been answered already"
            ),
        ),
        (
            body(
                [
                    *HELLO,
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "a", "name": "f", "input": "x"}],
                    },
                    *HELLO,
                ]
            ),
            (
                "messages.1.content.0.input: The input of a tool is unusable: not a JSON object "
                "(Expected `object`, got `str`)"
            ),
        ),
        (ask(tools=[{"name": "f"}]), "tools.0.input_schema: Field required"),
        (
            ask(tools=[{"name": "f", "input_schema": {"type": "array"}}]),
            "tools.0.input_schema.type: The type of the schema must be 'object'",
        ),
        (ask(tools=[LOOK, LOOK]), "tools.1.name: Two tools have the name 'look'"),
        (
            ask(tools=[LOOK | {"name": "x" * 129}]),
            "tools.0.name: The name of a tool must have 1 to 128 characters",
        ),
        (
            ask(tools=[{"type": "web_search_20250305", "name": "web_search"}]),
            (
                "tools.0.type: A tool of the type 'web_search_20250305' cannot be had through "
                "Claude Code: only tools that the client runs (custom ones, bash, memory and "
                "text_editor)"
            ),
        ),
        (
            ask(tools=[LOOK, LOOK | {"name": "f", "defer_loading": True}]),
            "tools.1.defer_loading: It cannot be had through Claude Code",
        ),
        (
            ask(tools=[LOOK | {"allowed_callers": ["direct", "code_execution_20260120"]}]),
            "tools.0.allowed_callers: It cannot be had through Claude Code",
        ),
        (
            ask(tool_choice={"type": "any"}),
            "tool_choice: A call is required, but there are no tools",
        ),
        (
            ask(tools=[LOOK], tool_choice={"type": "tool", "name": "f"}),
            "tool_choice.name: There is no tool 'f' to choose",
        ),
        (
            ask(tools=[LOOK], tool_choice={"type": "any"}, thinking={"type": "adaptive"}),
            "thinking: Thinking may not be enabled when tool_choice forces tool use",
        ),
        (
            ask(thread={"type": "create"}),
            "thread: No conversations are held here: send all messages",
        ),
        (ask(thinking={"type": "enabled"}), "thinking.budget_tokens: Field required"),
        (
            ask(thinking={"type": "enabled", "budget_tokens": 5}),
            "thinking.budget_tokens: Expected `int` >= 1024",
        ),
        (ask(thinking={"type": "off"}), "thinking.type: Invalid enum value 'off'"),
        (ask(output_config={"effort": "huge"}), "output_config.effort: Invalid enum value 'huge'"),
        (
            ask(output_config={"format": FORM | {"schema": {"type": "array"}}}),
            "output_config.format.schema: The root of the schema must be an object",
        ),
        *(
            (ask(**{name: value}), f"{name}: It cannot be had through Claude Code")
            for name, value in {
                "mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}],
                "container": "c",
                "compaction": {},
                "speed": "fast",
                "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
            }.items()
        ),
    ],
)
def test_what_is_wrong_or_cannot_be_had_is_said_with_its_place(data, message):
    assert refused(data) == message


@pytest.mark.parametrize(
    "beta",
    [
        *("code-execution-2025-08-25", "computer-use-2025-11-24", "files-api-2025-04-14"),
        *("mcp-client-2025-11-20", "web-fetch-2025-09-10", "skills-2025-10-02"),
    ],
)
def test_betas_that_cannot_be_had(beta):
    said = f"anthropic-beta: '{beta}' cannot be had through Claude Code"
    assert refused(body(), beta) == refused(body(), f"context-1m-2025-08-07, {beta}") == said
    with pytest.raises(InvalidRequest, match=beta):
        wire.decode_count(body(), beta)


@pytest.mark.parametrize(
    "betas",
    [
        "",
        "claude-code-20250219,interleaved-thinking-2025-05-14,prompt-caching-2024-07-31",
        "fine-grained-tool-streaming-2025-05-14,context-1m-2025-08-07,pdfs-2024-09-25",
        "context-management-2025-06-27,advanced-tool-use-2025-11-20,unknown-2030-01-01",
    ],
)
def test_other_betas_are_fine(betas):
    assert wire.decode(body(), betas) == wire.decode(body())


@pytest.mark.parametrize(
    "harmless",
    [
        {"system": None, "tools": None, "tool_choice": None, "thinking": None, "stream": False},
        {"system": " ", "tools": [], "mcp_servers": [], "stop_sequences": []},
        {"thinking": None, "speed": "standard", "service_tier": "auto"},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        {"metadata": {"user_id": "me"}, "cache_control": {"type": "ephemeral"}, "x_other": [1]},
        {"temperature": 0.5, "top_p": 0.9, "top_k": 4, "output_config": {}},
    ],
)
def test_what_changes_nothing_is_taken(harmless):
    assert Prompt.of(translated(**harmless)).turns == Prompt.of(translated()).turns
    assert translated(**harmless).options == translated().options


def test_options_arrive():
    asked = translated(
        stop_sequences=["a", "b"],
        thinking={"type": "enabled", "budget_tokens": 2_000},
        tools=[LOOK],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        output_config={"effort": "high", "format": FORM},
        temperature=1,
        top_k=40,
        sampling=True,
    )
    assert asked.options == Options(
        max_tokens=9,
        stop=("a", "b"),
        effort=Effort.HIGH,
        temperature=1.0,
        tool_choice=ToolChoice(parallel=False),
        thinks=True,
        native='{"thinking":{"type": "enabled", "budget_tokens": 2000},"top_k":40}',
    )
    assert json.loads(asked.schema or "") == OBJECT
    sent = flag_settings(asked, Prompt.of(asked).names)
    extra = json.loads(sent["env"]["CLAUDE_CODE_EXTRA_BODY"])
    assert extra["thinking"] == {"type": "enabled", "budget_tokens": 2_000}
    assert extra["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert (extra["top_k"], extra["stop_sequences"]) == (40, ["a", "b"])
    assert sent["env"]["CLAUDE_CODE_DISABLE_THINKING"] == ""


@pytest.mark.parametrize("thinking", [{}, {"thinking": {"type": "disabled"}}])
def test_a_model_that_is_not_asked_to_does_not_think(thinking):
    asked = translated(**thinking)
    sent = flag_settings(asked, Prompt.of(asked).names)
    assert sent["env"]["CLAUDE_CODE_DISABLE_THINKING"] == "1"
    extra = json.loads(sent["env"]["CLAUDE_CODE_EXTRA_BODY"])
    assert extra.get("thinking") == thinking.get("thinking")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ({"type": "auto"}, ToolChoice()),
        ({"type": "any"}, ToolChoice(ToolUse.REQUIRED)),
        ({"type": "none"}, ToolChoice(ToolUse.NONE)),
        ({"type": "tool", "name": "look"}, ToolChoice(ToolUse.REQUIRED, "look")),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            ToolChoice(ToolUse.REQUIRED, parallel=False),
        ),
    ],
)
def test_the_choice_among_tools(choice, expected):
    asked = translated(tools=[LOOK], tool_choice=choice)
    assert asked.options.tool_choice == expected
    sent = extra_body(asked, Prompt.of(asked).names).get("tool_choice")
    assert sent == (None if choice == {"type": "auto"} else choice)


TOOLS = [
    LOOK | {"description": "d" * 9_000, "strict": True, "eager_input_streaming": True},
    {"type": "custom", "name": "f", "input_schema": {"type": "object", "z": 1, "a": [2]}},
    LOOK | {"name": "g", "input_examples": [{"a": 1}], "allowed_callers": ["direct"]},
    {"type": "bash_20250124", "name": "bash"},
    {"type": "text_editor_20250728", "name": "edit", "max_characters": 9},
    {"type": "memory_20250818", "name": "memory", "defer_loading": False},
]


def test_definitions_of_tools_arrive_as_they_are_but_for_their_marks():
    asked = translated(tools=[tool | MARK for tool in TOOLS])
    sent = flag_settings(asked, Prompt.of(asked).names)["env"]["CLAUDE_CODE_EXTRA_BODY"]
    assert json.loads(sent)["tools"] == TOOLS
    assert asked.tools[0] == Tool("look", '{"type": "object"}', "d" * 9_000, asked.tools[0].native)
    assert Prompt.of(asked).identity == Prompt.of(translated(tools=TOOLS)).identity


@pytest.mark.parametrize("name", ["a.b", "search the web", "\u00e9", "a/b:c", "x" * 128])
def test_names_of_tools_that_the_api_does_not_take_are_the_clients_on_both_sides(name):
    asked = translated(tools=[LOOK | {"name": name}], tool_choice={"type": "tool", "name": name})
    prompt = Prompt.of(asked)
    body = extra_body(asked, prompt.names)
    (tool,) = body["tools"]
    assert tool["name"] == body["tool_choice"]["name"] == prompt.names.to_api(name)
    assert (tool["name"] == name) is (len(name) == 128)
    assert prompt.names.to_client(tool["name"]) == name


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (None, ""),
        ("", ""),
        (" a\n", " a\n"),
        ([text("a"), text(" "), text("b\n", **MARK)], "a\n\nb\n"),
        ([text("x-anthropic-billing-header: cc_version=1;"), text("a")], "a"),
    ],
)
def test_the_system_prompt(system, expected):
    assert translated(system=system).system == expected


@pytest.mark.parametrize("form", [{"output_config": {"format": FORM}}, {"output_format": FORM}])
def test_a_schema_of_the_answer_has_two_places(form):
    assert translated(**form).schema == json.dumps(OBJECT)


def test_what_has_no_effect_is_named():
    more = {"temperature": 1, "top_k": 4, "metadata": {"user_id": "me"}, "fallbacks": "default"}
    data = body(system="x", tools=[LOOK], **more)
    unread = ["metadata", "fallbacks"]
    assert wire.ignored(data, sampling=False) == ["temperature", "top_k", *unread]
    assert wire.ignored(data, sampling=True) == unread


LONG = {"type": "ephemeral", "ttl": "1h"}


@pytest.mark.parametrize(
    ("data", "is_told"),
    [
        (body(system=[text("x", cache_control=LONG)]), True),
        (in_user(text("x", cache_control=dict(reversed(LONG.items())))), True),
        (in_user(text("x", **MARK), text('"cache_control": {"ttl": "1h"}')), False),
        (body(tools=[LOOK | {"input_schema": {"type": "object", "ttl": "1h"}}]), False),
    ],
)
def test_a_longer_life_in_the_cache_cannot_be_had_and_that_is_said(data, is_told):
    assert wire.ignored(data, sampling=False) == ["cache_control.ttl"] * is_told


def test_a_request_of_tokens_needs_no_more_than_what_is_counted():
    data = json.dumps({"model": "m", "messages": HELLO, "tools": [LOOK]}).encode()
    asked = wire.to_conversation(wire.decode_count(data), "m", "m", sampling=False)
    assert asked.messages == translated().messages
    assert asked.options.max_tokens is None


def test_a_great_many_blocks_take_no_longer_than_they_must():
    """Nobody else is served meanwhile."""
    blocks = [text(f"{n}", **(MARK if n % 100 == 0 else {})) for n in range(38_000)]
    data = body([{"role": "user", "content": blocks}])
    before = time.process_time()
    turns = Prompt.of(wire.to_conversation(wire.decode(data), "m", "m", sampling=False)).turns
    assert time.process_time() - before < 3
    assert len(turns[0].content) == 38_000
