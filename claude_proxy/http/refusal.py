"""A start that fails, told to the clients whose connections have caused it.

They wait in systemd's sockets. Left there, they would start the program again and again until
systemd gives the sockets up, and would never hear why.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from http import HTTPStatus

from claude_proxy.errors import CannotStart, ProxyError, openai_body
from claude_proxy.listeners import Listener

# For all of them together, however slowly they speak: the program is about to end.
TIME = 1.0
# The others find the next start.
MOST = 512
READ_SIZE = 65_536


def refuse(listeners: Sequence[Listener], reason: str) -> int:
    """Answers everybody who waits with 503 and ``reason``; returns how many those were."""
    answer = response(CannotStart(f"claude-proxy cannot start: {reason}"))
    with ExitStack() as stack:
        waiting = [stack.enter_context(each) for each in accepted(listeners)]
        for connection in waiting:
            connection.settimeout(0)
            with suppress(OSError):  # gone already
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
        see_off(waiting)
    return len(waiting)


def accepted(listeners: Sequence[Listener]) -> list[socket.socket]:
    found: list[socket.socket] = []
    for listener in listeners:
        with suppress(OSError):  # nobody is left
            while len(found) < MOST:
                found.append(listener.accept()[0])
    return found


def see_off(connections: Sequence[socket.socket]) -> None:
    """Until they have closed: what is unread at a close would make it a reset, and no answer."""
    left = {connection.fileno(): connection for connection in connections}
    poll = select.poll()
    for descriptor in left:
        poll.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + TIME
    while left and (seconds := deadline - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(seconds * 1_000):
            if is_over(left[descriptor]):
                poll.unregister(descriptor)
                del left[descriptor]


def is_over(connection: socket.socket) -> bool:
    try:
        return not connection.recv(READ_SIZE)
    except BlockingIOError:
        return False
    except OSError:
        return True


def response(error: ProxyError) -> bytes:
    """A whole one, the last of its connection, for where no server runs, or none understands."""
    body = openai_body(error)
    headers = error.headers() | {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
    }
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
