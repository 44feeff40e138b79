"""Where the program keeps what is to outlive it, and what is not.

systemd names the directories that it makes for a unit; elsewhere the XDG base directories hold.
Each function raises RuntimeError when there is no home directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

NAME = "claude-proxy"


def state_directory(environ: Mapping[str, str]) -> Path:
    """``$STATE_DIRECTORY``, else the XDG state home's."""
    if (given := environ.get("STATE_DIRECTORY")) and not is_displaced(given, environ):
        return Path(given.split(":")[0])
    return xdg(environ, "XDG_STATE_HOME", ".local/state")


def is_displaced(state: str, environ: Mapping[str, str]) -> bool:
    """Before version 254, systemd has the state of a user's unit in the configuration home.

    It is not kept there, so that a shell finds what the service keeps, and the other way round.
    """
    with suppress(RuntimeError):
        return Path(state) == configuration_directory(environ)
    return False


def configuration_directory(environ: Mapping[str, str]) -> Path:
    return xdg(environ, "XDG_CONFIG_HOME", ".config")


def cache_directory(environ: Mapping[str, str]) -> Path:
    """``$CACHE_DIRECTORY``, else the XDG cache home's. Nothing is lost with it."""
    if given := environ.get("CACHE_DIRECTORY"):
        return Path(given.split(":")[0])
    return xdg(environ, "XDG_CACHE_HOME", ".cache")


def runtime_directory(environ: Mapping[str, str]) -> Path | None:
    """For what ends with the program: ``$RUNTIME_DIRECTORY``, else ``$XDG_RUNTIME_DIR``."""
    given = environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or environ.get("XDG_RUNTIME_DIR")
    return Path(given) if given and Path(given).is_dir() else None


def xdg(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    home = Path(environ.get("HOME") or "~").expanduser()
    return Path(environ.get(variable) or home / below_home) / NAME
