"""The log: one JSON line a record whoever wrote it, a journal entry, or a console for people."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TextIO

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy import log
from claude_proxy.settings import Settings
from tests.unit import journald as journald_end
from tests.unit.never_waits import never_waiting

COMMON = {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "EVENT"}


@pytest.fixture(autouse=True)
def _logging_as_before():
    root = logging.getLogger()
    others = {name: logging.getLogger(name).level for name in ("uvicorn", "asyncio")}
    handlers, level = root.handlers[:], root.level
    yield
    close_ours()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in others.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _never_blocked():
    with never_waiting():
        yield


def close_ours() -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, log.Handler):
            handler.close()


@pytest.fixture(scope="module")
def files() -> Iterator[list[TextIO]]:
    """Closed at the end of all tests: a handler may write until then."""
    opened: list[TextIO] = []
    yield opened
    for one in opened:
        one.close()


@pytest.fixture
def configured(files):
    def configure(**settings: str) -> TextIO:
        stream = tempfile.TemporaryFile("w+")  # noqa: SIM115 - the fixture closes it
        files.append(stream)
        log.configure(Settings(**settings), stream)
        return stream

    return configure


def text(stream: TextIO) -> str:
    stream.seek(0)
    return stream.read()


def records(stream: TextIO) -> list[dict]:
    return [json.loads(line) for line in text(stream).splitlines()]


def failure() -> ValueError:
    with pytest.raises(ValueError, match="two") as caught:
        raise ValueError("two\nlines")
    return caught.value


def test_a_record_is_one_line_with_event_level_time_and_fields(configured):
    stream = configured()
    structlog.get_logger().info("request.done", status=200, path=None)
    (record,) = records(stream)
    assert record.pop("timestamp").endswith("Z")
    assert record == {"event": "request.done", "level": "info", "status": 200, "path": None}


@pytest.mark.parametrize("how", ["given", "current"])
def test_a_traceback_is_part_of_the_line(configured, how):
    stream = configured()
    error = failure()
    if how == "given":
        structlog.get_logger().error("crashed", exc_info=error)
    else:
        try:
            raise error
        except ValueError:
            structlog.get_logger().exception("crashed")
    (record,) = records(stream)
    assert record["level"] == "error"
    assert record["exception"].startswith("Traceback (most recent call last):\n")
    assert record["exception"].endswith("ValueError: two\nlines")


@pytest.mark.parametrize("name", ["uvicorn", "uvicorn.error", "asyncio", "somebody.else"])
def test_other_loggers_come_out_the_same_way(configured, name):
    stream = configured()
    logging.getLogger(name).error("bad %s\nthing", "old", exc_info=failure(), stack_info=True)
    (record,) = records(stream)
    assert record["event"] == "bad old\nthing"
    assert record["level"] == "error"
    assert "ValueError: two\nlines" in record["exception"]


def test_uvicorns_coloured_second_text_is_dropped(configured):
    stream = configured()
    logging.getLogger("uvicorn.error").warning("plain", extra={"color_message": "\x1b[1m"})
    (record,) = records(stream)
    assert record["event"] == "plain"
    assert "color_message" not in record


def test_uvicorns_own_start_and_stop_lines_are_left_out(configured):
    stream = configured()
    logging.getLogger("uvicorn.error").info("Uvicorn running")
    assert text(stream) == ""


@pytest.mark.parametrize(
    ("level", "heard"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_records_below_the_level_are_left_out(configured, level, heard):
    stream = configured(log_level=level)
    for name in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), name)("event")
    assert len(records(stream)) == heard


def test_the_context_of_a_request_is_in_each_of_its_records(configured):
    stream = configured()
    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        structlog.get_logger().info("ours")
        logging.getLogger("theirs").warning("theirs")
    structlog.get_logger().info("after")
    assert [record.get("request_id") for record in records(stream)] == ["req_1", "req_1", None]


def test_configuring_again_replaces_the_first_stream(configured):
    first, second = configured(), configured()
    structlog.get_logger().info("once")
    assert text(first) == ""
    assert len(records(second)) == 1


@given(said=st.text(), value=st.text() | st.binary() | st.floats() | st.none() | st.sets(st.text()))
def test_whatever_is_logged_stays_on_one_line(said, value):
    with tempfile.TemporaryFile("w+") as stream:
        log.configure(Settings(), stream)
        structlog.get_logger().info("event", text=said, value=value)
        logging.getLogger("theirs").warning("%s", said)
        first, second = records(stream)
        close_ours()
    assert first["text"] == second["event"] == said


@pytest.mark.parametrize("settings", [{"log_format": "console"}, {}])
def test_people_get_a_console_when_they_ask_or_at_a_terminal(settings):
    controller, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream:
        log.configure(Settings(**settings), stream)
        structlog.get_logger().warning("spare.failed", reason="gone")
        seen = os.read(controller, 4_096).decode()
    os.close(controller)
    assert "spare.failed" in seen
    assert "reason" in seen
    assert "\x1b[" in seen
    assert not seen.startswith("{")


def test_a_console_that_is_no_terminal_has_no_colours(configured):
    stream = configured(log_format="console")
    structlog.get_logger().error("crashed", exc_info=failure())
    assert "\x1b[" not in text(stream)
    assert "ValueError: two" in text(stream)


def test_a_console_leaves_out_what_is_not_so(configured):
    stream = configured(log_format="console")
    fields = {"status": 200, "retries": 0, "error": None, "client_gone": False, "note": ""}
    structlog.get_logger().info("request.done", **fields)
    assert text(stream).split("request.done")[1].split() == ["status=200"]


def test_json_on_a_terminal_when_asked():
    controller, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream:
        log.configure(Settings(log_format="json"), stream)
        structlog.get_logger().info("event")
        seen = os.read(controller, 4_096)
    os.close(controller)
    assert json.loads(seen)["event"] == "event"


class Journald(journald_end.Journald):
    """With stderr's stream to it, whose lines are read at the end."""

    def __init__(self, directory: str) -> None:
        super().__init__(Path(directory) / "socket")
        self._lines, stderr = socket.socketpair()
        self._lines.settimeout(0)
        self.stream = os.fdopen(stderr.detach(), "w")
        status = os.fstat(self.stream.fileno())
        self.environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}

    def configure(self, **settings: str) -> None:
        log.configure(Settings(**settings), self.stream, self.environ, self.path)

    def entry(self) -> dict[str, str]:
        return {name: value.decode() for name, value in super().entry().items()}

    def lines(self) -> list[str]:
        got = b""
        try:
            while data := self._lines.recv(1 << 20):
                got += data
        except BlockingIOError:
            pass
        return got.decode().splitlines()

    def go_away(self) -> None:
        super().close()

    def close(self) -> None:
        super().close()
        self._lines.close()
        self.stream.close()


