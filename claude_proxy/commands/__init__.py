"""``claude-proxy key`` and its like: all around a daemon, none is one.

None of them starts a daemon by itself or spends tokens, and none but ``key`` prints a key or a
variable's value.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from claude_proxy.command_line import Invocation


def run(asked: Invocation, environ: Mapping[str, str]) -> int:
    """The exit code. Raises UsageError or ConfigurationError.

    Each command is a module of its name, and what the others need is not imported for it.
    """
    command = importlib.import_module(f"{__name__}.{asked.command}")
    code: int = command.run(asked, environ)
    return code
