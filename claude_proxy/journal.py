"""systemd-journald's native protocol, the client's side: one datagram a record, fields by name.

Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL, systemd.journal-fields(7), and systemd's
journal-send.c and journald-native.c for what the two leave open.
"""

from __future__ import annotations

import array
import errno
import fcntl
import functools
import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress

SOCKET = "/run/systemd/journal/socket"
# What sd_journal_send asks for; the kernel gives no more than net.core.wmem_max.
SEND_BUFFER = 8 << 20
LONGEST_NAME = 64
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
TOO_LARGE = frozenset({errno.EMSGSIZE, errno.ENOBUFS})

CONTROLS = bytes([*range(32), 127])
ODD = re.compile(r"[^A-Z0-9_]")

# Names with a meaning of their own: those of systemd.journal-fields(7), what systemd, logind and
# coredump put into their own entries, and what would pass for a trusted field but for the "_".
RESERVED = re.compile(
    r"""
    MESSAGE | MESSAGE_ID | PRIORITY | CODE_.* | ERRNO | (USER_)?INVOCATION_ID | SYSLOG_.*
    | DOCUMENTATION | TID | (USER_)?UNIT | COREDUMP.* | OBJECT_.*
    | JOB_.* | UNIT_RESULT | SESSION_ID | USER_ID | SEAT_ID | LEADER | COMMAND | EXECUTABLE
    | EXIT_CODE | EXIT_STATUS | RESULT | N_RESTARTS | (USERSPACE|KERNEL|INITRD)_USEC
    | (CPU_USAGE|MEMORY|IO_METRIC|IP_METRIC)_.*
    | PID | UID | GID | COMM | EXE | CMDLINE | CAP_EFFECTIVE | AUDIT_.* | SYSTEMD_.*
    | SELINUX_CONTEXT | SOURCE_.* | BOOT_ID | MACHINE_ID | HOSTNAME | TRANSPORT | STREAM_ID
    | LINE_BREAK | NAMESPACE | RUNTIME_SCOPE | KERNEL_.* | UDEV_.*
    """,
    re.VERBOSE,
)

# Names come from the program's text: a few dozen.
NAMES_KEPT = 1_024


@functools.lru_cache(maxsize=NAMES_KEPT)
def field_name(key: str) -> str:
    """What journald accepts: A-Z, 0-9 and _, at first a letter, at most 64 characters."""
    name = ODD.sub("_", key.upper())
    if not name[:1].isalpha():
        name = f"X{name}"
    return name[:LONGEST_NAME]


def encode(fields: Mapping[str, str | bytes]) -> bytes:
    """One entry. Text is UTF-8, lone surrogates as ``\\udXXX``."""
    return b"".join(encoded(field_name(key), value) for key, value in fields.items())


def encoded(name: str, value: str | bytes) -> bytes:
    data = value.encode("utf-8", "backslashreplace") if isinstance(value, str) else value
    if len(data.translate(None, CONTROLS)) < len(data):  # ten times as fast as a search
        size = len(data).to_bytes(8, "little")
        return b"%b\n%b%b\n" % (name.encode("ascii"), size, data)
    return b"%b=%b\n" % (name.encode("ascii"), data)


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether this is the stream to journald that systemd gave the program as its stderr."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def sealed(payload: bytes) -> int:
    """A memfd that nobody can change any more, for the caller to close. Raises OSError."""
    descriptor = os.memfd_create("claude-proxy-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(payload)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class Journal:
    """journald, by the path of its socket: looked up at each record, so it may come and go."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._closed = False
        self._socket: socket.socket | None = None

    def send(self, fields: Mapping[str, str | bytes]) -> bool:
        """Whether journald has it. Never waits, never raises OSError."""
        payload = encode(fields)
        try:
            return self._send(payload)
        except OSError:
            return False

    def close(self) -> None:
        self._closed = True
        if self._socket is not None:
            self._socket.close()

    def _send(self, payload: bytes) -> bool:
        if self._closed:
            return False
        if self._socket is None:
            self._socket = opened()
        try:
            self._socket.sendto(payload, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self._path)
        except OSError as error:
            if error.errno not in TOO_LARGE:
                raise
            self._pass(self._socket, payload)
        return True

    def _pass(self, through: socket.socket, payload: bytes) -> None:
        descriptor = sealed(payload)
        try:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
            flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            through.sendmsg([], [rights], flags, self._path)
        finally:
            os.close(descriptor)


def opened() -> socket.socket:
    """Raises OSError, as under RestrictAddressFamilies= without AF_UNIX."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return one
