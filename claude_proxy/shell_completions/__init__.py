"""What completes the command line in a shell. Pure; ``script`` is the way in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from claude_proxy.shell_completions import bash, fish, zsh
from claude_proxy.shell_completions.grammar import Grammar, grammar

__all__ = ["SHELLS", "script"]

SHELLS: dict[str, Callable[[Grammar], str]] = {
    "bash": bash.script,
    "zsh": zsh.script,
    "fish": fish.script,
}


def script(shell: str, models: Sequence[str], words: Mapping[str, Sequence[str]]) -> str:
    """``models``: names worth offering. ``words``: what may stand behind a command."""
    return SHELLS[shell](grammar(models, words))
