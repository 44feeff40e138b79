"""The command line: settings, then log, then the daemon or a small command; exit codes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from claude_proxy import log
from claude_proxy.api_key import load_api_key
from claude_proxy.settings import ConfigurationError, UsageError, load

EX_USAGE = 2
EX_UNAVAILABLE = 69
EX_CONFIG = 78


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0, 2 (wrong flag or variable), 69 (port taken), 78 (unusable configuration)."""
    try:
        settings, command = load(sys.argv[1:] if argv is None else argv, os.environ)
        key = load_api_key(settings, os.environ)
        if command == "key":
            sys.stdout.write(key.value + "\n")
            return 0
        log.configure(settings)
        # Imported late: `--help` and `key` need none of the server.
        from claude_proxy import daemon  # noqa: PLC0415

        try:
            asyncio.run(daemon.serve(settings, key, os.environ))
        except daemon.PortTaken as error:
            return complain(error, EX_UNAVAILABLE)
    except UsageError as error:
        return complain(error, EX_USAGE)
    except ConfigurationError as error:
        return complain(error, EX_CONFIG)
    return 0


def complain(error: Exception, code: int) -> int:
    sys.stderr.write(f"claude-proxy: {error}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
