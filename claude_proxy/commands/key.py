"""``claude-proxy key``: the key that clients must send, to a daemon here or to the service."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from claude_proxy.api_key import ApiKey, load_api_key, read_key
from claude_proxy.command_line import Invocation
from claude_proxy.commands import systemctl, units


def run(asked: Invocation, environ: Mapping[str, str]) -> int:
    """Raises ConfigurationError."""
    sys.stdout.write(key_of(asked, environ).value + "\n")
    return 0


def key_of(asked: Invocation, environ: Mapping[str, str]) -> ApiKey:
    """One that is given here, else the service's own, else the one that was made."""
    given = asked.settings.api_key or asked.settings.api_key_file
    if not given and (path := service_key(environ)):
        return read_key(path)
    return load_api_key(asked.settings, environ)


def service_key(environ: Mapping[str, str]) -> Path | None:
    """The file of the service's credential, if it has one."""
    manager = systemctl.reached(environ)
    text = manager.text(units.SERVICE) if manager else ""
    found = units.credential_of(text, environ.get("HOME") or str(Path.home()))
    return Path(found) if found else None
