"""Whether an address is free, and who has it if not; nobody is spoken to, so nothing wakes up."""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import closing, suppress
from pathlib import Path

from claude_proxy.listeners import Place

PROC = Path("/proc")
LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp, see proc(5)


def problem(place: Place) -> str | None:
    """Why ``place`` cannot be listened on; None when it can, or is a path."""
    if place.path is not None or place.port == 0:
        return None
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((place.host, place.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"{place} is taken by {holder(place.port)}"
        return f"{place} cannot be listened on: {error.strerror}"
    return None


def holder(port: int, proc: Path = PROC) -> str:
    """``nginx (PID 12)``, or as much of it as this user may know."""
    owners = listening(port, proc)
    for inode in owners:
        if (pid := process_with(inode, proc)) is not None:
            name = text(proc / str(pid) / "comm").strip() or "a process"
            return f"{name} (PID {pid})"
    users = {user for user in owners.values() if user != str(os.getuid())}
    return f"a process of user {users.pop()}" if users else "another process"


def listening(port: int, proc: Path) -> dict[str, str]:
    """The sockets on that port, whatever their address: user id by inode."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in text(proc / "net" / table).splitlines()[1:]:
            fields = line.split()
            local = fields[1].rpartition(":")[2]
            if fields[3] == LISTENING and int(local, 16) == port:
                found[fields[9]] = fields[7]
    return found


def process_with(inode: str, proc: Path) -> int | None:
    """The first process that has this socket open, among those this user may look into."""
    pids = sorted(int(path.name) for path in proc.iterdir() if re.fullmatch(r"\d+", path.name))
    for pid in pids:
        with suppress(OSError):
            for descriptor in (proc / str(pid) / "fd").iterdir():
                with suppress(OSError):
                    if os.readlink(descriptor) == f"socket:[{inode}]":  # noqa: PTH115 - no path
                        return pid
    return None


def text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
