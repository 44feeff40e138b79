"""systemd's end of sd_notify(3)."""

from __future__ import annotations

import socket


class Systemd:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(0)

    def heard(self) -> list[str]:
        """What has come since the last time; a datagram is there when its sender goes on."""
        told = []
        while True:
            try:
                told.append(self._socket.recv(1 << 16).decode())
            except BlockingIOError:
                return told

    def close(self) -> None:
        self._socket.close()
