"""The Messages API: what arrives, as structs, and its translation to a conversation. Pure.

Source of the shapes: Anthropic's API reference, the types of its SDKs, and what clients were seen
to send. Unknown fields are skipped.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from claude_proxy.anthropic.blocks import CacheControl, PlainText
from claude_proxy.anthropic.messages import WireMessage, to_messages
from claude_proxy.anthropic.tools import Choice, to_choice, to_tools
from claude_proxy.conversation import Conversation, Effort, Options, ToolChoice, ToolUse
from claude_proxy.dialect.body import MOST_TOOLS, NULL, decode_body, decode_part, names_beyond, null
from claude_proxy.dialect.schemas import object_schema
from claude_proxy.errors import InvalidRequest, ThreadUnsupported

# What the errors of a conversation name, as this API calls it.
PARAMS = {"schema": "output_config.format.schema"}
# Betas whose features stand or fall with Anthropic's own servers. Others change nothing that is
# not seen in the body, or are what the CLI asks for anyway.
NOT_THERE = re.compile(
    r"(advisor-tool|code-execution|computer-use|fast-mode|files-api|mcp-client|skills|web-fetch)-.*"
)
LEAST_BUDGET = 1_024
LONG_LIVED = re.compile(rb'"cache_control"\s*:\s*\{[^{}]*"ttl"\s*:\s*"1h"')
# What a Claude Code that is the client puts into its system prompt, and ours puts there anyway.
BILLING_HEADER = "x-anthropic-billing-header:"


class SystemBlock(PlainText):
    cache_control: CacheControl | None = None


class Thinking(msgspec.Struct):
    """``display`` and ``budget_tokens`` are passed on as they are."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Meta(ge=LEAST_BUDGET)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class Format(msgspec.Struct):
    type: Literal["json_schema"]
    schema: msgspec.Raw


class OutputConfig(msgspec.Struct):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


class Edit(msgspec.Struct):
    type: str
    keep: Any = None


class ContextManagement(msgspec.Struct):
    edits: list[Edit] | None = None


