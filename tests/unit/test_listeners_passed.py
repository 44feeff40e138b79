"""Sockets that systemd passes, by the protocol of sd_listen_fds(3): in a real child process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.listeners import Listener, passed
from claude_proxy.settings import ConfigurationError

ROOT = Path(__file__).parents[2]
INHERITED = True
# Puts the named descriptors at 3 and up, as systemd does, and becomes the other script.
STARTER = """\
import fcntl, os, sys
given = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[2].split(",") if fd]
for place, fd in enumerate(given):
    os.dup2(fd, 3 + place)
    os.close(fd)
os.environ["LISTEN_FDS"] = str(len(given))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
CHILD = """\
import json, os
from claude_proxy import listeners
found = listeners.passed(os.environ)
print(json.dumps([
    {"fd": one.fileno(), "name": one.name, "address": one.address, "loopback": one.is_loopback,
     "inheritable": os.get_inheritable(one.fileno()), "blocking": one.getblocking()}
    for one in found
]))
listeners.leave(found)
"""


def child(sockets: Sequence[socket.socket], **environ: str) -> list[dict[str, Any]]:
    numbers = [one.fileno() for one in sockets]
    done = subprocess.run(
        [sys.executable, "-c", STARTER, CHILD, ",".join(map(str, numbers))],
        env={"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error", **environ},
        pass_fds=numbers,
        capture_output=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return json.loads(done.stdout)


def listening(where: str) -> socket.socket:
    """``where``: an address of this machine, ``unix``, or ``abstract``."""
    if where in ("unix", "abstract"):
        server = socket.socket(socket.AF_UNIX)
        path = tempfile.mktemp(prefix="claude-proxy-", dir="/tmp")
        server.bind(path if where == "unix" else "\0" + path)
    else:
        server = socket.socket(socket.AF_INET6 if ":" in where else socket.AF_INET)
        server.bind((where, 0))
    server.listen()
    return server


@pytest.mark.parametrize(
    "places",
    [
        ["127.0.0.1"],
        ["::1"],
        ["unix"],
        ["127.0.0.1", "::1", "unix"],
        ["unix"] * 2 + ["0.0.0.0"] * 3,
        [],
    ],
)
def test_all_sockets_come_in_their_order_with_their_names(places):
    with ExitStack() as stack:
        sockets = [stack.enter_context(listening(place)) for place in places]
        names = [f"n{number}" for number in range(len(places))]
        found = child(sockets, LISTEN_FDNAMES=":".join(names))
        expected = []
        for number, (place, one) in enumerate(zip(places, sockets, strict=True)):
            address = one.getsockname()
            shown = f"[{place}]" if ":" in place else place
            at = f"unix:{address}" if place == "unix" else f"http://{shown}:{address[1]}"
            unreachable = place != "0.0.0.0"
            expected.append(
                {"fd": 3 + number, "name": names[number], "address": at, "loopback": unreachable}
                | {"inheritable": False, "blocking": False}
            )
            if place == "unix":
                assert Path(address).exists(), "the file is not ours to remove"
                Path(address).unlink()
        assert found == expected


@pytest.mark.parametrize(
    ("names", "told"), [("", ["", ""]), ("a", ["a", ""]), ("a:b:c", ["a", "b"])]
)
def test_too_few_or_too_many_names_are_no_matter(names, told):
    with listening("127.0.0.1") as one, listening("::1") as other:
        found = child([one, other], LISTEN_FDNAMES=names)
    assert [one["name"] for one in found] == told


def test_a_connection_that_waits_at_the_start_is_served():
    """It may be what has started the program."""
    with listening("127.0.0.1") as server, socket.create_connection(server.getsockname()) as client:
        (listener,) = passed(environment(1), adoptable(server))
        connection, _ = listener.accept()
        connection.sendall(b"welcome")
        connection.close()
        assert client.recv(100) == b"welcome"
        listener.leave()


def environment(count: object, **more: str) -> dict[str, str]:
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count), **more}


def adoptable(one: socket.socket) -> int:
    """A descriptor of its own, as inheritable as those of systemd."""
    descriptor = os.dup(one.fileno())
    os.set_inheritable(descriptor, INHERITED)
    return descriptor


