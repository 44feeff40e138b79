"""What was asked for, the log, then the daemon or a small command; exit codes."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
from collections.abc import Sequence

import structlog

from claude_proxy import limits, listeners, log
from claude_proxy.clients import Clients, load_clients
from claude_proxy.command_line import SERVE, Invocation, load
from claude_proxy.exit_codes import EX_CONFIG, EX_SOFTWARE, EX_UNAVAILABLE, EX_USAGE
from claude_proxy.listeners import Listener, PortTaken
from claude_proxy.notify import Notifier
from claude_proxy.settings import ConfigurationError, Settings, UsageError
from claude_proxy.start import Start

EXIT_CODES: dict[type[Exception], int] = {
    UsageError: EX_USAGE,
    PortTaken: EX_UNAVAILABLE,
    ConfigurationError: EX_CONFIG,
}


def enter(argv: Sequence[str]) -> int:
    """The exit code: ``exit_codes.MEANING`` has what each of them says."""
    notifier = Notifier(os.environ)
    passed: list[Listener] = []
    try:
        passed = listeners.passed(os.environ)
        return run(argv, notifier, passed)
    except tuple(EXIT_CODES) as error:
        return fail(error, notifier, passed)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        log.flush()
        notifier.close()
        listeners.leave(passed)


def run(argv: Sequence[str], notifier: Notifier, passed: Sequence[Listener]) -> int:
    """Raises one of EXIT_CODES."""
    asked = load(argv, os.environ)
    if asked.command == SERVE:
        return serve(asked, argv, notifier, passed)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `claude-proxy check | head` is no error
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from claude_proxy import commands  # noqa: PLC0415 - no other way in needs them

    return commands.run(asked, os.environ)


def serve(
    asked: Invocation, argv: Sequence[str], notifier: Notifier, passed: Sequence[Listener]
) -> int:
    limits.forbid_core_dumps()
    if not sys.stderr.isatty():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what it asks for has just been read
    # Imported late: `--help` and `key` need none of the server.
    from claude_proxy import daemon  # noqa: PLC0415

    def reread() -> tuple[Settings, Clients]:
        settings = load(argv, os.environ).settings
        return settings, load_clients(settings, os.environ)

    clients = load_clients(asked.settings, os.environ)
    log.configure(asked.settings)
    faulthandler.enable()  # of a stuck loop systemd's watchdog then shows where it was
    try:
        asyncio.run(
            daemon.serve(Start(asked.settings, clients, os.environ, notifier, reread, passed))
        )
    except asyncio.CancelledError:
        pass  # told to stop before it had begun to serve
    except tuple(EXIT_CODES):
        raise
    except Exception:  # noqa: BLE001 - a traceback of Python's own would be a record per line
        structlog.get_logger().critical("daemon.crashed", exc_info=True)
        return EX_SOFTWARE
    return 0


def fail(error: Exception, notifier: Notifier, passed: Sequence[Listener]) -> int:
    """Says why: in the log or on stderr, to systemd, and to whoever waits for an answer."""
    code = EXIT_CODES[type(error)]
    log.last_words(str(error), code, os.environ)
    notifier.failed(str(error), getattr(error, "errno", None))
    if passed:
        from claude_proxy.http import refusal  # noqa: PLC0415 - hardly ever needed

        refusal.refuse(passed, str(error))
    return code