class CountRequest(msgspec.Struct, kw_only=True):
    """What counts as the prompt."""

    model: str
    messages: Annotated[list[WireMessage], Meta(min_length=1)]
    system: str | list[SystemBlock] | None = None
    tools: Annotated[list[msgspec.Raw], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: Choice | None = None
    thinking: msgspec.Raw = msgspec.field(default_factory=null)
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    cache_control: CacheControl | None = None
    context_management: ContextManagement | None = None
    mcp_servers: list[Any] | None = None
    container: Any = None
    thread: Any = None
    compaction: Any = None


class MessagesRequest(CountRequest, kw_only=True):
    """Fields are checked here whether or not they have an effect."""

    max_tokens: Annotated[int, Meta(ge=1)]
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    speed: str | None = None


EFFECTIVE = frozenset(
    {
        *("model", "messages", "system", "max_tokens", "stream", "stop_sequences", "tools"),
        *("tool_choice", "thinking", "output_config", "output_format", "cache_control"),
        *("context_management", "mcp_servers", "container", "thread", "compaction", "speed"),
    }
)
Asked: TypeAlias = CountRequest | MessagesRequest
_decoder = msgspec.json.Decoder(MessagesRequest)
_count_decoder = msgspec.json.Decoder(CountRequest)
_thinking_decoder = msgspec.json.Decoder(Thinking)


def decode(body: bytes, betas: str = "") -> MessagesRequest:
    """``betas``: the header ``anthropic-beta``. Raises InvalidRequest."""
    request = decode_body(_decoder, body)
    refuse_what_is_not_there(request, betas)
    return request


def decode_count(body: bytes, betas: str = "") -> CountRequest:
    """Raises InvalidRequest."""
    request = decode_body(_count_decoder, body)
    refuse_what_is_not_there(request, betas)
    return request


def refuse_what_is_not_there(request: Asked, betas: str) -> None:
    for beta in map(str.strip, betas.split(",")):
        if NOT_THERE.fullmatch(beta):
            raise InvalidRequest(
                f"anthropic-beta: '{beta[:100]}' cannot be had through Claude Code"
            )
    if request.thread is not None:
        raise ThreadUnsupported("No conversations are held here: send all messages", param="thread")
    edits = (request.context_management and request.context_management.edits) or []
    offending = {
        "mcp_servers": bool(request.mcp_servers),
        "container": request.container is not None,
        "compaction": request.compaction is not None,
        "context_management": not all(map(is_done_anyway, edits)),
        "speed": isinstance(request, MessagesRequest) and request.speed not in (None, "standard"),
    }
    for name, is_set in offending.items():
        if is_set:
            raise InvalidRequest("It cannot be had through Claude Code", param=name)


def is_done_anyway(edit: Edit) -> bool:
    """To keep all thinking is what the CLI asks for itself."""
    return edit.type.startswith("clear_thinking_") and edit.keep == "all"


def ignored(body: bytes, *, sampling: bool) -> list[str]:
    """Names of what the client has set and what has no effect; ``sampling`` is forwarded."""
    effective = EFFECTIVE | {"top_k"} if sampling else EFFECTIVE
    beyond = names_beyond(effective, body, sampling=sampling)
    return [*beyond, "cache_control.ttl"] if LONG_LIVED.search(body) else beyond


def has_thoughts(body: bytes) -> bool:
    """Whether thinking may be in the history, of which the CLI wants to know whose it was."""
    return b"thinking" in body


def to_conversation(request: Asked, model: str, exact: str, *, sampling: bool) -> Conversation:
    """``exact``: the id of ``model``, to which the thinking of the past belongs.

    Raises InvalidRequest.
    """
    last = request.messages[-1]
    if last.role == "assistant":
        raise InvalidRequest(
            "The last message must be a user's: Claude Code does not continue an assistant's "
            "message (prefill)",
            param=f"messages[{len(request.messages) - 1}].role",
        )
    tools = to_tools(request.tools or ())
    choice = to_choice(request.tool_choice, tools)
    return Conversation(
        model,
        to_system(request.system),
        tuple(to_messages(request.messages, exact)),
        to_options(request, choice, sampling=sampling),
        tools,
        to_schema(request),
    )


def to_system(system: str | list[SystemBlock] | None) -> str:
    """As the CLI puts several of its own together."""
    if system is None or isinstance(system, str):
        return system or ""
    said = (block.text for block in system if not block.text.startswith(BILLING_HEADER))
    return "\n\n".join(text for text in said if text.strip())


def to_schema(request: Asked) -> str | None:
    form = (request.output_config and request.output_config.format) or request.output_format
    return None if form is None else object_schema(bytes(form.schema), PARAMS["schema"])


def to_options(request: Asked, choice: ToolChoice, *, sampling: bool) -> Options:
    thinks = may_think(request.thinking, choice)
    # As it came: what a model does where nothing is said depends on the model.
    native = {} if request.thinking == NULL else {"thinking": request.thinking}
    effort = request.output_config.effort if request.output_config else None
    options = Options(
        effort=None if effort is None else Effort(effort),
        tool_choice=choice,
        thinks=thinks,
    )
    if isinstance(request, MessagesRequest):
        if sampling and request.top_k is not None:
            native["top_k"] = msgspec.Raw(msgspec.json.encode(request.top_k))
        options = replace(
            options,
            max_tokens=request.max_tokens,
            stop=stop_sequences(request.stop_sequences),
            temperature=request.temperature if sampling else None,
            top_p=request.top_p if sampling else None,
        )
    return replace(options, native=msgspec.json.encode(native).decode() if native else None)


def may_think(raw: msgspec.Raw, choice: ToolChoice) -> bool:
    """Raises InvalidRequest."""
    if raw == NULL:
        return False
    wanted = decode_part(_thinking_decoder, bytes(raw), "thinking")
    if wanted.type == "disabled":
        return False
    if wanted.type == "enabled" and wanted.budget_tokens is None:
        raise InvalidRequest("Field required", param="thinking.budget_tokens")
    if choice.use is ToolUse.REQUIRED:
        raise InvalidRequest(
            "Thinking may not be enabled when tool_choice forces tool use", param="thinking"
        )
    return True


def stop_sequences(given: list[str] | None) -> tuple[str, ...]:
    for index, sequence in enumerate(given or ()):
        if not sequence.strip():
            raise InvalidRequest(
                "A stop sequence must hold more than white space", param=f"stop_sequences[{index}]"
            )
    return tuple(given or ())
