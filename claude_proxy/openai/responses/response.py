"""The Response object and its items: what leaves, as structs. Pure.

Source: OpenAI's OpenAPI description 2.3.0 and Open Responses 2026-04-24; every field that either
requires is always there.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

from claude_proxy import conversation as neutral
from claude_proxy.dialect.schemas import ANY_OBJECT
from claude_proxy.openai.responses.request import ReasoningConfig, ResponsesRequest, TextConfig

Status: TypeAlias = Literal["in_progress", "completed", "incomplete", "failed", "cancelled"]
_encode = msgspec.json.Encoder().encode


class OutputText(msgspec.Struct, tag_field="type", tag="output_text"):
    text: str
    annotations: tuple[()] = ()
    logprobs: tuple[()] = ()


class Refusal(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class SummaryText(msgspec.Struct, tag_field="type", tag="summary_text"):
    text: str


class MessageItem(msgspec.Struct, tag_field="type", tag="message"):
    id: str
    status: Status
    content: list[OutputText | Refusal]
    role: Literal["assistant"] = "assistant"


class FunctionCallItem(msgspec.Struct, tag_field="type", tag="function_call"):
    """``call_id`` is what the client names in its answer, ``id`` is the item's."""

    id: str
    status: Status
    call_id: str
    name: str
    arguments: str
    namespace: str | UnsetType = UNSET


class CustomToolCallItem(msgspec.Struct, tag_field="type", tag="custom_tool_call"):
    """OpenAI's schema gives it no status; it has one where it is cut off, which must be seen."""

    id: str
    call_id: str
    name: str
    input: str
    namespace: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET


class ReasoningItem(msgspec.Struct, tag_field="type", tag="reasoning"):
    id: str
    summary: list[SummaryText]
    encrypted_content: str | UnsetType = UNSET


OutputItem: TypeAlias = MessageItem | FunctionCallItem | CustomToolCallItem | ReasoningItem


class InputDetails(msgspec.Struct):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct):
    reasoning_tokens: int = 0


class Usage(msgspec.Struct):
    """``input_tokens`` counts cached ones too, as OpenAI does."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class IncompleteDetails(msgspec.Struct):
    reason: Literal["max_output_tokens", "content_filter"]


class ResponseError(msgspec.Struct):
    code: str
    message: str


class Response(msgspec.Struct, kw_only=True):
    """Times are Unix seconds; ``usage`` is null until the end.

    What the client can set is echoed, as it is or as the default that is in force.
    """

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status = "in_progress"
    completed_at: int | None = None
    background: bool = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: list[OutputItem] = msgspec.field(default_factory=list)
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: Raw
    safety_identifier: str | None
    service_tier: str = "default"
    store: bool
    temperature: float
    text: Raw
    tool_choice: Raw
    tools: list[Raw]
    top_logprobs: int = 0
    top_p: float
    presence_penalty: float = 0
    frequency_penalty: float = 0
    truncation: str
    usage: Usage | None = None
    user: str | None
    metadata: dict[str, str]


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(24)}"


def begin(request: ResponsesRequest, *, kept: bool) -> Response:
    """Before the model has begun to answer; it will say which one it is."""
    return Response(
        id=new_id("resp"),
        created_at=int(time.time()),
        model=request.model or "",
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        reasoning=reasoning_echo(request.reasoning or ReasoningConfig()),
        safety_identifier=request.safety_identifier,
        store=kept,
        temperature=1.0 if request.temperature is None else request.temperature,
        text=text_echo(request.text or TextConfig()),
        tool_choice=choice_echo(bytes(request.tool_choice)),
        tools=[tool_echo(bytes(tool)) for tool in request.tools or ()],
        top_p=1.0 if request.top_p is None else request.top_p,
        truncation=request.truncation or "disabled",
        user=request.user,
        metadata=request.metadata or {},
    )


def reasoning_echo(given: ReasoningConfig) -> Raw:
    return Raw(_encode({"effort": given.effort, "summary": given.shown}))


def choice_echo(raw: bytes) -> Raw:
    return Raw(b'"auto"' if raw == b"null" else one_line(raw))


def one_line(raw: bytes) -> bytes:
    """A line break in it would tear the event that it stands in."""
    return msgspec.json.format(raw, indent=-1)


def text_echo(given: TextConfig) -> Raw:
    form: dict[str, Any] = {"type": given.format.type if given.format else "text"}
    if given.format is not None and form["type"] == "json_schema":
        form |= {
            "name": given.format.name,
            "description": given.format.description,
            "schema": schema_echo(bytes(given.format.schema)),
            "strict": bool(given.format.strict),
        }
    return Raw(_encode({"format": form, "verbosity": given.verbosity or "medium"}))


def schema_echo(raw: bytes) -> Raw:
    return Raw(ANY_OBJECT.encode() if raw == b"null" else one_line(raw))


def tool_echo(raw: bytes) -> Raw:
    """A function with all the keys that clients expect of it, any other tool as it came."""
    raw = one_line(raw)
    given = msgspec.json.decode(raw, type=dict[str, Raw])
    if given.setdefault("type", Raw(b'"function"')) != Raw(b'"function"'):
        return Raw(raw)
    defaults = dict.fromkeys(("description", "parameters"), Raw(b"null"))
    return Raw(_encode({**defaults, "strict": Raw(b"false"), **given}))


def to_usage(usage: neutral.Usage) -> Usage:
    return Usage(
        usage.prompt,
        InputDetails(usage.cache_read, usage.cache_write),
        usage.output,
        OutputDetails(usage.reasoning),
        usage.prompt + usage.output,
    )
