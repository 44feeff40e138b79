"""journald's native protocol, against a datagram socket that reads it as journald does."""

from __future__ import annotations

import os
import resource
import socket
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy import journal
from claude_proxy.journal import Journal
from tests.unit.journald import Journald, decoded
from tests.unit.never_waits import never_waiting

NAMES = st.from_regex(r"\A[A-Z][A-Z0-9_]{0,63}\Z")


@pytest.fixture(autouse=True)
def _never_blocked():
    with never_waiting():
        yield


@pytest.fixture
def journald() -> Iterator[Journald]:
    # pytest's own directories may be too long for a socket's path.
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(Journald(Path(directory) / "socket")) as one,
    ):
        yield one


@pytest.fixture
def sender(journald) -> Iterator[Journal]:
    with closing(Journal(journald.path)) as one:
        yield one


@contextmanager
def most_descriptors(number: int) -> Generator[None, None, None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_two_forms_of_a_field():
    entry = journal.encode({"EVENT": "a=b", "TEXT": "two\nlines", "RAW": b"\x00\xff"})
    assert entry == (
        b"EVENT=a=b\nTEXT\n\x09\0\0\0\0\0\0\0two\nlines\nRAW\n\x02\0\0\0\0\0\0\0\x00\xff\n"
    )


@given(st.dictionaries(NAMES, st.text() | st.binary()))
def test_what_is_encoded_can_be_read(fields):
    as_bytes = [
        (name, value if isinstance(value, bytes) else value.encode("utf-8", "backslashreplace"))
        for name, value in fields.items()
    ]
    assert decoded(journal.encode(fields)) == as_bytes


@given(st.text())
def test_whatever_a_key_is_its_name_is_one_that_journald_takes(key):
    name = journal.field_name(key)
    ((read, value),) = decoded(journal.encode({key: "value"}))
    assert (read, value) == (name, b"value")
    assert 1 <= len(name) <= 64
    assert name[0] in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("status", "STATUS"),
        ("ttft_ms", "TTFT_MS"),
        ("a.b-c", "A_B_C"),
        ("_PID", "X_PID"),
        ("2nd", "X2ND"),
        ("", "X"),
        ("é", "X_"),
        ("a=b\nMESSAGE=c", "A_B_MESSAGE_C"),
        ("x" * 100, "X" * 64),
    ],
)
def test_names(key, name):
    assert journal.field_name(key) == name
    assert journal.field_name(name) == name


def test_lone_surrogates_are_spelt_out():
    assert journal.encode({"TEXT": "a\ud800"}) == b"TEXT=a\\ud800\n"


def test_an_entry_arrives(journald, sender):
    assert sender.send({"MESSAGE": "hello", "TEXT": "two\nlines"})
    assert journald.entry() == {"MESSAGE": b"hello", "TEXT": b"two\nlines"}


@pytest.mark.parametrize("size", [100_000, 1_000_000, 5_000_000])
def test_an_entry_of_any_size_arrives(journald, sender, size):
    sender.send({"MESSAGE": "the first one opens the socket"})
    journald.entry()
    before = descriptors()
    assert sender.send({"MESSAGE": "m" * size, "AFTER": "it"})
    entry = journald.entry()
    assert entry == {"MESSAGE": b"m" * size, "AFTER": b"it"}
    assert descriptors() == before


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_a_journal_that_takes_nothing_now(journald, sender, size):
    taken = 0
    while sender.send({"NUMBER": str(taken), "MESSAGE": "m" * size}):
        taken += 1
        assert taken < 10_000
    for number in range(taken):
        assert journald.entry()["NUMBER"] == str(number).encode()
    assert sender.send({"NUMBER": "after"})
    assert journald.entry() == {"NUMBER": b"after"}


def test_a_journal_that_is_away_and_comes_back(journald, sender):
    assert sender.send({"NUMBER": "1"})
    journald.close()
    assert not sender.send({"NUMBER": "2"})
    Path(journald.path).unlink()
    assert not sender.send({"NUMBER": "3"})
    with closing(Journald(Path(journald.path))) as back:
        assert sender.send({"NUMBER": "4"})
        assert back.entry() == {"NUMBER": b"4"}


@pytest.mark.parametrize("path", ["/nowhere/socket", "/" + "long" * 100, "nul\0", "/", ""])
def test_a_path_that_leads_nowhere(path):
    with closing(Journal(path)) as sender:
        assert not sender.send({"MESSAGE": "m"})


def test_without_a_descriptor_left(journald, sender):
    with most_descriptors(3):
        assert not sender.send({"MESSAGE": "no socket"})
    assert sender.send({"MESSAGE": "a socket"})
    with most_descriptors(3):
        assert not sender.send({"MESSAGE": "no memfd" * 1_000_000})
        assert sender.send({"MESSAGE": "needs none"})
    assert journald.entry() == {"MESSAGE": b"a socket"}
    assert journald.entry() == {"MESSAGE": b"needs none"}


def test_children_get_no_socket(sender):
    assert sender.send({"MESSAGE": "m"})
    assert sender._socket is not None
    assert not sender._socket.get_inheritable()


def test_after_the_end_nothing_is_sent(sender):
    assert sender.send({"MESSAGE": "m"})
    sender.close()
    assert not sender.send({"MESSAGE": "m"})
    assert sender._socket is not None
    assert sender._socket.fileno() == -1


def test_the_stream_that_systemd_gave():
    one, other = socket.socketpair()
    with one, other:
        status = os.fstat(one.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert journal.is_journal(one.fileno(), environ)
        assert not journal.is_journal(other.fileno(), environ)
        assert not journal.is_journal(one.fileno(), {})
        number = one.fileno()
    assert not journal.is_journal(number, environ)


@pytest.mark.parametrize("value", ["", ":", "1", "1:2:3", "x:y"])
def test_a_variable_that_means_nothing(value):
    assert not journal.is_journal(0, {"JOURNAL_STREAM": value})


@pytest.mark.parametrize(
    "name", ["MESSAGE", "PID", "CODE_LINE", "COREDUMP", "JOB_ID", "UNIT", "USER_UNIT", "SESSION_ID"]
)
def test_names_with_a_meaning_of_their_own(name):
    assert journal.RESERVED.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["SESSION", "STATUS", "MODEL", "ROUTE", "PIDS", "RESULTS", "ERROR"]
)
def test_names_without_one(name):
    assert not journal.RESERVED.fullmatch(name)
