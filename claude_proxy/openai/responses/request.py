"""The Responses API: what a request asks for, and its translation to a conversation. Pure.

Source of the shapes: OpenAI's OpenAPI description 2.3.0 and what clients were seen to send.
Unknown fields are skipped: clients send extras of other vendors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from claude_proxy.conversation import Conversation, Effort, Options
from claude_proxy.dialect.body import (
    MOST_NAMES,
    MOST_TOOLS,
    NULL,
    decode_body,
    decode_part,
    names_beyond,
    null,
    refuse,
)
from claude_proxy.errors import NotFound
from claude_proxy.openai.responses.items import (
    Find,
    Given,
    Input,
    read_history,
    read_input,
)
from claude_proxy.openai.responses.messages import leading, plain_text, to_messages
from claude_proxy.openai.responses.toolbox import ChoiceSpec, Toolbox
from claude_proxy.openai.schemas import answer_schema, plain_schema

# What the errors of a conversation name, as this API calls it.
PARAMS = {"messages": "input", "schema": "text.format.schema"}
ENCRYPTED = "reasoning.encrypted_content"
UNAVAILABLE = frozenset(
    {
        *("message.output_text.logprobs", "message.input_image.image_url"),
        *("web_search_call.action.sources", "web_search_call.results"),
        *("file_search_call.results", "code_interpreter_call.outputs"),
        "computer_call_output.output.image_url",
    }
)
Key = Annotated[str, Meta(max_length=64)]


class ReasoningConfig(msgspec.Struct):
    """``generate_summary`` is the older name of ``summary``."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None

    @property
    def shown(self) -> str | None:
        return self.summary or self.generate_summary


class TextFormat(msgspec.Struct):
    type: str = "text"
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw = msgspec.field(default_factory=null)
    strict: bool | None = None


class TextConfig(msgspec.Struct):
    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponsesRequest(msgspec.Struct):
    """Fields are checked here whether or not they have an effect."""

    input: str | Annotated[list[msgspec.Raw], Meta(min_length=1)]
    model: str | None = None
    instructions: str | None = None
    stream: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: msgspec.Raw = msgspec.field(default_factory=null)
    background: bool | None = None
    prompt: msgspec.Raw = msgspec.field(default_factory=null)
    tools: Annotated[list[msgspec.Raw], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: msgspec.Raw = msgspec.field(default_factory=null)
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    reasoning: ReasoningConfig | None = None
    text: TextConfig | None = None
    max_output_tokens: Annotated[int, Meta(ge=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: list[str] | None = None
    metadata: (
        Annotated[dict[Key, Annotated[str, Meta(max_length=512)]], Meta(max_length=16)] | None
    ) = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def keeps(self) -> bool:
        return self.store is not False

    @property
    def summarises(self) -> bool:
        return (self.reasoning or ReasoningConfig()).shown is not None

    @property
    def seals(self) -> bool:
        return ENCRYPTED in (self.include or ())


EFFECTIVE = frozenset(
    {
        *("input", "model", "instructions", "stream", "stream_options", "store"),
        *("previous_response_id", "tools", "tool_choice", "parallel_tool_calls", "reasoning"),
        *("text", "max_output_tokens", "include", "metadata"),
        *("truncation", "background", "top_logprobs"),  # what is left of them asks for nothing
    }
)
_decoder = msgspec.json.Decoder(ResponsesRequest)
_choice = msgspec.json.Decoder(str | ChoiceSpec | None)


def decode(body: bytes) -> ResponsesRequest:
    """Raises InvalidRequest with OpenAI's ``param`` path."""
    request = decode_body(_decoder, body)
    refuse(
        {
            "background": bool(request.background),
            "conversation": request.conversation != NULL,
            "prompt": request.prompt != NULL,
            "top_logprobs": bool(request.top_logprobs),
        }
    )
    return request


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request with all that it refers to; ``history`` are the items before its own."""

    request: ResponsesRequest
    toolbox: Toolbox
    history: list[Given]
    given: Input


def resolve(
    request: ResponsesRequest, item: Find, context: Callable[[str], list[bytes] | None]
) -> Wanted:
    """``item`` and ``context`` know, by their ids, items and whole conversations that were kept.

    Raises InvalidRequest, NotFound.
    """
    history: list[bytes] = []
    if (previous := request.previous_response_id) is not None:
        found = context(previous)
        if found is None:
            raise NotFound(
                f"Previous response with id '{previous[:100]}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        history = found
    toolbox = Toolbox(request.tools or [])
    return Wanted(request, toolbox, read_history(history), read_input(request.input, item))


def ignored(wanted: Wanted, body: bytes, *, sampling: bool) -> list[str]:
    """Names of what the client has set and what has no effect; ``sampling`` is forwarded."""
    names = names_beyond(EFFECTIVE, body, sampling=sampling)
    text = wanted.request.text
    names += ["text.verbosity"] if text is not None and text.verbosity is not None else []
    names += ["truncation"] if wanted.request.truncation == "auto" else []
    names += [f"include.{one}" for one in wanted.request.include or () if one in UNAVAILABLE]
    names += [f"tools.{kind}" for kind in wanted.toolbox.ignored]
    return [*names, *dict.fromkeys(wanted.given.ignored)][:MOST_NAMES]


def to_conversation(wanted: Wanted, model: str, *, sampling: bool) -> Conversation:
    """The instructions and the system messages at the beginning become the system prompt.

    Raises InvalidRequest.
    """
    request, items = wanted.request, [*wanted.history, *wanted.given.items]
    first = leading(items)
    system = [request.instructions or "", *map(plain_text, items[:first])]
    choice = decode_part(_choice, bytes(request.tool_choice), "tool_choice")
    parallel = request.parallel_tool_calls is not False
    chosen, tools = wanted.toolbox.choose(choice, parallel=parallel)
    options = Options(
        max_tokens=request.max_output_tokens,
        effort=request.reasoning.effort if request.reasoning else None,
        temperature=request.temperature if sampling else None,
        top_p=request.top_p if sampling else None,
        tool_choice=chosen,
    )
    return Conversation(
        model,
        "\n\n".join(filter(str.strip, system)),
        tuple(to_messages(items[first:], wanted.toolbox)),
        options,
        tools,
        to_schema(request.text),
    )


def to_schema(text: TextConfig | None) -> str | None:
    """The JSON Schema of the answer, None for text. Raises InvalidRequest."""
    form = (text or TextConfig()).format or TextFormat()
    if form.type == "json_schema":
        return answer_schema(form.name or "", bytes(form.schema), "text.format")
    return plain_schema(form.type, "text.format")
