"""Chat Completions: what arrives, as structs, and its translation to a conversation. Pure.

Source of the shapes: OpenAI's OpenAPI description 2.3.0 and what clients were seen to send.
Unknown fields are skipped: clients send extras of other vendors.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from claude_proxy.conversation import Conversation, Effort, Options, Tool, ToolChoice
from claude_proxy.dialect.body import MOST_TOOLS, NULL, decode_body, names_beyond, null, refuse
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.chat.messages import (
    AssistantMessage,
    ChatMessage,
    DeveloperMessage,
    SystemMessage,
    plain_text,
    to_messages,
)
from claude_proxy.openai.chat.tools import (
    ChoiceSpec,
    Named,
    ResponseFormat,
    ToolSpec,
    old_to_choice,
    old_to_tools,
    to_choice,
    to_schema,
    to_tools,
)
from claude_proxy.openai.functions import FunctionTool
from claude_proxy.openai.options import Penalty, Stop, StreamOptions, Tokens, stop_sequences

# What the errors of a conversation name, as this API calls it.
PARAMS = {"schema": "response_format.json_schema.schema"}


class ChatRequest(msgspec.Struct):
    """Fields are checked here whether or not they have an effect."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens = None
    max_completion_tokens: Tokens = None
    stop: Stop = None
    reasoning_effort: Effort | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Penalty = None
    presence_penalty: Penalty = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    modalities: list[str] | None = None
    audio: msgspec.Raw = msgspec.field(default_factory=null)
    tools: Annotated[list[ToolSpec], Meta(max_length=MOST_TOOLS)] | None = None
    functions: Annotated[list[FunctionTool], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: str | ChoiceSpec | None = None
    parallel_tool_calls: bool | None = None
    function_call: str | Named | None = None
    response_format: ResponseFormat | None = None
    web_search_options: msgspec.Raw = msgspec.field(default_factory=null)


EFFECTIVE = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "stop", "reasoning_effort"),
        *("max_tokens", "max_completion_tokens", "n", "logprobs", "top_logprobs", "modalities"),
        *("tools", "functions", "tool_choice", "function_call", "response_format"),
        "parallel_tool_calls",
    }
)
_decoder = msgspec.json.Decoder(ChatRequest)


def decode(body: bytes) -> ChatRequest:
    """Raises InvalidRequest with OpenAI's ``param`` path."""
    request = decode_body(_decoder, body)
    refuse_what_is_not_there(request)
    return request


def refuse_what_is_not_there(request: ChatRequest) -> None:
    """What would change the shape of the answer must not be ignored silently."""
    offending = {
        "n": (request.n or 1) > 1,
        "logprobs": bool(request.logprobs),
        "top_logprobs": bool(request.top_logprobs),
        "audio": request.audio != NULL,
        "modalities": any(mode != "text" for mode in request.modalities or ()),
        "functions": bool(request.tools) and bool(request.functions),
        "function_call": not request.functions
        and request.function_call not in (None, "none", "auto"),
        "tool_choice": bool(request.functions)
        and request.tool_choice not in (None, "none", "auto"),
        "web_search_options": request.web_search_options != NULL,
    }
    refuse(offending)


def ignored(body: bytes, *, sampling: bool) -> list[str]:
    """Names of what the client has set and what has no effect; ``sampling`` is forwarded."""
    return names_beyond(EFFECTIVE, body, sampling=sampling)


def to_conversation(request: ChatRequest, model: str, *, sampling: bool) -> Conversation:
    """Leading system messages become the system prompt, every later message a message.

    A later system message has no counterpart in what the CLI takes; it goes as a user's, in its
    place and with its exact text. Raises InvalidRequest.
    """
    system: list[str] = []
    for message in request.messages:
        if not isinstance(message, SystemMessage | DeveloperMessage):
            break
        system.append(plain_text(message.content, f"messages[{len(system)}]"))
    if isinstance(request.messages[-1], AssistantMessage):
        raise InvalidRequest(
            "The last message must be a user's or a tool's: Claude does not continue an "
            "assistant's message",
            param=f"messages[{len(request.messages) - 1}].role",
        )
    choice, tools = offered(request)
    options = Options(
        max_tokens=request.max_completion_tokens or request.max_tokens,
        stop=stop_sequences(request.stop),
        effort=request.reasoning_effort,
        temperature=request.temperature if sampling else None,
        top_p=request.top_p if sampling else None,
        tool_choice=choice,
    )
    return Conversation(
        model,
        "\n\n".join(filter(str.strip, system)),
        tuple(to_messages(request.messages, len(system))),
        options,
        tools,
        to_schema(request.response_format),
    )


def offered(request: ChatRequest) -> tuple[ToolChoice, tuple[Tool, ...]]:
    if request.functions:
        functions = old_to_tools(request.functions)
        return old_to_choice(request.function_call, functions), functions
    parallel = request.parallel_tool_calls is not False
    return to_choice(request.tool_choice, to_tools(request.tools or ()), parallel=parallel)