@pytest.fixture
def journald() -> Iterator[Journald]:
    # pytest's own directories may be too long for a socket's path.
    with tempfile.TemporaryDirectory() as directory, closing(Journald(directory)) as one:
        yield one
        close_ours()


def test_under_systemd_a_record_is_an_entry_with_its_keys_as_fields(journald):
    journald.configure()
    structlog.get_logger("claude_proxy.http.exchange").info(
        "request.done", status=200, duration_ms=12.5, model="opus", client_gone=True, path=None
    )
    entry = journald.entry()
    line = json.loads(entry.pop("MESSAGE"))
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request.done",
        "level": "info",
        "status": 200,
        "duration_ms": 12.5,
        "model": "opus",
        "client_gone": True,
        "path": None,
    }
    assert entry == {
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "claude-proxy",
        "EVENT": "request.done",
        "STATUS": "200",
        "DURATION_MS": "12.5",
        "MODEL": "opus",
        "CLIENT_GONE": "true",
    }
    assert journald.lines() == []


def test_an_entrys_message_is_the_line_of_stderr(journald, configured):
    stream = configured()
    structlog.get_logger().warning("spare.failed", why="caf\xe9\ntwo \ud800", keys={"a": [1]})
    journald.configure()
    structlog.get_logger().warning("spare.failed", why="caf\xe9\ntwo \ud800", keys={"a": [1]})
    entry = journald.entry()
    before, after = text(stream).removesuffix("\n"), entry["MESSAGE"]
    assert before.partition("timestamp")[0] == after.partition("timestamp")[0]
    assert entry["KEYS"] == '{"a": [1]}'
    assert entry["WHY"] == "caf\xe9\ntwo \\ud800"


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")],
)
def test_the_journals_priorities(journald, level, priority):
    journald.configure(log_level="debug")
    getattr(structlog.get_logger(), level)("event")
    getattr(logging.getLogger("theirs"), level)("event")
    assert journald.entry()["PRIORITY"] == journald.entry()["PRIORITY"] == priority


