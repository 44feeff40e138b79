"""The configuration file: any setting by its flag's name, in TOML, but never the key itself."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claude_proxy import small_file
from claude_proxy.directories import configuration_directory
from claude_proxy.settings import OPTIONS, ConfigurationError

NAME = "config.toml"
# A file is copied, shown and kept in a Nix store; it names the key's own file instead.
ELSEWHERE = {
    "api_key": "a configuration file is no place for a key: name its file with api-key-file",
    "config": "a configuration file cannot name another one",
}


def find(given: str | None, environ: Mapping[str, str]) -> Path | None:
    """``given``, which must be there, else the one in the XDG configuration home if it is.

    Raises ConfigurationError.
    """
    if given is not None:
        try:
            return Path(given).expanduser()
        except (RuntimeError, ValueError):
            raise ConfigurationError(f"cannot read {given}: no such home directory") from None
    try:
        path = configuration_directory(environ) / NAME
        return path if path.exists() else None
    # No home directory, or one that is not ours to look into.
    except (OSError, RuntimeError, ValueError):
        return None


def read(path: Path) -> dict[str, Any]:
    """Values as TOML has them, by field. Raises ConfigurationError."""
    import tomllib  # noqa: PLC0415 - most starts have no such file

    try:
        table = tomllib.loads(small_file.read(path).decode())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # neither text, TOML nor sane
        reason = ascii(str(error)[:200])[1:-1]
        raise ConfigurationError(f"{path}: not TOML: {reason}") from None
    return {field_of(key, path): value for key, value in table.items()}


def field_of(key: str, path: Path) -> str:
    """The field that a key stands for, written with - or _."""
    known = {option.key: option.name for option in OPTIONS.values()}
    name = known.get(key.replace("_", "-"))
    if name is None:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; `claude-proxy man` has all of them"
        raise ConfigurationError(f"{path}: unknown setting {ascii(key)[1:-1]}{hint}")
    if name in ELSEWHERE:
        raise ConfigurationError(f"{path}: {ELSEWHERE[name]}")
    return name
