"""A daemon on a terminal: colours, and the line that says what is waited for."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.terminal import Terminal
from tests.unit.fake_cli import FAKE

ROOT = Path(__file__).parents[2]
WORDS = [sys.executable, "-W", "error", "-m", "claude_proxy", "--port=0", f"--claude={FAKE}"]
PROGRESS = "claude-proxy: starting Claude Code ..."
COLOUR = "\x1b["


def environment(home: Path, **more: str) -> dict[str, str]:
    plain = {"PATH": os.environ["PATH"], "HOME": str(home), "PROXY_API_KEY": "k"}
    return {**plain, "TERM": "xterm-256color", **more}


def lived(terminal: Terminal, last: str = "") -> str:
    """All that it shows from its start over the first warm process, and ``last``, to its end."""
    try:
        terminal.wait_for("daemon.listening")
        terminal.wait_for("claude.spare_ready")
        terminal.wait_for(last)
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.finish() == 0
    finally:
        terminal.close()
    return terminal.shown


def screen(shown: str) -> list[str]:
    """What stands on it in the end: a carriage return goes back to the first column."""
    lines = []
    for line in re.sub(r"\x1b\[[\d;]*m", "", shown).split("\r\n"):
        cells: list[str] = []
        for part in line.split("\r"):
            cells[: len(part)] = part
        lines.append("".join(cells).rstrip())
    return lines


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False)],
    ids=["coloured", "plain"],
)
def test_the_progress_comes_first_and_is_gone_in_the_end(tmp_path, variables, coloured):
    words = [*WORDS, "--log-level=debug"]
    gone = rf"{PROGRESS}\r {{{len(PROGRESS)}}}\r"
    shown = lived(Terminal(words, environment(tmp_path, **variables), cwd=ROOT), gone)
    assert shown.startswith(PROGRESS)
    assert (COLOUR in shown) is coloured
    *standing, last = screen(shown)
    assert last == ""
    assert any("/ is a page for your browser; `claude-proxy key` prints" in one for one in standing)
    for line in standing:
        assert re.match(r"\d\d:\d\d:\d\d \[(info|debug|warning) +] [a-z]+\.[a-z]+", line)
    # It is drawn again below what is logged meanwhile, and not any more when it has gone.
    assert PROGRESS in shown.partition("daemon.listening")[2]
    assert PROGRESS not in shown.partition("daemon.draining")[2]
    assert "daemon.stopped" in standing[-1]


def test_what_ends_the_start_stands_on_a_line_of_its_own(tmp_path):
    shown = failed(tmp_path)
    assert shown.startswith(PROGRESS)
    line, rest = screen(shown)
    assert line.startswith(f"claude-proxy: there is no Claude Code CLI at {tmp_path / 'nothing'}")
    assert rest == ""


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"CLAUDE_PROXY_LOG_FORMAT": "json"}])
def test_there_is_no_progress_where_it_would_stay(tmp_path, variables):
    shown = failed(tmp_path, **variables)
    assert shown.startswith("claude-proxy: there is no Claude Code CLI")
    assert "\r" not in shown.replace("\r\n", "")


def failed(home: Path, **variables: str) -> str:
    """All that is shown by a start without a CLI."""
    words = [*WORDS[:-1], f"--claude={home / 'nothing'}"]
    terminal = Terminal(words, environment(home, **variables), cwd=ROOT)
    try:
        assert terminal.finish() == 78
    finally:
        terminal.close()
    return terminal.shown
