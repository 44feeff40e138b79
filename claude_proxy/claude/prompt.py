"""A conversation as a process takes it, worked out once per request. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from claude_proxy.claude.configuration import Identity
from claude_proxy.claude.history import Turn, to_turns
from claude_proxy.claude.tools import ToolNames
from claude_proxy.conversation import Conversation


@dataclass(frozen=True, slots=True)
class Prompt:
    conversation: Conversation
    identity: Identity
    names: ToolNames
    turns: list[Turn]

    @classmethod
    def of(cls, conversation: Conversation) -> Prompt:
        """Raises InvalidRequest."""
        names = ToolNames(conversation)
        return cls(conversation, Identity.of(conversation), names, to_turns(conversation, names))