@pytest.mark.parametrize(
    "pid",
    [None, "", "1", "x", str(os.getpid() + 1), f" {os.getpid()}"],
    ids=["none", "empty", "init", "word", "another", "blank"],
)
def test_what_is_meant_for_another_process_is_left_alone(pid):
    environ = {"LISTEN_FDS": "1"} | ({} if pid is None else {"LISTEN_PID": pid})
    with listening("127.0.0.1") as server:
        os.set_inheritable(server.fileno(), INHERITED)
        assert passed(environ, server.fileno()) == []
        assert server.get_inheritable()


@given(st.text().filter(lambda text: not text.isdecimal()))
def test_a_number_of_sockets_that_is_none_is_refused(count):
    with pytest.raises(ConfigurationError, match=r"^LISTEN_FDS is "):
        passed(environment(count))


@pytest.mark.parametrize("count", ["100000", "9" * 20, "9" * 5_000, "0" * 5_000 + "1"])
def test_a_number_of_sockets_that_no_process_has_is_refused(count):
    with listening("127.0.0.1") as server, pytest.raises(ConfigurationError) as caught:
        passed(environment(count), server.fileno())
    assert str(caught.value) == f"LISTEN_FDS is {count[:20]!r}, and no number of sockets"


def test_more_sockets_than_there_are_is_refused_and_none_is_kept():
    with listening("127.0.0.1") as server:
        first = adoptable(server)
        with pytest.raises(ConfigurationError, match=r"^descriptor \d+ .*was passed to listen on"):
            passed(environment(99_999), first)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(first)


def refusal(descriptor: int, count: int = 1, name: str = "http") -> str:
    with pytest.raises(ConfigurationError) as caught:
        passed(environment(count, LISTEN_FDNAMES=":".join([name] * count)), descriptor)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_no_socket_is_named(tmp_path):
    with (tmp_path / "file").open("w") as file:
        assert refusal(file.fileno()) == (
            f"descriptor {file.fileno()} (http) was passed to listen on, and is no socket"
        )


def test_a_descriptor_that_is_not_open_is_named():
    with listening("127.0.0.1") as server:
        closed = adoptable(server)
    os.close(closed)
    assert refusal(closed, name="") == (
        f"descriptor {closed} was passed to listen on: Bad file descriptor"
    )


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_a_datagram_socket_is_named(family):
    with socket.socket(family, socket.SOCK_DGRAM) as datagram:
        assert refusal(datagram.fileno()) == (
            f"descriptor {datagram.fileno()} (http) is no stream socket; "
            "the unit needs ListenStream="
        )
        assert datagram.getsockname() is not None, "it is closed"


def test_a_stream_of_a_family_that_speaks_no_http_is_named():
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind("")
        other.listen()
        assert "is no stream socket" in refusal(other.fileno())


def test_a_connection_in_place_of_a_listening_socket_is_named():
    """That is what a unit with Accept=yes passes."""
    with listening("127.0.0.1") as server, socket.create_connection(server.getsockname()) as client:
        assert refusal(client.fileno()) == (
            f"descriptor {client.fileno()} (http) does not listen; the unit needs Accept=no"
        )
        client.sendall(b"still open")


def test_a_bad_one_among_good_ones_is_named():
    with listening("127.0.0.1") as server:
        first = adoptable(server)
        second = first + 1
        os.dup2(0, second)
        try:
            message = refusal(first, count=2)
        finally:
            os.close(second)
    assert message.startswith(f"descriptor {second} (http) ")


def test_a_passed_socket_does_not_go_on_to_children():
    with listening("127.0.0.1") as server:
        (listener,) = passed(environment(1), adoptable(server))
        command = ["ls", "-l", "/proc/self/fd"]
        shown = subprocess.run(command, capture_output=True, check=True, text=True, close_fds=False)
        assert isinstance(listener, Listener)
        inode = os.fstat(listener.fileno()).st_ino
        assert f"socket:[{inode}]" not in shown.stdout
        listener.leave()
