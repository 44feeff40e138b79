"""What a process is told about a conversation: prompt, tools, model, options. Pure.

The identity is fixed in a process; the options are set anew for every turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from claude_proxy.claude import tools
from claude_proxy.claude.json_schema import draft_7
from claude_proxy.claude.stream_json import Json
from claude_proxy.claude.tools import ToolNames
from claude_proxy.conversation import Conversation, Effort, Options, Tool

EFFORT_LEVELS = {
    Effort.NONE: "low",
    Effort.MINIMAL: "low",
    Effort.LOW: "low",
    Effort.MEDIUM: "medium",
    Effort.HIGH: "high",
    Effort.XHIGH: "xhigh",
    Effort.MAX: "max",
}

BILLING_HEADER = "x-anthropic-billing-header"


@dataclass(frozen=True, slots=True)
class Identity:
    """What cannot change while a process lives.

    The CLI can change the model, but it then writes a note about it into the conversation.
    """

    model: str
    system: str
    tools: tuple[Tool, ...]
    schema: str | None

    @classmethod
    def of(cls, conversation: Conversation) -> Identity:
        return cls(conversation.model, conversation.system, conversation.tools, conversation.schema)


def initialize(conversation: Conversation, names: ToolNames) -> Json:
    """The fields of ``initialize``, the first request to a process."""
    fields: Json = {"systemPrompt": [system_prompt(conversation)], **tools.registration(names)}
    if conversation.schema is not None:
        fields["jsonSchema"] = draft_7(msgspec.json.decode(conversation.schema))
    return fields


def system_prompt(conversation: Conversation) -> str:
    """One that begins like a header of the CLI's own it takes for that, and drops (2.1.332)."""
    said = conversation.system
    return f"\n{said}" if said.startswith(BILLING_HEADER) else said


def effort_level(options: Options) -> str | None:
    return None if options.effort is None else EFFORT_LEVELS[options.effort]


def fixed_in_turn(options: Options) -> tuple[str | None, int | None]:
    """What the CLI does not change between a turn's tool calls and what follows their results."""
    return effort_level(options), options.max_tokens


def flag_settings(conversation: Conversation, names: ToolNames) -> Json:
    """The ``apply_flag_settings`` that carry the options to the API (measured, CLI 2.1.330).

    The CLI keeps what is not named, so that every one is; an empty text, and null, is its default.
    """
    options = conversation.options
    body = extra_body(conversation, names)
    thinks = may_think(options) and not tools.forced(body.get("tool_choice"))
    limit = options.max_tokens
    return {
        "env": {
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "" if limit is None else str(limit),
            "CLAUDE_CODE_DISABLE_THINKING": "" if thinks else "1",
            "CLAUDE_CODE_EXTRA_BODY": msgspec.json.encode(body).decode(),
        },
        "effortLevel": effort_level(options),
    }


def may_think(options: Options) -> bool:
    return options.effort is not Effort.NONE if options.thinks is None else options.thinks


def extra_body(conversation: Conversation, names: ToolNames) -> dict[str, Any]:
    """What is merged into the body of the API request, as the CLI has no other way to it."""
    options = conversation.options
    body: dict[str, Any] = {}
    if options.native is not None:
        body |= msgspec.json.decode(options.native, type=dict[str, msgspec.Raw])
    if offered := tools.definitions(conversation, names):
        body["tools"] = offered
    if chosen := tools.choice(conversation, names):
        body["tool_choice"] = chosen
    if options.stop:
        body["stop_sequences"] = options.stop
    if options.temperature is not None:
        body["temperature"] = options.temperature
    if options.top_p is not None:
        body["top_p"] = options.top_p
    return body
