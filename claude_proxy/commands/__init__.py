"""``claude-proxy key`` and its like: all around a daemon, none is one.

None of them starts a daemon by itself or spends tokens, and none but ``key`` prints a key or a
variable's value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from claude_proxy.command_line import Invocation
from claude_proxy.commands.check import run as check
from claude_proxy.commands.completions import run as completions
from claude_proxy.commands.config import run as config
from claude_proxy.commands.install import run as install
from claude_proxy.commands.key import run as key
from claude_proxy.commands.man import run as man
from claude_proxy.commands.status import run as status
from claude_proxy.commands.uninstall import run as uninstall

COMMANDS: dict[str, Callable[[Invocation, Mapping[str, str]], int]] = {
    "key": key,
    "install": install,
    "uninstall": uninstall,
    "status": status,
    "check": check,
    "config": config,
    "man": man,
    "completions": completions,
}


def run(asked: Invocation, environ: Mapping[str, str]) -> int:
    """The exit code. Raises UsageError or ConfigurationError."""
    return COMMANDS[asked.command](asked, environ)
