"""``claude-proxy completions SHELL``: what completes this command line there."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from claude_proxy.claude.models import ALWAYS
from claude_proxy.client_settings import CLIENTS
from claude_proxy.command_line import Invocation
from claude_proxy.settings import UsageError
from claude_proxy.shell_completions import SHELLS, script


def run(asked: Invocation, _: Mapping[str, str]) -> int:
    """Raises UsageError."""
    if not asked.words or asked.words[0] not in SHELLS:
        given = f", not {ascii(asked.words[0])[1:-1]}" if asked.words else ""
        raise UsageError(f"completions takes one of {', '.join(SHELLS)}{given}")
    sys.stdout.write(text(asked.words[0]))
    return 0


def text(shell: str) -> str:
    return script(shell, ALWAYS, {"config": list(CLIENTS), "completions": list(SHELLS)})
