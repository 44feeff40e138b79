"""What a user may name as a small file: real ones, pipes, devices, and none at all."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_proxy import small_file

# More than a pipe holds at once.
LONG = b"0123456789" * 20_000


@pytest.fixture
def fifo(tmp_path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def aside():
    """Runs something beside the test, and waits for its end."""
    threads: list[threading.Thread] = []

    def aside(work: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield aside
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def many_descriptors():
    """The next one is beyond what select(2) knows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1_200:
        pytest.skip("there cannot be so many")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1_200), hard))
    opened = [os.open(os.devnull, os.O_RDONLY)]
    while opened[-1] < 1_100:
        opened.append(os.dup(opened[0]))
    yield
    for descriptor in opened:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def refusal(path: Path, limit: int = small_file.LIMIT) -> int | None:
    before = open_descriptors()
    with pytest.raises(OSError, match=r"\w") as caught:
        small_file.read(path, limit)
    assert caught.value.strerror
    assert open_descriptors() == before, "it has been left open"
    return caught.value.errno


@pytest.mark.parametrize("content", [b"", b"one line\n", b"\0\xff\r\n", LONG])
def test_a_file_is_read_as_it_is(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert small_file.read(tmp_path / "file") == content


def test_an_empty_device_is_an_empty_file():
    assert small_file.read(Path(os.devnull)) == b""


def test_the_limit_itself_is_not_too_much(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert small_file.read(tmp_path / "file", 5) == b"12345"
    assert refusal(tmp_path / "file", 4) == errno.EFBIG


def test_more_than_a_small_file_has_is_refused(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(small_file.LIMIT)
        assert len(small_file.read(tmp_path / "file")) == small_file.LIMIT
        file.truncate(1 << 40)
    assert refusal(tmp_path / "file") == errno.EFBIG


def test_what_never_ends_is_refused():
    assert refusal(Path("/dev/zero")) == errno.EFBIG


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("", errno.EISDIR),
        ("gone", errno.ENOENT),
        ("file/below", errno.ENOTDIR),
        ("a\0b", errno.EINVAL),
        ("long" * 100, errno.ENAMETOOLONG),
        ("loop", errno.ELOOP),
    ],
)
def test_what_is_no_file_is_refused(tmp_path, name, number):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    assert refusal(tmp_path / name) == number


def test_a_pipe_that_nobody_writes_is_given_up_in_time(fifo, monkeypatch):
    assert small_file.PATIENCE <= 5
    monkeypatch.setattr(small_file, "PATIENCE", 0.2)
    began = time.monotonic()
    assert refusal(fifo) == errno.ETIMEDOUT
    assert 0.2 <= time.monotonic() - began < 5


def test_a_pipe_that_stays_open_is_given_up_in_time(fifo, monkeypatch):
    """However much it brings, as long as it does not end."""
    monkeypatch.setattr(small_file, "PATIENCE", 0.2)
    held = os.open(fifo, os.O_RDWR)
    os.write(held, b"half a key")
    assert refusal(fifo) == errno.ETIMEDOUT
    os.close(held)


@pytest.mark.parametrize("content", [b"", b"sk-key\n", LONG])
def test_a_named_pipe_is_read_to_its_end(fifo, aside, monkeypatch, content):
    monkeypatch.setattr(small_file, "PATIENCE", 20.0)
    aside(lambda: fifo.write_bytes(content) and None)
    assert small_file.read(fifo) == content


@pytest.mark.parametrize("content", [b"", b"sk-key\n", LONG])
def test_a_pipe_of_the_shell_s_is_read_to_its_end(aside, monkeypatch, content):
    """``<(pass show key)``."""
    monkeypatch.setattr(small_file, "PATIENCE", 20.0)
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(content)

    aside(write)
    assert small_file.read(Path(f"/dev/fd/{reading}")) == content
    assert fcntl.fcntl(reading, fcntl.F_GETFL) & os.O_NONBLOCK == 0, "it is the starter's as well"
    os.close(reading)


def test_a_pipe_whose_writer_has_gone_already_is_read(monkeypatch):
    monkeypatch.setattr(small_file, "PATIENCE", 20.0)
    reading, writing = os.pipe()
    os.write(writing, b"sk-key")
    os.close(writing)
    assert small_file.read(Path(f"/dev/fd/{reading}")) == b"sk-key"
    os.close(reading)


@pytest.mark.usefixtures("many_descriptors")
def test_many_open_connections_are_no_matter(tmp_path, fifo, monkeypatch):
    """A reload may come at any time."""
    monkeypatch.setattr(small_file, "PATIENCE", 0.1)
    (tmp_path / "file").write_text("text")
    assert small_file.read(tmp_path / "file") == b"text"
    assert refusal(fifo) == errno.ETIMEDOUT
