"""Whole records to a descriptor, whatever its reader does; what is lost is told in its place."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import termios
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.outlet import Borrowed, Duplicated, Lane, Outlet, Reopened, lane_to
from tests.unit.never_waits import never_waiting

RECORD = b"x" * 999 + b"\n"
BLOCKED = 30.0


@pytest.fixture(autouse=True)
def _never_blocked():
    with never_waiting():
        yield


def told(records: int) -> bytes:
    return b"lost %d\n" % records


@contextmanager
def outlet_over(lane: Lane, **options: int) -> Generator[Outlet, None, None]:
    with closing(Outlet(lane, told, **options)) as outlet:
        yield outlet


@contextmanager
def ends(kind: str) -> Generator[tuple[int, int], None, None]:
    """What is read and what is written, with little room in between."""
    if kind == "pipe":
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4_096)
    elif kind == "socket":
        pair = socket.socketpair()
        pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_608)
        read, write = (one.detach() for one in pair)
    else:
        read, write = os.openpty()
        modes = termios.tcgetattr(write)
        modes[1] &= ~termios.OPOST
        termios.tcsetattr(write, termios.TCSANOW, modes)
    try:
        yield read, write
    finally:
        os.close(read)
        os.close(write)


WAYS: dict[str, tuple[str, Callable[[int], Lane]]] = {
    "pipe": ("pipe", Reopened),
    "another user's pipe": ("pipe", Borrowed),
    "socket": ("socket", Duplicated),
    "socket without a number left": ("socket", Borrowed),
    "terminal": ("terminal", Reopened),
    "another user's terminal": ("terminal", Borrowed),
}


@pytest.fixture(params=WAYS)
def way(request) -> Iterator[tuple[int, int, Lane]]:
    kind, make = WAYS[request.param]
    with ends(kind) as (read, write):
        if kind == "terminal":
            termios.tcflow(write, termios.TCOOFF)
        yield read, write, make(write)


def received(read: int, outlet: Outlet) -> bytes:
    """All there is, with a reader that keeps up from now on."""
    got: list[bytes] = []

    def listen() -> None:
        while not got or not got[-1].endswith(b"end\n"):
            got.append(os.read(read, 65_536))

    reader = threading.Thread(target=listen)
    reader.start()
    while not outlet.flush(10):
        pass
    outlet.write(b"end\n")
    assert outlet.flush(10)
    reader.join()
    return b"".join(got).removesuffix(b"end\n")


def test_nobody_reads_and_nobody_waits(way):
    read, write, lane = way
    with outlet_over(lane, capacity=20_000) as outlet:
        for _ in range(500):
            outlet.write(RECORD)
        if os.isatty(write):
            termios.tcflow(write, termios.TCOON)
        *whole, last = received(read, outlet).splitlines(keepends=True)
    assert set(whole) == {RECORD}
    assert 20 <= len(whole) < 500
    assert last == told(500 - len(whole))


def test_a_reader_that_comes_late_misses_nothing_when_there_was_room(way):
    read, write, lane = way
    records = [b"%d %s" % (index, RECORD) for index in range(100)]
    with outlet_over(lane) as outlet:
        for record in records:
            outlet.write(record)
        if os.isatty(write):
            termios.tcflow(write, termios.TCOON)
        assert received(read, outlet) == b"".join(records)


def test_a_record_longer_than_what_may_wait_is_no_less_whole(way):
    read, write, lane = way
    with outlet_over(lane, capacity=1_000) as outlet:
        outlet.write(b"y" * 100_000 + b"\n")
        outlet.write(RECORD)
        if os.isatty(write):
            termios.tcflow(write, termios.TCOON)
        assert received(read, outlet) == b"y" * 100_000 + b"\n" + told(1)


@given(
    steps=st.lists(st.tuples(st.sampled_from(["write", "read"]), st.integers(1, 9_000))),
    kind=st.sampled_from([Reopened, Borrowed]),
)
def test_every_record_comes_whole_and_in_order_or_is_counted_in_its_place(steps, kind):
    written = 0
    with ends("pipe") as (read, write), outlet_over(kind(write), capacity=12_000) as outlet:
        got = b""
        for step, size in steps:
            if step == "write":
                outlet.write(b"%d %s\n" % (written, b"x" * size))
                written += 1
            else:
                os.set_blocking(read, False)
                with suppress(BlockingIOError):
                    got += os.read(read, size)
                os.set_blocking(read, True)
        got += received(read, outlet)
    index = 0
    for line in got.splitlines():
        first, _, second = line.partition(b" ")
        if first == b"lost":
            index += int(second)
        else:
            assert int(first) == index
            assert set(second) == set(b"x")
            index += 1
    assert index == written


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_the_descriptor_itself_is_left_as_it_was(kind):
    with ends(kind) as (_, write), outlet_over(lane_to(write)) as outlet:
        outlet.write(RECORD)
        assert os.get_blocking(write)
        outlet.close()
        assert os.write(write, b"still mine\n")


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_children_get_no_second_descriptor(kind):
    with ends(kind) as (_, write), outlet_over(lane_to(write)) as outlet:
        assert outlet._lane is not None
        assert outlet._lane.descriptor != write
        assert not os.get_inheritable(outlet._lane.descriptor)


def test_a_file_is_written_where_its_descriptor_stands(tmp_path):
    with (tmp_path / "log").open("wb+") as file, outlet_over(lane_to(file.fileno())) as outlet:
        os.write(file.fileno(), b"before\n")
        outlet.write(RECORD * 9)
        os.write(file.fileno(), b"after\n")
        file.seek(0)
        assert file.read() == b"before\n" + RECORD * 9 + b"after\n"


@contextmanager
def largest_file(size: int) -> Generator[None, None, None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_loses_whole_records_and_tells_how_many(tmp_path):
    with (tmp_path / "log").open("wb+") as file, outlet_over(lane_to(file.fileno())) as outlet:
        with largest_file(12):
            for number in range(5):
                outlet.write(b"record %d\n" % number)
            assert os.fstat(file.fileno()).st_size == 12
        with largest_file(18):
            outlet.write(b"record 5\n")
            assert os.fstat(file.fileno()).st_size == 18
        outlet.write(b"record 6\n")
        file.seek(0)
        assert file.read() == b"record 0\nrecord 1\nlost 4\nrecord 6\n"


def test_a_device_that_is_always_full():
    with Path("/dev/full").open("wb") as device, outlet_over(lane_to(device.fileno())) as outlet:
        outlet.write(RECORD)
        outlet.write(RECORD)
        assert not outlet.flush(60)


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_a_reader_that_has_gone(kind):
    with ends(kind) as (read, write), outlet_over(lane_to(write)) as outlet:
        outlet.write(RECORD)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, read)
        os.close(null)
        for _ in range(20):
            outlet.write(RECORD)
        assert not outlet.flush(60)


def test_a_pipe_that_has_no_reader_from_the_start():
    read, write = os.pipe()
    os.close(read)
    with outlet_over(lane_to(write)) as outlet:
        outlet.write(RECORD)
        assert not outlet.flush(60)
    os.close(write)


def test_a_descriptor_that_is_closed():
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with outlet_over(lane_to(write)) as outlet:
        outlet.write(RECORD)
        assert not outlet.flush(60)


def test_without_a_number_left_a_pipe_and_a_socket_do_as_they_are():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ends("pipe") as (_, pipe), ends("socket") as (_, sock):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            lanes = [lane_to(pipe), lane_to(sock)]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [type(lane) for lane in lanes] == [Borrowed, Borrowed]


def test_flushing_waits_for_a_reader_once():
    with ends("pipe") as (read, write), outlet_over(lane_to(write)) as outlet:
        outlet.write(RECORD * 10)
        assert not outlet.flush(0.01)
        assert not outlet.flush(10 * BLOCKED)
        assert received(read, outlet) == RECORD * 10


def test_after_the_end_nothing_is_written():
    with ends("pipe") as (read, write):
        with outlet_over(lane_to(write)) as outlet:
            pass
        outlet.write(RECORD)
        assert outlet.flush(60)
        os.set_blocking(read, False)
        with pytest.raises(BlockingIOError):
            os.read(read, 1)


class Interrupted:
    """Into a list; in the middle of the first write the collector has something logged too."""

    descriptor = -1

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.outlet: Outlet | None = None

    def write(self, data: memoryview) -> int:
        self.got.append(bytes(data[:3]))
        if self.outlet is not None:
            outlet, self.outlet = self.outlet, None
            outlet.write(b"nested\n")
        return len(self.got[-1])

    def close(self) -> None:
        pass


def test_what_is_logged_while_a_record_is_written_comes_after_it():
    lane = Interrupted()
    with outlet_over(lane) as outlet:
        lane.outlet = outlet
        outlet.write(b"first\n")
    assert b"".join(lane.got) == b"first\nnested\n"
