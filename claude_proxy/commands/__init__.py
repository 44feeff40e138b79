"""``claude-proxy key`` and its like: all around a daemon, none is one.

None of them starts a daemon by itself or spends tokens, and none but ``key`` prints a key or a
variable's value.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping

from claude_proxy.command_line import Invocation
from claude_proxy.settings import ConfigurationError


def run(asked: Invocation, environ: Mapping[str, str]) -> int:
    """The exit code. Raises UsageError or ConfigurationError.

    Each command is a module of its name, and what the others need is not imported for it.
    """
    command = importlib.import_module(f"{__name__}.{asked.command}")
    try:
        code: int = command.run(asked, environ)
    except OSError as error:  # each knows what may go wrong with its own files; this is the rest
        if error.filename is None:
            raise ConfigurationError(f"{error.strerror}") from None
        raise ConfigurationError(
            f"{os.fsdecode(error.filename)}: {error.strerror}; is HOME that of this user, as "
            "`sudo -H` makes it?"
        ) from None
    return code
