"""The text of the two units: what is shipped, made into what is to run here. Pure.

Quoting is that of systemd.syntax(7) and of "COMMAND LINES" in systemd.service(5).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from claude_proxy.api_key import CREDENTIAL as CREDENTIAL_NAME
from claude_proxy.api_key import NO_FILE
from claude_proxy.commands import unit_text
from claude_proxy.listeners import Place, bracketed
from claude_proxy.settings import FLAGS, OPTIONS, ConfigurationError

SERVICE = "claude-proxy.service"
SOCKET = "claude-proxy.socket"
BOTH = "'claude-proxy.*'"  # as a pattern, quoted for a shell
MARK = "# Written by claude-proxy install "
CREDENTIAL = f"LoadCredential={CREDENTIAL_NAME}:"
# Taken where that file is not there: the program then says so, which systemd would not to clients.
OTHERWISE = f"SetCredential={CREDENTIAL_NAME}:{NO_FILE}"
# What stands in the shipped units for what is written anew.
OWN_PATH = re.compile(r'Environment="?PATH=')
OUR_RUNTIME = "%t/"


@dataclass(frozen=True, slots=True)
class Command:
    """What the service runs. ``flags`` as ``--name=value`` words, ``credential`` a key's file,
    ``writable`` what the sandbox is to leave writable outside of the home directory.
    """

    program: Sequence[str]
    flags: Sequence[str]
    environment: Mapping[str, str]
    credential: Path | None = None
    writable: Sequence[Path] = ()


def mark(version: str, name: str) -> str:
    edit = f"`systemctl --user edit {name}`"
    return f"{MARK}{version}; the next install overwrites it, {edit} makes what lasts"


def marked(text: str) -> str | None:
    """The version that wrote ``text``; None when it was not written by install."""
    found = re.match(re.escape(MARK) + r"(\S+?);", text)
    return found[1] if found else None


def literal(text: str) -> str:
    """For a setting whose value systemd does not unquote, but searches for specifiers."""
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text) or text.endswith("\\"):
        raise ConfigurationError(f"{text!a} cannot stand in a unit file")
    return text.replace("%", "%%")


def quoted(text: str) -> str:
    escaped = literal(text + '"')[:-1].replace("\\", "\\\\").replace('"', '\\"')
    return escaped if re.fullmatch(r"[\w@%+=:,./-]+", escaped, re.ASCII) else f'"{escaped}"'


def command_line(words: Iterable[str]) -> str:
    """systemd replaces variables in the arguments, but not in the program's own path."""
    program, *arguments = words
    return " ".join([quoted(program), *(quoted(each.replace("$", "$$")) for each in arguments)])


def assignment(name: str, value: str) -> str:
    return f"Environment={quoted(f'{name}={value}')}"


def flags_of(words: Sequence[str]) -> dict[str, str]:
    """The flags among a command's words and their values; of one given twice, the last."""
    options = {option.flag: option for option in OPTIONS.values()}
    flags: dict[str, str] = {}
    before = ""
    for word in words:
        name, sign, value = word.partition("=")
        if name in options:
            flags[name] = value
        elif before in options and options[before].name not in FLAGS:
            flags[before] = word
        before = "" if sign else name
    return flags


def as_words(flags: Mapping[str, str]) -> list[str]:
    takes_none = {OPTIONS[name].flag for name in FLAGS}
    return [name if name in takes_none else f"{name}={value}" for name, value in flags.items()]


def service(shipped: str, version: str, command: Command) -> str:
    """Flags of the shipped unit stay unless they are given anew. Raises ConfigurationError."""
    kept = flags_of(unit_text.words_of(shipped)[1:])
    for flag in command.flags:
        kept.pop(flag.partition("=")[0], None)
    line = command_line([*command.program, *as_words(kept), *command.flags])
    start = f"ExecStart={line}"
    own = [assignment(name, value) for name, value in command.environment.items()]
    own += [f"ReadWritePaths={quoted(f'-{path}')}" for path in command.writable]
    if command.credential is not None:
        own += [CREDENTIAL + literal(str(command.credential)), OTHERWISE]
    lines = [mark(version, SERVICE)]
    for each in shipped.splitlines():
        if each.startswith("ExecStart="):
            lines.append(start)
        elif OWN_PATH.match(each):
            lines += own
        # What stands later would win.
        elif not (command.credential and each.startswith((CREDENTIAL, OTHERWISE))):
            lines.append(each)
    if lines.count(start) != 1 or lines.count(own[0]) != 1:
        raise ConfigurationError(f"the shipped {SERVICE} has not one ExecStart= and one PATH")
    return "\n".join(lines) + "\n"


def socket(shipped: str, version: str, places: Sequence[Place]) -> str:
    """It listens on ``places``, and on the socket in the user's runtime directory as shipped."""
    lines = [mark(version, SOCKET)]
    for line in shipped.splitlines():
        name, _, value = line.partition("=")
        if name == "ListenStream" and not value.startswith(OUR_RUNTIME):
            continue
        lines.append(line)
        if line == "[Socket]":
            lines += [f"ListenStream={address_of(place)}" for place in places]
            lines += peculiarities(places)
    return "\n".join(lines) + "\n"


def address_of(place: Place) -> str:
    """Raises ConfigurationError: systemd looks no names up."""
    if place.path is not None:
        return literal(str(place.path))
    if place.port == 0:
        raise ConfigurationError("a socket of systemd's needs a port of its own: --port 0 is none")
    host, _, zone = place.host.partition("%")
    scope = f"%{zone}" if zone else ""
    return literal(f"{bracketed(numeric(host))}:{place.port}{scope}")


def numeric(host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ConfigurationError(
            f"a socket of systemd's needs an address, and {host!r} is a name"
        ) from None


def peculiarities(places: Sequence[Place]) -> list[str]:
    """What makes systemd's sockets like those that the daemon opens itself."""
    hosts = [numeric(place.host.partition("%")[0]) for place in places if place.path is None]
    addresses = [ipaddress.ip_address(host) for host in hosts]
    lines = []
    if any(address.version == 6 for address in addresses):
        lines.append("BindIPv6Only=ipv6-only")
    if any(not (address.is_loopback or address.is_unspecified) for address in addresses):
        lines.append("FreeBind=yes")  # at login the network may not be there yet
    return lines
