"""Crowds of clients that mean no good, or leave at once, and a daemon that serves the others."""

from __future__ import annotations

import json
import resource
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.lab import KEY, WAIT, Daemon, wait_until

FAKE = str(Path(__file__).parents[1] / "fakes" / "claude")
CROWD = 1_000
OWN_DESCRIPTORS = 200
CHAT = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
)
CHAT += f"authorization: Bearer {KEY}\r\n".encode()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    running = Daemon("--claude", FAKE, "--spares", "0", "--keep-alive", "0", "--queue", "8")
    yield running
    running.close()


@pytest.fixture(scope="module", autouse=True)
def crowd() -> Iterator[int]:
    """How many sockets there may be here at a time; the limit is put back afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = before
    wanted = CROWD + OWN_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    yield CROWD if soft == resource.RLIM_INFINITY else min(CROWD, soft - OWN_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def asking(text: str) -> bytes:
    messages = [{"role": "user", "content": text}]
    body = json.dumps({"model": "sonnet", "stream": True, "messages": messages}).encode()
    return CHAT + b"content-length: %d\r\n\r\n" % len(body) + body


def connected(daemon: Daemon, stack: ExitStack, data: bytes = b"") -> socket.socket:
    address = httpx.URL(daemon.url)
    client = socket.create_connection((address.host, address.port), timeout=20)
    stack.callback(client.close)
    client.sendall(data)
    return client


def descriptors(daemon: Daemon) -> int:
    """Those of clients and of processes."""
    found = []
    for entry in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            found.append(str(entry.readlink()))
    return sum(target.startswith(("socket:", "pipe:")) for target in found)


def idle(daemon: Daemon) -> bool:
    health = daemon.client.get("/health", headers={"accept": "application/json"}).json()
    return (health["sessions"]["running"], health["queue"]) == (0, 0)


@contextmanager
def served_meanwhile(daemon: Daemon) -> Iterator[None]:
    """Somebody else's requests are answered all the time, from before the crowd comes on."""
    begun, over = threading.Event(), threading.Event()
    statuses: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=daemon.url, timeout=20) as client:
            while not over.is_set():
                statuses.append(client.get("/health").status_code)
                begun.set()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert begun.wait(WAIT)
        yield
    finally:
        over.set()
        thread.join()
    assert set(statuses) == {200}


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


STAGES = {
    "silent": b"",
    "half a head": b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthoriz",
    "half a body": CHAT + b"content-length: 100\r\n\r\n{",
    "no HTTP": b"no HTTP at all\r\n\r\n",
    "before the answer": asking("silent"),
    "in mid-answer": asking("silent-amid"),
    "before it reads": b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_thousand_clients_that_leave_at_once_leave_nothing_behind(daemon, crowd, stage):
    idle(daemon)
    before = descriptors(daemon)
    with ExitStack() as stack, served_meanwhile(daemon):
        clients = [connected(daemon, stack, STAGES[stage]) for _ in range(crowd)]
        if stage == "in mid-answer":
            assert next(
                data for data in iter(lambda: clients[0].recv(65_536), b"") if b"one " in data
            )
        for number, client in enumerate(clients):
            (reset if number % 2 else socket.socket.close)(client)
    assert wait_until(lambda: descriptors(daemon) <= before, 20), descriptors(daemon)
    assert wait_until(lambda: not daemon.turns())
    assert wait_until(lambda: idle(daemon))
    assert daemon.chat("fine").json()["choices"][0]["message"]["content"] == "fine"
    strange = [line for line in daemon.log.lines if '"level": "error"' in line]
    assert strange == []


@contextmanager
def limit_of(daemon: Daemon, soft: int) -> Iterator[None]:
    """On the descriptors of the daemon while it runs."""
    pid, kind = daemon.process.pid, resource.RLIMIT_NOFILE
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, before)


def test_the_limit_on_descriptors_is_raised(daemon):
    soft, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    assert soft == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))


def test_a_crowd_that_says_nothing_keeps_nobody_out(start):
    daemon = start("--claude", FAKE, "--spares", "0")
    # Of 400, those are taken off that are for 16 processes and the rest: 80 are left.
    with limit_of(daemon, 400), ExitStack() as stack:
        daemon.process.send_signal(signal.SIGHUP)
        daemon.log.wait_for("daemon.reloaded")
        silent = [connected(daemon, stack) for _ in range(80)]
        assert wait_until(lambda: descriptors(daemon) >= 80)
        assert wait_until(lambda: httpx.get(f"{daemon.url}/health").status_code == 200)
        assert b"overloaded" in silent[0].recv(65_536)
        assert daemon.chat("fine").status_code == 200
        refused = daemon.log.wait_for("connection.refused", code="overloaded")
        assert refused["status"] == 503


def test_without_descriptors_the_log_has_one_line_and_nobody_is_lost(start):
    daemon = start("--claude", FAKE, "--spares", "0")
    daemon.client.get("/health")
    taken = len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))
    with ExitStack() as stack:
        with limit_of(daemon, taken + 3):
            get = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
            clients = [connected(daemon, stack, get) for _ in range(40)]
            line = daemon.log.wait_for("connections.not_accepted")
            assert (line["level"], line["times"]) == ("error", 1)
            assert "Too many open files" in line["reason"]
        for client in clients:
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
    assert len(daemon.log.records("connections.not_accepted")) == 1
    assert not [line for line in daemon.log.lines if "socket.accept" in line]
