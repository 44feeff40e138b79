"""A conversation as a process takes it, worked out once per request. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from claude_proxy.claude.configuration import Identity
from claude_proxy.claude.history import Turn, to_turns
from claude_proxy.claude.tools import ToolNames
from claude_proxy.claude.transcript import digests
from claude_proxy.conversation import Conversation


@dataclass(frozen=True, slots=True)
class Prompt:
    conversation: Conversation
    identity: Identity
    names: ToolNames
    turns: list[Turn]
    digests: list[bytes]

    @classmethod
    def of(cls, conversation: Conversation) -> Prompt:
        """Raises InvalidRequest."""
        names = ToolNames(conversation)
        turns = to_turns(conversation, names)
        return cls(conversation, Identity.of(conversation), names, turns, digests(turns))
