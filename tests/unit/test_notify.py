"""What systemd hears: real datagrams, at a path or an abstract name; and nobody ever waits."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.notify import Notifier, watchdog_seconds
from tests.unit.never_waits import never_waiting
from tests.unit.systemd import Systemd

OTHER = str(os.getpid() + 1)


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path, monkeypatch) -> Iterator[Systemd]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@claude-proxy-{os.getpid()}"
    systemd = Systemd(name)
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    yield systemd
    systemd.close()


@pytest.fixture
def notifier(systemd) -> Iterator[Notifier]:
    notifier = Notifier(os.environ)
    yield notifier
    notifier.close()


@pytest.fixture
def _never_waiting():
    with never_waiting():
        yield


@pytest.mark.parametrize(
    ("tell", "told"),
    [
        (lambda to: to.ready("idle"), "READY=1\nSTATUS=idle"),
        (lambda to: to.status("2 running"), "STATUS=2 running"),
        (lambda to: to.status(""), "STATUS="),
        (lambda to: to.stopping("draining: idle"), "STOPPING=1\nSTATUS=draining: idle"),
        (lambda to: to.extend(15), "EXTEND_TIMEOUT_USEC=15000000"),
        (lambda to: to.extend(0.0000015), "EXTEND_TIMEOUT_USEC=2"),
        (lambda to: to.alive(), "WATCHDOG=1"),
        (lambda to: to.failed("taken", 98), "ERRNO=98\nSTATUS=taken"),
        (lambda to: to.failed("wrong"), "STATUS=wrong"),
        (lambda to: to.failed("no such name", -2), "STATUS=no such name"),
        (lambda to: to.failed("strange", 0), "STATUS=strange"),
    ],
)
def test_each_state_is_one_datagram(systemd, notifier, tell, told):
    tell(notifier)
    assert systemd.heard() == [told]


def test_a_reload_has_the_time_at_which_it_began(systemd, notifier):
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    (told,) = systemd.heard()
    state, usec, status = told.split("\n")
    assert (state, status) == ("RELOADING=1", "STATUS=reloading")
    name, _, value = usec.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= after


def test_a_status_is_one_line_of_ascii(systemd, notifier):
    notifier.status("grüße\nREADY=1\r\n\t  X=y\u2028Z=1 \ud800")
    assert systemd.heard() == ["STATUS=gr??e READY=1 X=y Z=1 ?"]


@settings(deadline=None)
@given(st.text(st.characters(), max_size=200))
def test_no_text_is_lost_or_becomes_a_state_of_its_own(text):
    with pytest.MonkeyPatch.context() as patch:
        systemd = Systemd(f"@claude-proxy-any-{os.getpid()}")
        patch.setenv("NOTIFY_SOCKET", systemd.address)
        notifier = Notifier(os.environ)
        notifier.failed(text, 1)
        notifier.close()
        (told,) = systemd.heard()
        systemd.close()
    errno, status = told.split("\n")
    assert errno == "ERRNO=1"
    assert status.startswith("STATUS=")
    assert status.isascii()


@pytest.mark.usefixtures("_never_waiting")
def test_a_systemd_that_does_not_listen_is_not_waited_for(systemd, notifier):
    for _ in range(5_000):
        notifier.alive()
    assert set(systemd.heard()) == {"WATCHDOG=1"}
    notifier.ready("well again")
    assert systemd.heard() == ["READY=1\nSTATUS=well again"]


@pytest.mark.parametrize("systemd", ["path"], indirect=True)
def test_a_systemd_that_has_gone_is_no_error(systemd, notifier):
    systemd.close()
    Path(systemd.address).unlink()
    notifier.alive()
    notifier.close()
    assert notifier.watchdog is None


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}])
def test_without_systemd_nothing_is_sent(systemd, environ):
    notifier = Notifier(environ)
    notifier.ready("idle")
    notifier.reloading()
    notifier.alive()
    notifier.close()
    assert systemd.heard() == []
    assert notifier.watchdog is None


@pytest.mark.parametrize("usec", [str(2**64 - 1), "9" * 20, "9" * 5_000, "1" + "0" * 100_000])
def test_a_watchdog_with_endless_patience_is_one(usec):
    """More digits than Python takes for a number; systemd's `infinity` has twenty."""
    seconds = watchdog_seconds({"WATCHDOG_USEC": usec})
    assert seconds is not None
    assert seconds >= 1e13
    assert Notifier({"WATCHDOG_USEC": usec}).watchdog == seconds


@pytest.mark.parametrize("usec", ["0" * 5_000, "-" + "9" * 5_000, "x" * 5_000])
def test_a_long_word_is_no_watchdog(usec):
    assert watchdog_seconds({"WATCHDOG_USEC": usec}) is None


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": OTHER}, None),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": ""}, None),
    ],
)
def test_the_watchdog_is_this_process_s_own_or_none(environ, seconds):
    assert watchdog_seconds(environ) == seconds
    notifier = Notifier(environ)
    assert notifier.watchdog == seconds
