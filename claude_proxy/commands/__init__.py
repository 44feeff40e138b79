"""``claude-proxy key``, ``install``, ``uninstall``, ``status``, ``check``, ``config``: all around a
daemon.

None of them starts a daemon by itself or spends tokens, and none but ``key`` prints a key or a
variable's value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from claude_proxy.command_line import Invocation
from claude_proxy.commands.check import run as check
from claude_proxy.commands.config import run as config
from claude_proxy.commands.install import run as install
from claude_proxy.commands.key import run as key
from claude_proxy.commands.status import run as status
from claude_proxy.commands.uninstall import run as uninstall

COMMANDS: dict[str, Callable[[Invocation, Mapping[str, str]], int]] = {
    "key": key,
    "install": install,
    "uninstall": uninstall,
    "status": status,
    "check": check,
    "config": config,
}


def run(asked: Invocation, environ: Mapping[str, str]) -> int:
    """The exit code. Raises UsageError or ConfigurationError."""
    return COMMANDS[asked.command](asked, environ)
