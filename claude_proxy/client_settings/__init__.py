"""Settings of other people's programs, ready to paste. Pure; ``all_for`` is the way in."""

from __future__ import annotations

from collections.abc import Callable

from claude_proxy.client_settings import agents, apps, programs
from claude_proxy.client_settings.snippet import Endpoint, File, Model, Snippet, fits

__all__ = ["CLIENTS", "Endpoint", "File", "Model", "Snippet", "all_for", "fits"]

CLIENTS: dict[str, Callable[[Endpoint], list[Snippet]]] = {
    "openclaw": agents.openclaw,
    "cursor": apps.cursor,
    "continue": apps.continue_,
    "codex": agents.codex,
    "opencode": agents.opencode,
    "cline": agents.cline,
    "zed": apps.zed,
    "aider": agents.aider,
    "llm": apps.llm,
    "litellm": apps.litellm,
    "langchain": programs.langchain,
    "open-webui": apps.open_webui,
    "openai": programs.openai,
    "openai-node": programs.openai_node,
    "anthropic": programs.anthropic,
    "anthropic-node": programs.anthropic_node,
    "pydantic-ai": programs.pydantic_ai,
    "openai-agents": programs.openai_agents,
    "vercel": programs.vercel,
}


def all_for(endpoint: Endpoint) -> list[Snippet]:
    """In the order of CLIENTS; those of one client follow each other."""
    return [snippet for render in CLIENTS.values() for snippet in render(endpoint)]
