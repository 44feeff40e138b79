"""The listening sockets: those that are made here, and how each of them behaves."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.listeners import (
    BACKLOG,
    Listener,
    Place,
    PortTaken,
    adopted,
    bound,
    leave,
    made,
)
from claude_proxy.settings import ConfigurationError, Settings

HOSTS = ["127.0.0.1", "::1"]
# The longest queue that the kernel gives anybody.
SOMAXCONN = int(Path("/proc/sys/net/core/somaxconn").read_text())


def make(*places: str, **settings) -> list[Listener]:
    return made(Settings(listen=places, **settings))


@pytest.fixture
def path(tmp_path) -> Iterator[Path]:
    """Short: the kernel takes some hundred bytes."""
    yield (short := Path(f"/tmp/claude-proxy-test-{os.getpid()}")) / "a.sock"
    for left in short.glob("*"):
        left.unlink()
    if short.is_dir():
        short.rmdir()


def passed_one(host: str) -> Listener:
    """A socket of somebody else's with a short queue, taken over."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server:
        server.bind((host, 0))
        server.listen(7)
        return adopted(server.detach(), "")


def backlog_of(listener: socket.socket) -> int:
    """``tcpi_sacked`` of a listening socket: the length of its queue (tcp(7), tcp_diag.c)."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return struct.unpack_from("I", info, 28)[0]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("source", ["made", "passed"])
def test_small_frames_are_not_held_back(host, source):
    """Accepted connections have TCP_NODELAY, which asyncio leaves off where proto is 0."""

    async def accepted_option() -> int:
        seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def on_connect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            seen.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = passed_one(host) if source == "passed" else bound(Place(host))
        server = await asyncio.start_server(on_connect, sock=listener)
        async with server:
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            try:
                return await seen
            finally:
                writer.close()
                await writer.wait_closed()

    assert asyncio.run(accepted_option()) != 0


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("source", ["made", "passed"])
def test_the_queue_keeps_its_length_whatever_asyncio_asks_for(host, source):
    listener = passed_one(host) if source == "passed" else bound(Place(host))
    expected = 7 if source == "passed" else min(BACKLOG, SOMAXCONN)

    async def serve() -> int:
        async with await asyncio.start_server(lambda *_: None, sock=listener, backlog=128):
            return backlog_of(listener)

    assert (backlog_of(listener), asyncio.run(serve())) == (expected, expected)


def test_more_connections_wait_than_asyncio_accepts_in_a_row(path):
    """Without anybody who accepts: the kernel refuses at once what a full queue cannot take."""
    waiting = []
    (listener,) = make(str(path))

    async def fill() -> None:
        async with await asyncio.start_unix_server(lambda *_: None, sock=listener, backlog=1):
            for _ in range(min(300, SOMAXCONN)):
                client = socket.socket(socket.AF_UNIX)
                waiting.append(client)
                client.settimeout(0)
                client.connect(str(path))

    try:
        asyncio.run(fill())
        assert len(waiting) == min(300, SOMAXCONN)
    finally:
        leave([listener])
        for client in waiting:
            client.close()


def test_an_address_is_one_that_a_client_can_use(path):
    listeners = make("127.0.0.1:0", "[::1]:0", str(path))
    try:
        ports = [listener.getsockname()[1] for listener in listeners[:2]]
        assert [listener.address for listener in listeners] == [
            f"http://127.0.0.1:{ports[0]}",
            f"http://[::1]:{ports[1]}",
            f"unix:{path}",
        ]
    finally:
        leave(listeners)


def test_without_listen_host_and_port_hold():
    (listener,) = made(Settings(port=0))
    with closing(listener):
        assert listener.address == f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("place", "loopback"),
    [
        ("127.0.0.1:0", True),
        ("127.8.0.1:0", True),
        ("[::1]:0", True),
        ("0.0.0.0:0", False),
        ("[::]:0", False),
    ],
)
def test_what_others_can_reach_is_told_apart(place, loopback):
    (listener,) = make(place)
    with closing(listener):
        assert listener.is_loopback is loopback


def test_a_unix_socket_is_for_this_user_alone(path):
    umask = os.umask(0)
    try:
        (listener,) = make(f"unix:{path}")
    finally:
        assert os.umask(umask) == 0, "the umask is not as it was"
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert listener.is_loopback
    assert not listener.get_inheritable()
    leave([listener])
    assert not path.exists()
    assert listener.fileno() == -1


def test_a_socket_that_nobody_listens_on_is_replaced(path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
        gone.listen()
    (listener,) = make(str(path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        listener.accept()[0].close()
    leave([listener, listener])  # a second time does no harm
    assert not path.exists()


@pytest.mark.parametrize("what", ["listening", "file", "directory", "dangling link"])
def test_what_is_in_use_or_no_socket_stays_and_is_named(path, what):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        match what:
            case "listening":
                other.bind(str(path))
                other.listen()
            case "file":
                path.write_text("mine")
            case "directory":
                path.mkdir()
            case _:
                path.symlink_to("nowhere")
        before = path.lstat()
        with pytest.raises(PortTaken, match=rf"cannot listen on {path}: .*; see --listen"):
            make(str(path))
        assert path.lstat().st_ino == before.st_ino
        if what == "listening":
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
    if what == "directory":
        path.rmdir()


@pytest.mark.parametrize("host", HOSTS)
def test_a_taken_port_is_named(host):
    with closing(bound(Place(host))) as first:
        place = Place(host, first.getsockname()[1])
        with pytest.raises(PortTaken) as caught:
            bound(place)
    assert str(caught.value) == (
        f"cannot listen on {place}: Address already in use; see --port, --host and --listen, or "
        "`claude-proxy status`: perhaps it runs already"
    )
    assert caught.value.errno == 98


def test_addresses_that_are_not_here_are_named():
    with pytest.raises(PortTaken, match=r"192\.0\.2\.1:8080: Cannot assign requested address"):
        make(host="192.0.2.1")
    for impossible in ("a..b", "a" * 70):
        with pytest.raises(PortTaken, match="knows no such address; see --host"):
            make(host=impossible)
    with pytest.raises(PortTaken, match="path too long"):
        make("/tmp/" + "x" * 200)


# CPython's create_server leaves its socket to the collector then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("text", ["ü..b:80", "a\0b:80", "unix:/tmp/a\0b"])
def test_addresses_that_cannot_be_are_refused(text):
    with pytest.raises(ConfigurationError, match="cannot listen on '"):
        make(text)


def test_when_one_cannot_be_made_the_others_are_not_kept(path):
    with closing(bound(Place("127.0.0.1"))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)):
            make(str(path), f"127.0.0.1:{port}", "[::1]:0")
    assert not path.exists()
    with pytest.raises(ConfigurationError):
        make(str(path), "nonsense")
    assert not path.exists()
    leave(make(str(path)))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:80", Place("127.0.0.1", 80)),
        ("localhost:0", Place("localhost", 0)),
        ("[::1]:65535", Place("::1", 65_535)),
        ("[fe80::1%eth0]:1", Place("fe80::1%eth0", 1)),
        ("[::ffff:127.0.0.1]:1", Place("::ffff:127.0.0.1", 1)),
        ("/run/a.sock", Place(path=Path("/run/a.sock"))),
        ("unix:/run/a:1", Place(path=Path("/run/a:1"))),
        ("unix:a.sock", Place(path=Path("a.sock"))),
        ("~/a.sock", Place(path=Path.home() / "a.sock")),
        ("unix:~/a.sock", Place(path=Path.home() / "a.sock")),
    ],
)
def test_places_are_written_like_this(text, place):
    assert Place.of(text) == place


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":80", "80", "a", "a:", "a:-1", "a:65536", "a:123456", "a:b", "::1:80", "[::1]"),
        *("[]:1", "[a b]:1", "http://a:1", "a/b:1", "unix:", "~nobody-of-this-name/a", "a:1\n"),
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigurationError, match="cannot listen on "):
        Place.of(text)


@given(st.text() | st.from_regex(r"(unix:|~|\[)?[a-z:.\]\[%]{0,8}(:\d{0,6})?"))
def test_any_text_is_a_place_or_refused_in_one_line(text):
    refused, place = "", None
    try:
        place = Place.of(text)
    except ConfigurationError as error:
        refused = str(error)
    assert len(refused.splitlines()) == (place is None)
    assert place is None or place.path or (place.host and 0 <= place.port <= 65_535)


@given(st.sampled_from(["127.0.0.1", "::1", "a.b-c", "fe80::1%eth0"]), st.integers(0, 65_535))
def test_a_place_is_shown_as_it_can_be_written(host, port):
    assert Place.of(str(Place(host, port))) == Place(host, port)