@pytest.mark.parametrize(
    ("key", "name"),
    [
        *[("pid", "CLAUDE_PROXY_PID"), ("message", "CLAUDE_PROXY_MESSAGE")],
        *[("priority", "CLAUDE_PROXY_PRIORITY"), ("logger", "CLAUDE_PROXY_LOGGER")],
        *[("syslog_identifier", "CLAUDE_PROXY_SYSLOG_IDENTIFIER"), ("unit", "CLAUDE_PROXY_UNIT")],
        *[("session", "SESSION"), ("odd key=\n\xe9", "ODD_KEY___"), ("_pid", "X_PID")],
    ],
)
def test_a_key_takes_no_name_with_a_meaning_of_its_own(journald, key, name):
    journald.configure()
    structlog.get_logger("claude_proxy").info("event", **{key: "mine"})
    entry = journald.entry()
    assert entry[name] == "mine"
    assert json.loads(entry["MESSAGE"])[key] == "mine"
    assert set(entry) == COMMON | {name}


def test_others_are_named(journald):
    journald.configure()
    logging.getLogger("uvicorn.error").error("bad thing", exc_info=failure())
    entry = journald.entry()
    assert entry["LOGGER"] == "uvicorn.error"
    assert entry["EVENT"] == "bad thing"
    assert entry["EXCEPTION"].startswith("Traceback (most recent call last):\n")
    assert entry["EXCEPTION"].endswith("ValueError: two\nlines")
    assert "\n" not in entry["MESSAGE"]


def test_an_entry_of_any_length(journald):
    journald.configure()
    structlog.get_logger().info("event", long="x" * 3_000_000)
    assert journald.entry()["LONG"] == "x" * 3_000_000
    assert journald.lines() == []


def test_what_journald_does_not_take_goes_to_stderr_with_its_priority(journald):
    journald.configure()
    journald.go_away()
    structlog.get_logger().error("event", status=500)
    (line,) = journald.lines()
    assert line.startswith('<3>{"status": 500')
    assert json.loads(line.removeprefix("<3>"))["event"] == "event"


def test_with_a_journald_that_is_stopped_nothing_waits_and_all_that_is_lost_is_counted(journald):
    journald.configure()
    for number in range(5_000):
        structlog.get_logger().info("event", number=number, filler="x" * 500)
    seen = []
    while len(lines := journald.lines()) > 0:
        seen += lines
        log.flush()
    said = [json.loads(line[3:]) for line in seen]
    assert seen[-1].startswith("<4>")
    assert said[-1]["event"] == "log.lost"
    numbers = []
    while len(numbers) + len(said) - 1 + said[-1]["records"] < 5_000:
        numbers.append(int(journald.entry()["NUMBER"]))
    assert [*numbers, *(one["number"] for one in said[:-1])] == list(
        range(5_000 - said[-1]["records"])
    )


def test_what_stderr_holds_back_is_out_before_a_newer_entry(journald):
    journald.configure()
    for number in range(300):
        structlog.get_logger().info("event", number=number, filler="x" * 3_000)
    at_first = journald.lines()
    assert journald.entry()["NUMBER"] == "0"
    structlog.get_logger().info("newer")
    assert len(journald.lines()) > 0
    assert 0 < len(at_first) < 290


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_entry_where_another_form_is_asked_for(journald, form):
    journald.configure(log_format=form)
    structlog.get_logger().info("event")
    (line,) = journald.lines()
    assert "event" in line
    assert not line.startswith("<")
    with pytest.raises(BlockingIOError):
        journald.entry()


def test_no_entry_where_stderr_leads_elsewhere(journald, tmp_path):
    with (tmp_path / "log").open("w+") as stream:
        log.configure(Settings(), stream, journald.environ, journald.path)
        structlog.get_logger().info("event")
        (record,) = records(stream)
        close_ours()
    assert record["event"] == "event"
    with pytest.raises(BlockingIOError):
        journald.entry()


def test_the_journal_when_asked_wherever_stderr_leads(journald, tmp_path):
    with (tmp_path / "log").open("w+") as stream:
        log.configure(Settings(log_format="journal"), stream, {}, journald.path)
        structlog.get_logger().info("first")
        journald.go_away()
        structlog.get_logger().info("second")
        (record,) = records(stream)
        close_ours()
    assert record["event"] == "second"


@pytest.mark.parametrize("after", ["debug", "error"])
def test_another_level_from_now_on(configured, after):
    stream = configured(log_level="info")
    log.set_level(after)
    for level in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), level)("ours")
        getattr(logging.getLogger("uvicorn.error"), level)("theirs")
        getattr(logging.getLogger("asyncio"), level)("theirs")
    heard = {"debug": ["ours"] * 4 + ["theirs"] * 4, "error": ["ours"] + ["theirs"] * 2}
    assert sorted(record["event"] for record in records(stream)) == heard[after]


