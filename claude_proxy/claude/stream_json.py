"""The CLI's lines (``--input-format``/``--output-format stream-json``) as structs; no I/O.

Source of the shapes: ``sdk.d.ts`` of npm ``@anthropic-ai/claude-agent-sdk`` (SDKMessage,
SDKControlRequest) and measurements with CLI 2.1.330. Only the fields that are used are named;
msgspec skips the rest. Lines of an unknown ``type`` are ``None``: newer CLIs may add some.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import msgspec

Json: TypeAlias = dict[str, Any]


class LineError(ValueError):
    """A line that is not what its ``type`` promises."""


class Usage(msgspec.Struct):
    """Cumulative over one answer; in ``message_start`` the output side is not final."""

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: Json | None = None


class Message(msgspec.Struct):
    model: str = ""
    usage: Usage | None = None
    id: str = ""


class Delta(msgspec.Struct):
    """Of ``content_block_delta`` or ``message_delta``."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    citation: Json | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Json | None = None


class ContentBlock(msgspec.Struct):
    """As ``content_block_start`` has it; ``input`` is empty there and comes in deltas.

    ``data`` is that of ``redacted_thinking``.
    """

    type: str = ""
    id: str = ""
    name: str = ""
    input: Json | None = None
    data: str = ""


class StreamEvent(msgspec.Struct):
    """An Anthropic Messages streaming event, verbatim."""

    type: str
    message: Message | None = None
    content_block: ContentBlock | None = None
    delta: Delta | None = None
    usage: Usage | None = None


class StreamLine(msgspec.Struct):
    event: StreamEvent
    parent_tool_use_id: str | None = None


class AssistantLine(msgspec.Struct):
    """``error`` is set on the synthetic message that stands for an upstream failure."""

    error: str | None = None


class ToolResultBlock(msgspec.Struct):
    tool_use_id: str = ""


class UserMessage(msgspec.Struct):
    content: str | list[ToolResultBlock] = ""


class UserLine(msgspec.Struct):
    """What the CLI itself puts into the conversation: tool results, and notes."""

    message: UserMessage


class SystemLine(msgspec.Struct):
    """``retry_delay_ms`` and the fields around it come with subtype ``api_retry``.

    ``tools``, with subtype ``init``, are the names of those that the CLI can run.
    """

    subtype: str = ""
    tools: list[str] | None = None
    attempt: int | None = None
    retry_delay_ms: float | None = None
    error_status: int | None = None
    error: str | None = None


class RateLimitInfo(msgspec.Struct):
    """``resetsAt`` is Unix time in seconds, ``utilization`` goes from 0 to 1."""

    status: str = ""
    resetsAt: float | None = None  # noqa: N815 - the CLI's name
    rateLimitType: str | None = None  # noqa: N815 - the CLI's name
    utilization: float | None = None
    unifiedWindows: Any = None  # noqa: N815 - the CLI's name


class RateLimitLine(msgspec.Struct):
    rate_limit_info: RateLimitInfo


class ModelUsage(msgspec.Struct):
    """Of the whole process so far; holds an estimate of what an interrupted answer has said."""

    outputTokens: int = 0  # noqa: N815 - the CLI's name


class ResultLine(msgspec.Struct):
    """The end of a turn, or (``num_turns`` 0) the receipt of a line that asked for none."""

    subtype: str = ""
    is_error: bool = False
    api_error_status: int | None = None
    num_turns: int = 0
    result: str | None = None
    errors: list[str] | None = None
    structured_output: Any = None
    total_cost_usd: float = 0.0
    usage: Usage | None = None
    modelUsage: dict[str, ModelUsage] | None = None  # noqa: N815 - the CLI's name


class ControlReply(msgspec.Struct):
    subtype: str = ""
    request_id: str = ""
    response: Json | None = None
    error: str | None = None


class ControlResponseLine(msgspec.Struct):
    response: ControlReply


class ControlRequestLine(msgspec.Struct):
    """The CLI asks us something and waits for the answer."""

    request_id: str
    request: Json


Line: TypeAlias = (
    StreamLine
    | AssistantLine
    | UserLine
    | SystemLine
    | RateLimitLine
    | ResultLine
    | ControlResponseLine
    | ControlRequestLine
)


class _Head(msgspec.Struct):
    type: str
    subtype: Any = None


class _EventPeek(msgspec.Struct):
    type: str
    delta: Any = None


class _StreamPeek(msgspec.Struct):
    event: _EventPeek


