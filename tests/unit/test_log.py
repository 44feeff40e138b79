"""The log: one JSON line a record whoever wrote it, or a console for people."""

from __future__ import annotations

import io
import json
import logging
import os

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy import log
from claude_proxy.settings import Settings


@pytest.fixture(autouse=True)
def _logging_as_before():
    root = logging.getLogger()
    others = {name: logging.getLogger(name).level for name in ("uvicorn", "asyncio")}
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in others.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def configured(**settings: str) -> io.StringIO:
    stream = io.StringIO()
    log.configure(Settings(**settings), stream)
    return stream


def records(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def failure() -> ValueError:
    with pytest.raises(ValueError, match="two") as caught:
        raise ValueError("two\nlines")
    return caught.value


def test_a_record_is_one_line_with_event_level_time_and_fields():
    stream = configured()
    structlog.get_logger().info("request.done", status=200, path=None)
    (record,) = records(stream)
    assert record.pop("timestamp").endswith("Z")
    assert record == {"event": "request.done", "level": "info", "status": 200, "path": None}


@pytest.mark.parametrize("how", ["given", "current"])
def test_a_traceback_is_part_of_the_line(how):
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
def test_other_loggers_come_out_the_same_way(name):
    stream = configured()
    logging.getLogger(name).error("bad %s\nthing", "old", exc_info=failure(), stack_info=True)
    (record,) = records(stream)
    assert record["event"] == "bad old\nthing"
    assert record["level"] == "error"
    assert "ValueError: two\nlines" in record["exception"]


def test_uvicorns_coloured_second_text_is_dropped():
    stream = configured()
    logging.getLogger("uvicorn.error").warning("plain", extra={"color_message": "\x1b[1m"})
    (record,) = records(stream)
    assert record["event"] == "plain"
    assert "color_message" not in record


def test_uvicorns_own_start_and_stop_lines_are_left_out():
    stream = configured()
    logging.getLogger("uvicorn.error").info("Uvicorn running")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("level", "heard"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_records_below_the_level_are_left_out(level, heard):
    stream = configured(log_level=level)
    for name in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), name)("event")
    assert len(records(stream)) == heard


def test_the_context_of_a_request_is_in_each_of_its_records():
    stream = configured()
    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        structlog.get_logger().info("ours")
        logging.getLogger("theirs").warning("theirs")
    structlog.get_logger().info("after")
    assert [record.get("request_id") for record in records(stream)] == ["req_1", "req_1", None]


def test_configuring_again_replaces_the_first_stream():
    first, second = configured(), configured()
    structlog.get_logger().info("once")
    assert first.getvalue() == ""
    assert len(records(second)) == 1


@given(text=st.text(), value=st.text() | st.binary() | st.floats() | st.none() | st.sets(st.text()))
def test_whatever_is_logged_stays_on_one_line(text, value):
    stream = configured()
    structlog.get_logger().info("event", text=text, value=value)
    logging.getLogger("theirs").warning("%s", text)
    first, second = records(stream)
    assert first["text"] == second["event"] == text


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


def test_a_console_that_is_no_terminal_has_no_colours():
    stream = configured(log_format="console")
    structlog.get_logger().error("crashed", exc_info=failure())
    assert "\x1b[" not in stream.getvalue()
    assert "ValueError: two" in stream.getvalue()


def test_json_on_a_terminal_when_asked():
    controller, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream:
        log.configure(Settings(log_format="json"), stream)
        structlog.get_logger().info("event")
        seen = os.read(controller, 4_096)
    os.close(controller)
    assert json.loads(seen)["event"] == "event"
