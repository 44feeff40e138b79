"""The CLI's lines: what is decoded, what is skipped, what is refused, and what we write."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.claude import stream_json as wire
from claude_proxy.claude.stream_json import LineError, decode


def encoded(**line) -> bytes:
    return json.dumps(line).encode()


TEXT = wire.Delta(type="text_delta", text="hi")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            {
                "type": "stream_event",
                "event": {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": "hi"},
                },
                "parent_tool_use_id": None,
                "uuid": "x",
            },
            wire.StreamLine(wire.StreamEvent("content_block_delta", delta=TEXT)),
        ),
        (
            {
                "type": "stream_event",
                "parent_tool_use_id": "toolu_1",
                "event": {
                    "type": "message_start",
                    "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 3}},
                },
            },
            wire.StreamLine(
                wire.StreamEvent("message_start", wire.Message("m", wire.Usage(3), "msg_1")),
                "toolu_1",
            ),
        ),
        (
            {"type": "assistant", "message": {"content": []}, "error": "rate_limit"},
            wire.AssistantLine("rate_limit"),
        ),
        ({"type": "assistant", "message": {}}, wire.AssistantLine()),
        (
            {
                "type": "system",
                "subtype": "api_retry",
                "attempt": 1,
                "max_retries": 2,
                "retry_delay_ms": 512.5,
                "error_status": None,
                "error": "overloaded",
            },
            wire.SystemLine("api_retry", None, 1, 512.5, None, "overloaded"),
        ),
        (
            {"type": "system", "subtype": "init", "tools": ["Read", "StructuredOutput"]},
            wire.SystemLine("init", ["Read", "StructuredOutput"]),
        ),
        (
            {
                "type": "user",
                "message": {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "a", "content": [{}]}],
                },
            },
            wire.UserLine(wire.UserMessage([wire.ToolResultBlock("a")])),
        ),
        (
            {"type": "user", "message": {"role": "user", "content": "a note"}},
            wire.UserLine(wire.UserMessage("a note")),
        ),
        (
            {
                "type": "stream_event",
                "event": {
                    "type": "content_block_start",
                    "content_block": {"type": "tool_use", "id": "a", "name": "f", "input": {}},
                },
            },
            wire.StreamLine(
                wire.StreamEvent(
                    "content_block_start",
                    content_block=wire.ContentBlock("tool_use", "a", "f", {}),
                )
            ),
        ),
        (
            {
                "type": "rate_limit_event",
                "rate_limit_info": {
                    "status": "rejected",
                    "resetsAt": 1_795_000_000,
                    "rateLimitType": "five_hour",
                },
            },
            wire.RateLimitLine(wire.RateLimitInfo("rejected", 1_795_000_000.0, "five_hour")),
        ),
        (
            {"type": "result", "subtype": "success", "is_error": True, "api_error_status": 529},
            wire.ResultLine("success", is_error=True, api_error_status=529),
        ),
        (
            {"type": "control_response", "response": {"subtype": "success", "request_id": "1"}},
            wire.ControlResponseLine(wire.ControlReply("success", "1")),
        ),
        (
            {"type": "control_request", "request_id": "9", "request": {"subtype": "can_use_tool"}},
            wire.ControlRequestLine("9", {"subtype": "can_use_tool"}),
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_known_lines_are_structs(line, expected):
    assert decode(encoded(**line)) == expected


@pytest.mark.parametrize("type_", ["tool_progress", "keep_alive", "", "STREAM_EVENT"])
def test_lines_of_an_unknown_type_are_none(type_):
    assert decode(encoded(type=type_, message={"content": [1, "x"]})) is None


@pytest.mark.parametrize(
    "line",
    [
        encoded(
            type="stream_event",
            event={"type": "content_block_delta", "delta": {"type": "new", "text": {"a": 1}}},
        ),
        encoded(type="stream_event", event={"type": "new_event", "delta": "text"}),
        encoded(type="system", subtype="new_subtype", attempt="first", error={"code": 1}),
    ],
    ids=["delta", "event", "system"],
)
def test_unknown_inner_kinds_are_no_error_whatever_they_hold(line):
    """design.md: unknown line types and unknown inner deltas are ignored, never an exception."""
    decode(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"SECRET",
        b"[]",
        b"{}",
        b'"SECRET"',
        b'{"type":1}',
        b'{"type":"result"',
        b'{"type":"result","result":"SECRET',
        b'{"type":"result","is_error":"SECRET"}',
        b'{"type":"stream_event"}',
        b'{"type":"stream_event","event":{"type":"x","delta":{"text":"SECRET","type":7}}}',
        b'{"type":"assistant","error":"SECRET\xff"}',
        b'{"type":"SECRET\xff"}',
        b'{"type":"assistant","error":"SECRET\\ud800"',
        b"\xff\xfe\x00",
    ],
)
def test_broken_lines_are_refused_without_their_text(line):
    with pytest.raises(LineError) as caught:
        decode(line)
    assert f"{len(line)} bytes" in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("type_", ["user", "control_request"])
def test_a_line_nested_too_deeply_is_a_line_error(type_):
    deep = b"[" * 100_000 + b"]" * 100_000
    line = b'{"type":"%s","request_id":"1","request":{"a":%s}}' % (type_.encode(), deep)
    with pytest.raises(LineError):
        decode(line)


jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
types = st.sampled_from(["stream_event", "assistant", "system", "result", "rate_limit_event", "x"])


@given(
    st.binary()
    | jsons.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda type_, more: encoded(**{**more, "type": type_}),
        types,
        st.dictionaries(st.sampled_from(["event", "error", "usage", "result", "subtype"]), jsons),
    )
)
def test_any_bytes_are_a_line_none_or_a_line_error(line):
    try:
        outcome = decode(line)
    except LineError as error:
        outcome = error
    assert outcome is None or type(outcome).__module__ == wire.__name__


def one_line(data: bytes) -> dict:
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    return json.loads(data)


@given(st.text())
def test_user_lines_carry_any_text_on_one_line(text):
    content = [{"type": "text", "text": text}]
    line = one_line(wire.user(content, query=True))
    assert line["message"] == {"role": "user", "content": content}
    assert line["client_composed"] is True
    assert "shouldQuery" not in line


def test_user_lines_of_the_history_ask_for_no_turn():
    assert one_line(wire.user([], query=False))["shouldQuery"] is False


def test_assistant_lines_are_what_the_cli_takes_for_history():
    content = [{"type": "text", "text": "a\nb"}]
    assert one_line(wire.assistant(content, None)) == {
        "type": "assistant",
        "session_id": "",
        "parent_tool_use_id": None,
        "message": {"role": "assistant", "content": content},
    }


def test_control_requests_name_their_subtype_and_fields():
    assert one_line(wire.control("7", "set_model", model="opus")) == {
        "type": "control_request",
        "request_id": "7",
        "request": {"subtype": "set_model", "model": "opus"},
    }


def test_a_refused_control_request_is_answered_with_its_id():
    assert one_line(wire.control_error("7", "no")) == {
        "type": "control_response",
        "response": {"subtype": "error", "request_id": "7", "error": "no"},
    }


def test_a_request_of_the_clis_is_answered_with_its_id():
    assert one_line(wire.control_success("7", {"a": 1})) == {
        "type": "control_response",
        "response": {"subtype": "success", "request_id": "7", "response": {"a": 1}},
    }


def test_what_the_mcp_server_says_is_wrapped_in_the_answer():
    reply = {"jsonrpc": "2.0", "id": 3, "result": {}}
    line = one_line(wire.mcp_response("7", reply))
    assert line["response"]["request_id"] == "7"
    assert line["response"]["response"] == {"mcp_response": reply}


def test_half_a_surrogate_pair_does_not_make_a_line_unreadable():
    line = decode(b'{"type":"assistant","error":"a\\ud83d"}')
    assert line == wire.AssistantLine("a?")
    line = decode(b'{"type":"control_request","request_id":"r","request":{"a":"\\ude00","b":1}}')
    assert line == wire.ControlRequestLine("r", {"a": "?", "b": 1})


@pytest.mark.parametrize("info", [None, [], {"resetsAt": "soon"}, {"utilization": {}}])
def test_what_is_said_of_the_plan_in_another_form_fails_no_answer(info):
    assert decode(encoded(type="rate_limit_event", rate_limit_info=info)) is None
