"""A start that fails, told to the clients whose connections have caused it.

They wait in systemd's sockets. Left there, they would start the program again and again until
systemd gives the sockets up, and would never hear why.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress

from claude_proxy.errors import CannotStart, openai_body
from claude_proxy.listeners import Listener

# For reading each request, so that its client is listening when it is answered.
PATIENCE = 0.5
LONGEST_READ = 1 << 20
# For all of them: the program is about to end.
WHOLE_TIME = 3.0


def refuse(listeners: Sequence[Listener], reason: str) -> int:
    """Answers everybody who waits with 503 and ``reason``; returns how many those were."""
    answer = response(reason)
    deadline = time.monotonic() + WHOLE_TIME
    count = 0
    for listener in listeners:
        with suppress(OSError):  # nobody is left
            while time.monotonic() < deadline:
                connection, _ = listener.accept()
                count += 1
                with connection, suppress(OSError):
                    answer_one(connection, answer)
    return count


def answer_one(connection: socket.socket, answer: bytes) -> None:
    connection.settimeout(PATIENCE)
    with suppress(TimeoutError):
        read_request(connection)
    connection.sendall(answer)
    connection.shutdown(socket.SHUT_WR)
    with suppress(TimeoutError):  # what is unread at the end would make it a reset
        while connection.recv(LONGEST_READ):
            pass


def read_request(connection: socket.socket) -> None:
    """What has come: the head at least, where the client has sent it."""
    seen = b""
    while b"\r\n\r\n" not in seen and len(seen) < LONGEST_READ:
        data = connection.recv(LONGEST_READ)
        if not data:
            return
        seen += data


def response(reason: str) -> bytes:
    error = CannotStart(f"claude-proxy cannot start: {reason}")
    body = openai_body(error)
    headers = error.headers() | {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
    }
    lines = [f"HTTP/1.1 {error.status} Service Unavailable"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
