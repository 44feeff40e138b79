"""The listening sockets: those that systemd passes, else those that the settings name."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from claude_proxy.settings import ConfigurationError, Settings

FIRST_PASSED = 3
LONGEST_COUNT = 5  # digits
# For the sockets made here. systemd's keep the one of their unit, where connections wait during a
# restart.
BACKLOG = 1_024
PROBE_TIMEOUT = 1.0


class PortTaken(Exception):
    """An address cannot be listened on (exit code 69, EX_UNAVAILABLE); ``errno`` says why."""

    def __init__(self, message: str, errno: int | None) -> None:
        super().__init__(message)
        self.errno = errno


class Listener(socket.socket):
    """Listening already. Its ``proto`` is known, without which asyncio leaves TCP_NODELAY off and
    every second small frame waits some 40 ms for an acknowledgement (measured).
    """

    name = ""
    made_path: Path | None = None

    def listen(self, backlog: int = 0, /) -> None:
        """Nothing: asyncio would replace the backlog by the number of connections that it accepts
        in a row.
        """

    @property
    def address(self) -> str:
        """As a client writes it: an HTTP URL, or ``unix:`` and the path."""
        if self.family == socket.AF_UNIX:
            name = os.fsdecode(self.getsockname())
            return f"unix:@{name[1:]}" if name.startswith("\0") else f"unix:{name}"
        return f"http://{bracketed(self.getsockname()[0])}:{self.getsockname()[1]}"

    @property
    def is_loopback(self) -> bool:
        if self.family == socket.AF_UNIX:
            return True
        return ipaddress.ip_address(self.getsockname()[0].partition("%")[0]).is_loopback

    def leave(self) -> None:
        """Closes it, and takes away the file of a UNIX socket that was made here."""
        if self.made_path is not None:
            with suppress(OSError):
                self.made_path.unlink()
        self.close()


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen: a path, or a host and a port."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @classmethod
    def of(cls, text: str) -> Self:
        """Raises ConfigurationError."""
        if text.startswith(("/", "unix:", "~")) and text != "unix:":
            try:
                return cls(path=Path(text.removeprefix("unix:")).expanduser())
            except (RuntimeError, ValueError):
                raise ConfigurationError(f"cannot listen on {text!r}: no such home") from None
        found = re.fullmatch(r"(?:\[([\da-fA-F:.%\w]+)\]|([^:\[\]/]+)):(\d{1,5})", text)
        if found is None or int(found[3]) > 65_535:
            raise ConfigurationError(
                f"cannot listen on {text!r}: expected ADDRESS:PORT, [IPV6]:PORT or /path"
            )
        return cls(host=found[1] or found[2], port=int(found[3]))

    @property
    def address(self) -> str:
        """As that of the Listener there, where ``host`` is an address and no name."""
        return f"unix:{self.path}" if self.path else f"http://{self}"

    def __str__(self) -> str:
        return str(self.path) if self.path else f"{bracketed(self.host)}:{self.port}"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def passed(environ: Mapping[str, str], first: int = FIRST_PASSED) -> list[Listener]:
    """The sockets that systemd, or another starter of its kind, has opened for this process.

    The protocol is that of sd_listen_fds(3). Raises ConfigurationError for anything that is not
    a listening stream socket.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environ.get("LISTEN_FDS", "")
    if not (count.isdecimal() and len(count) <= LONGEST_COUNT):
        raise ConfigurationError(f"LISTEN_FDS is {count[:20]!r}, and no number of sockets")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (int(count) - len(names))
    listeners: list[Listener] = []
    try:
        for index in range(int(count)):
            listeners.append(adopted(first + index, names[index]))  # noqa: PERF401 - as in ``made``
    except ConfigurationError:
        leave(listeners)
        raise
    return listeners


def adopted(descriptor: int, name: str) -> Listener:
    shown = f"descriptor {descriptor}" + (f" ({name})" if name else "")
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise ConfigurationError(f"{shown} was passed to listen on, and is no socket")
        os.set_inheritable(descriptor, False)  # noqa: FBT003
        listener = Listener(fileno=descriptor)
    except OSError as error:
        raise ConfigurationError(f"{shown} was passed to listen on: {error.strerror}") from None
    listener.name = name
    kind = listener.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    known = listener.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if kind != socket.SOCK_STREAM or not known:
        listener.detach()
        raise ConfigurationError(f"{shown} is no stream socket; the unit needs ListenStream=")
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise ConfigurationError(f"{shown} does not listen; the unit needs Accept=no")
    listener.settimeout(0)
    return listener


def places(settings: Settings) -> list[Place]:
    """Raises ConfigurationError."""
    given = [Place.of(text) for text in settings.listen]
    return given or [Place(settings.host, settings.port)]


def made(settings: Settings) -> list[Listener]:
    """All of ``listen``, else ``host`` and ``port``. Raises PortTaken or ConfigurationError."""
    listeners: list[Listener] = []
    try:
        for place in places(settings):
            listeners.append(bound(place))  # noqa: PERF401 - those before a failure must be closed
    except BaseException:
        leave(listeners)
        raise
    return listeners


def check_reach(exposed: Sequence[str], settings: Settings) -> None:
    """``exposed``: addresses that others can reach. Raises ConfigurationError when there are some,
    and nobody has allowed it.
    """
    if exposed and not settings.allow_remote:
        raise ConfigurationError(
            f"{exposed[0]} can be reached from other machines. Whoever has the key could use your "
            "Claude account from there, and key, prompts and answers would pass the network "
            "unencrypted: better keep to 127.0.0.1 and go through ssh -L, a VPN or a reverse "
            "proxy with TLS. If you mean it, --allow-remote (CLAUDE_PROXY_ALLOW_REMOTE=true)"
        )


def bound(place: Place) -> Listener:
    try:
        return bound_path(place.path) if place.path else bound_address(place.host, place.port)
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else str(error)
        hint = "--listen" if place.path else "--port, --host and --listen"
        if number == errno.EADDRINUSE:
            hint += ", or `claude-proxy status`: perhaps it runs already"
        if number < 0:  # of getaddrinfo, which create_server passes on as an error of its own
            reason = "this machine knows no such address"
            hint = "--host, --listen and the variable HOST"
        raise PortTaken(f"cannot listen on {place}: {reason}; see {hint}", error.errno) from None
    except (TypeError, ValueError):  # a NUL, or what no host name can be
        raise ConfigurationError(f"cannot listen on {str(place)!r}: no address is so") from None


def bound_address(host: str, port: int) -> Listener:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.create_server((host, port), family=family, backlog=BACKLOG)
    return Listener(fileno=server.detach())


def bound_path(path: Path) -> Listener:
    """Mode 0600. A socket that nobody listens on any more is replaced, any other file is not."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_stale(path)
    before = os.umask(0o177)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.bind(str(path))
            server.listen(BACKLOG)
            listener = Listener(fileno=server.detach())
    finally:
        os.umask(before)
    listener.made_path = path
    return listener


def remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def leave(listeners: Sequence[Listener]) -> None:
    for listener in listeners:
        listener.leave()
