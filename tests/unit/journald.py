"""journald's end of its native protocol, as in journald-native.c."""

from __future__ import annotations

import array
import fcntl
import os
import socket
from pathlib import Path

import pytest


def decoded(entry: bytes) -> list[tuple[str, bytes]]:
    """Fields in their order; as in journald-native.c."""
    fields = []
    while entry:
        line, _, rest = entry.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, end, rest = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert end == b"\n"
        fields.append((name.decode("ascii"), value))
        entry = rest
    return fields


class Journald:
    """A socket like journald's: ``entry`` is the next datagram, or what the memfd in it holds."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(0)  # a datagram is there when its sender goes on

    def entry(self) -> dict[str, bytes]:
        room = socket.CMSG_SPACE(array.array("i").itemsize)
        payload, ancillary, flags, _ = self.socket.recvmsg(1 << 20, room)
        assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        if ancillary:
            ((_, _, rights),) = ancillary
            assert payload == b""
            payload = unsealed(*array.array("i", rights))
        return dict(decoded(payload))

    def close(self) -> None:
        self.socket.close()


def unsealed(descriptor: int) -> bytes:
    try:
        assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & 0xF == 0xF
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"z", 0)
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)