_head = msgspec.json.Decoder(_Head)
_stream_peek = msgspec.json.Decoder(_StreamPeek)
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    "stream_event": msgspec.json.Decoder(StreamLine),
    "assistant": msgspec.json.Decoder(AssistantLine),
    "user": msgspec.json.Decoder(UserLine),
    "system": msgspec.json.Decoder(SystemLine),
    "rate_limit_event": msgspec.json.Decoder(RateLimitLine),
    "result": msgspec.json.Decoder(ResultLine),
    "control_response": msgspec.json.Decoder(ControlResponseLine),
    "control_request": msgspec.json.Decoder(ControlRequestLine),
}
KNOWN_EVENTS = frozenset(
    {
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
        "message_delta",
    }
)
KNOWN_DELTAS = frozenset(
    {"text_delta", "thinking_delta", "signature_delta", "input_json_delta", "citations_delta"}
)
_encode = msgspec.json.Encoder().encode


def decode(line: bytes) -> Line | None:
    """One line; None for a kind that is not known. Raises LineError without the line's text.

    Half a surrogate pair, which a model can write into a call's arguments, becomes a "?".
    """
    try:
        try:
            return _decode(line)
        except msgspec.DecodeError:
            if b"\\u" not in line:
                raise
            whole = json.dumps(json.loads(line), ensure_ascii=False).encode(errors="replace")
            return _decode(whole)
    except (ValueError, RecursionError) as error:  # all of msgspec's are ValueErrors
        kind = type(error).__name__
        raise LineError(f"unreadable line of {len(line)} bytes ({kind})") from None


def _decode(line: bytes) -> Line | None:
    head = _head.decode(line)
    if head.type == "system" and head.subtype not in ("api_retry", "init"):
        return None
    decoder = _decoders.get(head.type)
    return None if decoder is None else _decode_known(decoder, head.type, line)


def _decode_known(decoder: msgspec.json.Decoder[Any], kind: str, line: bytes) -> Line | None:
    """A stream event or delta that newer CLIs may bring can hold anything: it is let go. So is
    what is said of the plan, which no answer needs.
    """
    try:
        decoded: Line = decoder.decode(line)
    except msgspec.ValidationError:
        if kind == "rate_limit_event":
            return None
        if kind == "stream_event" and _is_unknown(_stream_peek.decode(line).event):
            return None
        raise
    return decoded


def _is_unknown(event: _EventPeek) -> bool:
    if event.type not in KNOWN_EVENTS:
        delta_type = event.delta.get("type", "") if isinstance(event.delta, dict) else ""
        return isinstance(delta_type, str)
    if event.type != "content_block_delta" or not isinstance(event.delta, dict):
        return False
    delta_type = event.delta.get("type")
    return isinstance(delta_type, str) and delta_type not in KNOWN_DELTAS


def control(request_id: str, subtype: str, **fields: Any) -> bytes:
    body = {"subtype": subtype, **fields}
    return _encode({"type": "control_request", "request_id": request_id, "request": body}) + b"\n"


def control_success(request_id: str, response: Json) -> bytes:
    """The answer to a request of the CLI's."""
    return _control_response(request_id, "success", response=response)


def mcp_response(request_id: str, reply: Json) -> bytes:
    """``reply``: the MCP server's JSON-RPC message."""
    return control_success(request_id, {"mcp_response": reply})


def control_error(request_id: str, message: str) -> bytes:
    """The answer to a request of the CLI's that we do not serve."""
    return _control_response(request_id, "error", error=message)


def _control_response(request_id: str, subtype: str, **fields: Any) -> bytes:
    reply = {"subtype": subtype, "request_id": request_id, **fields}
    return _encode({"type": "control_response", "response": reply}) + b"\n"


def user(content: list[Json], *, query: bool) -> bytes:
    """``query`` False appends to the history and starts no turn.

    ``client_composed`` (CLI >= 2.1.248) keeps ``@path`` and ``/command`` plain text.
    """
    line: Json = {
        "type": "user",
        "session_id": "",
        "parent_tool_use_id": None,
        "client_composed": True,
        "message": {"role": "user", "content": content},
    }
    if not query:
        line["shouldQuery"] = False
    return _encode(line) + b"\n"


def assistant(content: list[Json], model: str | None) -> bytes:
    """Appended to the history at once. Thinking is kept only where ``model`` is the process's."""
    message: Json = {"role": "assistant", "content": content}
    if model is not None:
        message["model"] = model
    line = {"type": "assistant", "session_id": "", "parent_tool_use_id": None, "message": message}
    return _encode(line) + b"\n"