class Bad:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class BadError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def circular() -> list:
    one: list = []
    one.append(one)
    return one


def deep() -> list:
    one: list = []
    for _ in range(100_000):
        one = [one]
    return one


@pytest.mark.parametrize("value", [Bad(), {(1, 2): 3}, circular(), b"\xff", {1}, "\ud800"])
def test_a_value_that_is_no_json(configured, value):
    stream = configured()
    structlog.get_logger().info("event", value=value, status=200)
    (record,) = records(stream)
    assert (record["event"], record["status"]) == ("event", 200)
    assert isinstance(record["value"], str)


def test_a_value_deeper_than_the_stack(configured):
    stream = configured()
    structlog.get_logger().info("event", value=deep())
    structlog.get_logger().info("after")
    assert [record["event"] for record in records(stream)] == ["event", "after"]


@pytest.mark.parametrize("args", [("%d", "text"), ("%s", Bad()), ("%s %s", 1)])
def test_a_record_that_cannot_be_formatted_says_so(configured, capfd, args):
    stream = configured()
    logging.getLogger("theirs").error(*args)
    (record,) = records(stream)
    assert (record["event"], record["level"]) == ("log.malformed", "error")
    assert record["text"] == repr(args[0])
    assert "Error(" in record["error"]
    assert capfd.readouterr().err == ""


def test_an_exception_without_a_text(configured):
    stream = configured()
    structlog.get_logger().error("crashed", exc_info=BadError())
    (record,) = records(stream)
    assert record["event"] == "crashed"
    assert "BadError" in record["exception"]


@pytest.mark.parametrize("log_format", ["json", "console", "journal"])
def test_nobody_reads_stderr(log_format):
    """The fault that this mends: the daemon hung with the first record after 64 KiB."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        log.configure(Settings(log_format=log_format), stream, {}, "/nowhere/socket")
        for number in range(2_000):
            structlog.get_logger().info("event", number=number, filler="x" * 1_000)
        got: list[bytes] = []

        def listen() -> None:
            while data := os.read(read, 1 << 20):
                got.append(data)

        reader = threading.Thread(target=listen)
        with structlog.contextvars.bound_contextvars(request_id="req_1"):
            reader.start()
            log.flush()
        close_ours()
    reader.join()
    os.close(read)
    *lines, last = b"".join(got).decode().splitlines()
    assert len(lines) > 900
    assert "log.lost" in last
    assert "req_1" not in last
    assert str(2_000 - len(lines)) in last


def test_the_end_of_the_program_is_not_held_up_by_a_reader(tmp_path):
    """A process of its own, its stderr a pipe that nobody reads: it ends by itself."""
    program = """
import structlog
from claude_proxy import log
from claude_proxy.settings import Settings
from tests.unit.never_waits import never_waiting
log.configure(Settings())
for _ in range(1_000):
    structlog.get_logger().info("event", filler="x" * 1_000)
log.flush()
"""
    root = Path(__file__).parents[2]
    done = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, cwd=root)
    with done:
        assert done.wait(20) == 0


def test_what_is_logged_after_the_log_has_ended_is_dropped(configured):
    stream = configured()
    close_ours()
    structlog.get_logger().info("event")
    assert text(stream) == ""


def test_configuring_again_closes_what_the_first_time_opened(journald):
    journald.configure()
    structlog.get_logger().info("event")
    (first,) = logging.getLogger().handlers
    assert isinstance(first, log.Handler)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        journald.configure()
        structlog.get_logger().info("event")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_threads_do_not_mix_their_lines(configured):
    stream = configured()

    def work(number: int) -> None:
        for _ in range(200):
            structlog.get_logger().info("event", number=number, filler="x" * 2_000)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records(stream)) == 800


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_a_terminal_is_coloured_unless_somebody_minds(variables, coloured):
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as stream, os.fdopen(ours, "rb", 0) as shown:
        log.configure(Settings(), stream, {"TERM": "xterm", **variables})
        structlog.get_logger("claude_proxy").info("daemon.listening")
        log.flush()
        line = shown.read(4_096).decode()
        close_ours()
    assert "daemon.listening" in line
    assert ("\x1b[" in line) is coloured


def test_what_is_no_terminal_is_not_coloured(configured):
    stream = configured(log_format="console")
    structlog.get_logger("claude_proxy").info("daemon.listening")
    log.progress("waiting")
    assert "\x1b" not in text(stream)
    assert "waiting" not in text(stream)
