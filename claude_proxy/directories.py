"""Where the program keeps what is to outlive it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def state_directory(environ: Mapping[str, str]) -> Path:
    """``$STATE_DIRECTORY`` (set by systemd), else the XDG state home's ``claude-proxy``.

    Raises RuntimeError when there is no home directory.
    """
    if given := environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    home = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or "~").expanduser() / (
        ".local/state"
    )
    return Path(home) / "claude-proxy"
