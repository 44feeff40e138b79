"""``claude-proxy status`` as a process: what it tells, its exit code, and that it wakes nobody."""

from __future__ import annotations

import json
import socket

import pytest

from claude_proxy.commands import journal_tail
from claude_proxy.money.spending import Spending
from claude_proxy.money.used import Used
from tests.unit.answering import answering
from tests.unit.test_commands_desk import Desk


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def daemon():
    with answering() as server:
        yield server


def port_of(daemon) -> str:
    return str(daemon.server_address[1])


@pytest.fixture
def sleeping():
    """A socket that is listened on, and whose owner would be started by a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


def test_nothing_runs(desk):
    said = desk.say("--port", "1", "status", code=3, XDG_RUNTIME_DIR="")
    assert "no user manager here" in said
    assert f"{desk.bin}/claude, version 2.1.330" in said
    assert "logged in as max" in said
    assert "nothing yet" in said


def test_a_daemon_without_systemd_is_found_at_its_port(desk, daemon):
    daemon.health["login"] = "pro"
    said = desk.say("--port", port_of(daemon), "status", XDG_RUNTIME_DIR="")
    assert f"http://127.0.0.1:{port_of(daemon)}/v1" in said
    assert "logged in as pro" in said


def test_another_server_at_the_port_is_no_daemon(desk, daemon):
    daemon.health.clear()
    said = desk.say("--port", port_of(daemon), "status", code=3, XDG_RUNTIME_DIR="")
    assert "does not answer as a claude-proxy" in said


def test_a_service_that_runs(desk, daemon):
    place = f"127.0.0.1:{port_of(daemon)}"
    desk.answer(
        "service",
        "LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=12\n"
        "MemoryCurrent=47185920\nStatusText=idle, $0.00 today\n"
        "ActiveEnterTimestamp=Sat 2026-08-01 12:00:00 UTC",
    )
    listen = f"Listen={place} (Stream)\nListen=/run/x.sock (Stream)"
    desk.answer("socket", f"LoadState=loaded\nActiveState=active\nSubState=running\n{listen}")
    said = desk.say("status")
    assert "active (running) since Sat 2026-08-01 12:00:00 UTC, PID 12, 45 MiB" in said
    assert "idle, $0.00 today" in said
    assert f"http://{place}/v1" in said
    assert "unix:/run/x.sock" in said


def test_a_daemon_that_sleeps_is_not_woken(desk, sleeping):
    place = f"127.0.0.1:{sleeping.getsockname()[1]}"
    desk.answer("service", "LoadState=loaded\nActiveState=inactive\nSubState=dead")
    desk.answer(
        "socket",
        f"LoadState=loaded\nActiveState=active\nSubState=listening\nListen={place} (Stream)",
    )
    for command in ("status", "check"):
        desk.run(command)
    assert f"{place}/v1, starts with the first connection" in desk.say("status")
    with pytest.raises(BlockingIOError):
        sleeping.accept()


def test_another_version_that_runs_is_told(desk, daemon):
    daemon.health |= {"version": "0.0.1", "claude_version": "2.1.300"}
    said = desk.say("--port", port_of(daemon), "status")
    assert "the one that runs is version 0.0.1" in said
    assert "the daemon runs version 2.1.300" in said


def test_a_failed_service(desk):
    desk.answer(
        "service", "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code"
    )
    assert "failed (failed), exit-code" in desk.say("--port", "1", "status", code=3)


def test_what_was_spent_today(desk):
    path = desk.home / ".local/state/claude-proxy/spending.db"
    spending = Spending.open(path)
    spending.add(Used("default", "m", usd=1.25))
    spending.close()
    assert "$1.25 today" in desk.say("--port", "1", "status", code=3)


def test_the_last_errors_have_a_line_each(desk):
    entries = [
        {
            "__REALTIME_TIMESTAMP": "1785585600000000",
            "PRIORITY": "4",
            "EVENT": "claude.not_logged_in",
            "NOTE": "run `claude`",
            "MESSAGE": "{}",
        },
        {"__REALTIME_TIMESTAMP": "1785585601000000", "PRIORITY": "3", "MESSAGE": "Failed\n\x1b["},
    ]
    desk.answer("journalctl", "\n".join(json.dumps(entry) for entry in entries) + "\nnonsense")
    said = desk.say("--port", "1", "status", code=3, TZ="UTC")
    assert "  2026-08-01 12:00:00 warning claude.not_logged_in: run `claude`\n" in said
    assert "  2026-08-01 12:00:01 error Failed ?[\n" in said
    assert "nonsense" not in said


def test_a_journal_that_does_not_answer(desk):
    (desk.bin / "journalctl").write_text("#!/bin/sh\nexit 1\n")
    assert "the journal does not answer" in desk.say("--port", "1", "status", code=3)


def test_a_message_of_bytes_or_of_nothing():
    assert journal_tail.plain([72, 105, 255]) == "Hi\\xff"
    assert journal_tail.plain(None) == ""
    assert len(journal_tail.plain("x" * 5_000)) < 300


def test_the_login_is_the_clis_own_word(desk):
    desk.answer("logged-in", "false")
    assert "NOT logged in" in desk.say("--port", "1", "status", code=3)
