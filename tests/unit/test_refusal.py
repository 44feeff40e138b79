"""A start that fails: real clients of all manners in the queues of real sockets."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack

import pytest

from claude_proxy.http import refusal
from claude_proxy.http.refusal import TIME, refuse
from claude_proxy.listeners import Listener, adopted

REASON = "the key file is gone: gr\xfc\xdfe\r\nx: y"
# On top of TIME, for a machine that is busy.
SLACK = 3.0
WHOLE = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
HALF = b"POST /v1/responses HTTP/1.1\r\nhost: "
# More than the buffers of both ends hold.
LENGTH = 32 << 20
LONG = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % LENGTH


class Queues:
    """Sockets of systemd's: of both kinds, with clients that have been taken up by nobody."""

    def __init__(self, directory: str, stack: ExitStack) -> None:
        self._stack = stack
        self.servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))),
            stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6)),
            stack.enter_context(socket.socket(socket.AF_UNIX)),
        ]
        self.servers[2].bind(f"{directory}/http.sock")
        self.servers[2].listen(128)
        self.listeners: list[Listener] = [
            stack.enter_context(adopted(os.dup(one.fileno()), "http")) for one in self.servers
        ]

    def connect(self, server: socket.socket, data: bytes = b"") -> socket.socket:
        client = self._stack.enter_context(socket.socket(server.family))
        client.settimeout(20)
        client.connect(server.getsockname())
        client.sendall(data)
        return client

    def everywhere(self, count: int = 1, data: bytes = b"") -> list[socket.socket]:
        return [self.connect(server, data) for server in self.servers for _ in range(count)]


@pytest.fixture
def queues(tmp_path) -> Iterator[Queues]:
    with ExitStack() as stack:
        yield Queues(str(tmp_path), stack)


@pytest.fixture
def beside() -> Iterator[Callable[..., Future]]:
    with ThreadPoolExecutor(16) as pool:
        yield pool.submit


def answer(client: socket.socket) -> bytes:
    """To its end; ConnectionResetError instead of that."""
    return b"".join(iter(lambda: client.recv(65_536), b""))


def check(data: bytes) -> None:
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert status == "http/1.1 503 service unavailable"
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(body))
    assert headers["connection"] == "close"
    assert headers["x-should-retry"] == "false"
    assert "x" not in headers, "the reason is no header"
    error = json.loads(body)["error"]
    assert error["message"] == f"claude-proxy cannot start: {REASON}"
    assert error["code"] == "service_unavailable"


def test_where_nobody_waits_nothing_is_waited_for(queues):
    began = time.monotonic()
    assert refuse(queues.listeners, REASON) == 0
    assert refuse([], REASON) == 0
    assert time.monotonic() - began < TIME


@pytest.mark.parametrize("data", [WHOLE, HALF, b"", b"\x16\x03\x01 no HTTP"])
def test_everybody_who_waits_is_told_why(queues, beside, data):
    clients = queues.everywhere(4, data)
    began = time.monotonic()
    refusing = beside(refuse, queues.listeners, REASON)
    for client in clients:
        check(answer(client))
        client.close()
    assert refusing.result(20) == len(clients)
    assert time.monotonic() - began < TIME + SLACK


def test_who_reads_only_when_all_is_sent_sees_no_reset(queues, beside):
    """As httpx, and most others, do."""
    clients = queues.everywhere(1, LONG)

    def ask(client: socket.socket) -> bytes:
        client.sendall(bytes(LENGTH))
        data = answer(client)
        client.close()
        return data

    asking = [beside(ask, client) for client in clients]
    assert refuse(queues.listeners, REASON) == len(clients)
    for each in asking:
        check(each.result(20))


def test_silent_ones_that_stay_are_left_after_the_time(queues, beside):
    clients = queues.everywhere(3)
    began = time.monotonic()
    refusing = beside(refuse, queues.listeners, REASON)
    for client in clients:
        check(answer(client))
    assert refusing.result(20) == len(clients)
    assert TIME <= time.monotonic() - began < TIME + SLACK


def test_those_who_drip_are_left_after_the_time(queues, beside):
    """Together, and not one after another."""
    clients = queues.everywhere(5, HALF)
    began = time.monotonic()
    refusing = beside(refuse, queues.listeners, REASON)
    answers = [answer(client) for client in clients]
    while not wait([refusing], timeout=0.02).done:
        for client in clients:
            try:
                client.sendall(b"x")
            except OSError:
                assert time.monotonic() - began >= TIME, "left too early"
    assert refusing.result() == len(clients)
    assert TIME <= time.monotonic() - began < TIME + SLACK
    for data in answers:
        check(data)


def test_one_that_pours_does_not_keep_the_others_waiting(queues, beside):
    pouring = queues.connect(queues.servers[0], LONG)
    honest = queues.everywhere(2, WHOLE)

    def pour() -> int:
        sent = 0
        try:
            while True:
                sent += pouring.send(bytes(65_536))
        except OSError:
            return sent

    began = time.monotonic()
    refusing, poured = beside(refuse, queues.listeners, REASON), beside(pour)
    for client in honest:
        check(answer(client))
        client.close()
    assert refusing.result(20) == 1 + len(honest)
    assert time.monotonic() - began < TIME + SLACK
    assert poured.result(20) > 0


def test_one_that_has_gone_does_not_matter_to_the_others(queues, beside):
    closed, reset, quiet = (queues.connect(queues.servers[0], WHOLE) for _ in range(3))
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    quiet.shutdown(socket.SHUT_WR)
    closed.close()
    reset.close()
    clients = queues.everywhere(1, WHOLE)
    refusing = beside(refuse, queues.listeners, REASON)
    for client in [quiet, *clients]:
        check(answer(client))
        client.close()
    assert refusing.result(20) in (2 + len(clients), 3 + len(clients))


def test_a_socket_that_is_no_good_does_not_matter_to_the_others(queues, beside):
    broken = adopted(os.dup(queues.servers[0].fileno()), "http")
    broken.close()
    client = queues.connect(queues.servers[2], WHOLE)
    refusing = beside(refuse, [broken, *queues.listeners], REASON)
    check(answer(client))
    client.close()
    assert refusing.result(20) == 1


def test_more_than_can_be_told_at_once_wait_for_the_next(queues, beside, monkeypatch):
    monkeypatch.setattr(refusal, "MOST", 4)
    clients = queues.everywhere(2, WHOLE)
    for told in (clients[:4], clients[4:]):
        refusing = beside(refuse, queues.listeners, REASON)
        for client in told:
            check(answer(client))
            client.close()
        assert refusing.result(20) == len(told)
    assert refuse(queues.listeners, REASON) == 0
