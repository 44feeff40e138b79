"""The command line: settings, then log, then the daemon or a small command; exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
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
    open_standard_streams()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the daemon takes it over
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
        except asyncio.CancelledError:
            return 0  # told to stop before it had begun to serve
    except UsageError as error:
        return complain(error, EX_USAGE)
    except ConfigurationError as error:
        return complain(error, EX_CONFIG)
    return 0


def open_standard_streams() -> None:
    """Started with closed descriptors 0 to 2, a socket would get their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # noqa: FBT003
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def complain(error: Exception, code: int) -> int:
    sys.stderr.write(f"claude-proxy: {error}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
