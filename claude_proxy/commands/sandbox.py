"""What the service's sandbox would keep it from: all of the home is its own, but links lead out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from claude_proxy.commands import unit_text
from claude_proxy.directories import cache_directory, state_directory

LOGIN_PLACE = "CLAUDE_CONFIG_DIR"


def outside(environ: Mapping[str, str]) -> dict[Path, Path]:
    """Directories that the program or its CLI writes, and where they really are, when that is
    not in the home. Raises RuntimeError when there is no home directory.
    """
    home = Path(environ.get("HOME") or "~").expanduser()
    login = environ.get(LOGIN_PLACE) or home / ".claude"
    places = (Path(login), state_directory(environ), cache_directory(environ))
    reached = {place.absolute(): Path(os.path.realpath(place)) for place in places}
    inside = os.path.realpath(home)
    return {place: real for place, real in reached.items() if not real.is_relative_to(inside)}


def closed(text: str, environ: Mapping[str, str], home: str) -> dict[Path, Path]:
    """Those of them that a unit with this text cannot write."""
    if unit_text.values(text, "ProtectSystem")[-1:] != ["strict"]:
        return {}
    words = [
        word
        for value in unit_text.values(text, "ReadWritePaths")
        for word in unit_text.split(value, home)
    ]
    writable = [os.path.realpath(word.lstrip("-+")) for word in words]
    return {
        place: real
        for place, real in outside(environ).items()
        if not any(real.is_relative_to(each) for each in writable)
    }
