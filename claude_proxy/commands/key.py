"""``claude-proxy key``: the key that clients must send, to a daemon here or to the service."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from claude_proxy.api_key import ApiKey, load_api_key, read_key
from claude_proxy.command_line import Invocation
from claude_proxy.commands import seen, unit_text


def run(asked: Invocation, environ: Mapping[str, str]) -> int:
    """Raises ConfigurationError."""
    sys.stdout.write(key_of(asked, environ).value + "\n")
    return 0


def key_of(asked: Invocation, environ: Mapping[str, str]) -> ApiKey:
    """One that is given here, else the service's own, else the one that was made."""
    if asked.settings.api_key or asked.settings.api_key_file:
        return load_api_key(asked.settings, environ)
    now, home = seen.look(environ), environ.get("HOME") or str(Path.home())
    served = now.settings(home)
    if served is not None and (served.api_key or served.api_key_file):
        return load_api_key(served, environ)
    credential, in_unit = now.credential(home), unit_text.key_in(now.unit_text)
    if in_unit and not (credential and credential.exists()):
        return ApiKey(in_unit, "the unit")
    if credential:
        return read_key(credential)
    return load_api_key(asked.settings, environ)
