"""What the text of a service's unit says, its drop-ins behind it. Pure.

The syntax is that of systemd.syntax(7), and of EnvironmentFile= in systemd.exec(5).
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from claude_proxy.api_key import CREDENTIAL, NO_FILE


def values(text: str, setting: str) -> list[str]:
    """What a unit and its drop-ins give a setting; an empty value forgets those before it."""
    found: list[str] = []
    unfolded = re.sub(r"\\\n(?:[#;].*\n)*", " ", text)
    for value in re.findall(rf"^{setting}[ \t]*=[ \t]*(.*?)[ \t]*$", unfolded, re.MULTILINE):
        found = [*found, value] if value else []
    return found


def split(value: str, home: str) -> list[str]:
    """The words of a value; none when a quotation mark is open."""
    try:
        return [expanded(word, home) for word in shlex.split(value)]
    except ValueError:
        return []


def words_of(text: str, home: str = "%h") -> list[str]:
    """The words of a unit's ``ExecStart=``, the last one that is not empty; none without one."""
    found = values(text, "ExecStart")
    words = split(found[-1].lstrip("-@:+!|"), home) if found else []
    return [word.replace("$$", "$") for word in words]


def credential_of(text: str, home: str = "%h") -> str | None:
    """The file that the key is loaded from."""
    path = named(text, "LoadCredential")
    return expanded(path, home) if path else None


def key_in(text: str) -> str | None:
    """The key that stands in the unit itself, where there is one."""
    value = named(text, "SetCredential")
    return expanded(value, "%h") if value and value != NO_FILE else None


def named(text: str, setting: str) -> str | None:
    """The value of the credential that holds the key, the last one."""
    pairs = [value.partition(":") for value in values(text, setting)]
    return next((value for name, _, value in reversed(pairs) if name == CREDENTIAL), None)


def variables_of(text: str, home: str = "%h") -> dict[str, str]:
    """Of the unit's ``Environment=``."""
    words = [word for value in values(text, "Environment") for word in split(value, home)]
    return {name: value for name, sign, value in (word.partition("=") for word in words) if sign}


def unset(text: str) -> set[str]:
    """Names of the variables that ``UnsetEnvironment=`` takes away, whoever has set them."""
    return {word for value in values(text, "UnsetEnvironment") for word in split(value, "%h")}


def environment_files(text: str, home: str = "%h") -> list[Path]:
    """Of ``EnvironmentFile=``; one that need not be there has a ``-`` before it."""
    return [Path(expanded(value.lstrip("-"), home)) for value in values(text, "EnvironmentFile")]


def variables_in(text: str) -> dict[str, str]:
    """Of such a file, as systemd reads it: a variable a line, quotation marks as in a shell."""
    found = {}
    for line in re.sub(r"\\\n", "", text).splitlines():
        name, sign, value = line.strip().partition("=")
        if sign and not name.startswith(("#", ";")):
            found[name.strip()] = " ".join(split(value, "%h")) if value.strip() else ""
    return found


def expanded(text: str, home: str) -> str:
    """Those of systemd's specifiers that stand in units of this program's."""
    known = {"%%": "%", "%h": home, "%t": f"/run/user/{os.getuid()}"}
    return re.sub(r"%[%ht]", lambda it: known[it[0]], text)
