"""The way in and the ways out, as the process it is: last words, exit codes, what systemd hears."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from claude_proxy import __version__, journal
from tests.lab import LogReader
from tests.unit.fake_cli import FAKE, script
from tests.unit.systemd import Systemd

ROOT = Path(__file__).parents[2]
PYTHON = [sys.executable, "-W", "error"]
MAIN = [*PYTHON, "-m", "claude_proxy"]
# A fault of ours in the daemon, which nothing outside can bring about.
CRASHES = """\
import sys
from claude_proxy import __main__, daemon

async def serve(start):
    raise RuntimeError("two\\nlines")

daemon.serve = serve
sys.exit(__main__.main([]))
"""
# A signal at a moment at which argparse would make another exception of one.
TOLD_WHILE_IT_PARSES = """\
import argparse, os, signal, sys
from claude_proxy import __main__

plain = argparse.ArgumentParser.parse_known_args

def told(self, *args, **more):
    os.kill(os.getpid(), signal.{name})
    return plain(self, *args, **more)

argparse.ArgumentParser.parse_known_args = told
sys.exit(__main__.main(["--port=0"]))
"""
# Where there is a journal, records that a test provokes must not get into it.
without_a_journal = pytest.mark.skipif(
    Path(journal.SOCKET).exists(), reason="the journal of this machine would get the record"
)


class Ended:
    """What a process has left, whose stderr was a file."""

    def __init__(self, code: int, output: str, errors: str) -> None:
        self.code = code
        self.output = output
        self.errors = errors

    @property
    def records(self) -> list[dict]:
        """Of lines that begin with a priority, or not."""
        return [json.loads(line[line.index("{") :]) for line in self.errors.splitlines()]


@pytest.fixture
def run(tmp_path):
    def run(command: list[str], *argv: str, journal: bool = False, **environ: str) -> Ended:
        path = tmp_path / "stderr"
        with path.open("w") as stderr:
            status = os.fstat(stderr.fileno())
            stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"} if journal else {}
            done = subprocess.run(
                [*command, *argv],
                env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **stream, **environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
                timeout=30,
                text=True,
                check=False,
            )
        return Ended(done.returncode, done.stdout, path.read_text())

    return run


@pytest.fixture
def systemd(tmp_path):
    systemd = Systemd(str(tmp_path / "notify"))
    yield systemd
    systemd.close()


def test_last_words_are_a_plain_line_for_people(run):
    ended = run(MAIN, "--port", "http")
    assert (ended.code, ended.output) == (2, "")
    assert ended.errors.startswith("claude-proxy: --port: expected ")
    assert ended.errors.count("\n") == 1


def test_another_stream_s_journal_is_not_ours(run):
    ended = run(MAIN, "--port", "http", JOURNAL_STREAM="1:1")
    assert ended.errors.startswith("claude-proxy: ")


@without_a_journal
@pytest.mark.parametrize(
    ("argv", "code", "reason"),
    [(["--port", "http"], 2, "--port: "), (["--api-key-file", "/nowhere/key"], 78, "/nowhere/key")],
)
def test_last_words_are_a_record_in_the_journal(run, argv, code, reason):
    ended = run(MAIN, *argv, journal=True)
    assert (ended.code, ended.output) == (code, "")
    (record,) = ended.records
    assert (record["event"], record["exit_code"]) == ("daemon.failed", code)
    assert record["level"] == "critical"
    assert reason in record["reason"]
    assert ended.errors.startswith("<2>{")


def test_a_fault_of_ours_is_one_record_and_70(run):
    ended = run([*PYTHON, "-c", CRASHES], PROXY_API_KEY="k")
    assert (ended.code, ended.output) == (70, "")
    (record,) = ended.records
    assert (record["event"], record["level"]) == ("daemon.crashed", "critical")
    assert "RuntimeError: two\nlines" in record["exception"]
    assert '"k"' not in ended.errors


@without_a_journal
def test_a_fault_of_ours_is_one_record_in_the_journal_too(run):
    ended = run([*PYTHON, "-c", CRASHES], journal=True, PROXY_API_KEY="k")
    assert ended.code == 70
    (record,) = ended.records
    assert record["event"] == "daemon.crashed"
    assert ended.errors.startswith("<2>{")
    assert ended.errors.count("\n") == 1


def test_systemd_hears_why_the_start_fails(run, systemd, tmp_path):
    claude = script(tmp_path / "claude", "echo '2.1.330 (Claude Code)'")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run(MAIN, f"--claude={claude}", "--port", port, NOTIFY_SOCKET=systemd.address)
    assert ended.code == 69
    (told,) = systemd.heard()
    where = f"cannot listen on 127.0.0.1:{port}"
    hint = "see --port, --host and --listen, or `claude-proxy status`: perhaps it runs already"
    reason = f"{where}: Address already in use; {hint}"
    assert told == f"ERRNO=98\nSTATUS={reason}"
    assert ended.errors == f"claude-proxy: {reason}\n"


def test_systemd_hears_of_a_wrong_flag_in_one_line(run, systemd):
    ended = run(MAIN, "--log-level=gr\u00fc\u00dfe", NOTIFY_SOCKET=systemd.address)
    assert ended.code == 2
    (told,) = systemd.heard()
    assert told.startswith("STATUS=--log-level: expected one of ")
    assert told.isascii()


@pytest.mark.parametrize("host", ["\u00fc..b", "a..b", "192.0.2.1"])
def test_an_address_that_is_none_is_no_crash(run, tmp_path, host):
    claude = script(tmp_path / "claude", "echo '2.1.330 (Claude Code)'")
    # Without -W error: CPython leaves a socket to the collector there.
    command = [sys.executable, "-m", "claude_proxy"]
    ended = run(command, f"--claude={claude}", "--host", host)
    assert ended.code in (69, 78)
    assert ended.errors.startswith("claude-proxy: cannot listen on ")
    assert ended.errors.count("\n") == 1


def test_a_home_that_is_nobody_s_is_no_crash(run):
    codes = {"--claude": 78, "--config": 78, "--api-key-file": 78, "--listen": 2}
    for flag, code in codes.items():
        ended = run(MAIN, "--demo", flag, "~nobody-of-this-name/x")
        assert (ended.code, ended.output) == (code, ""), flag
        assert ended.errors.startswith("claude-proxy: ")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_it_starts_with_closed_standard_streams(tmp_path, closed):
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *MAIN, "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    expected = "" if ">&-" in closed.replace("2>&-", "") else f"claude-proxy {__version__}\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_a_whole_life_is_told_to_systemd_and_ends_with_0(tmp_path, systemd):
    daemon = subprocess.Popen(
        [*MAIN, "--port=0", f"--claude={FAKE}", "--spares=0"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PROXY_API_KEY": "k",
            "NOTIFY_SOCKET": systemd.address,
        },
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = LogReader(daemon.stderr)
    try:
        log.wait_for("daemon.listening")
        log.wait_for("claude.not_logged_in")
        daemon.send_signal(signal.SIGHUP)
        log.wait_for("daemon.reloaded")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
    finally:
        daemon.kill()
        daemon.wait()
        log.finish()
    told = [line for message in systemd.heard() for line in message.split("\n")]
    states = [line for line in told if line in ("READY=1", "RELOADING=1", "STOPPING=1")]
    assert states == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert "STATUS=idle, $0.00 today; NOT logged in" in told


def test_a_signal_before_it_serves_ends_it_well(tmp_path):
    """While the CLI is asked for its version, which here never comes."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    claude = script(tmp_path / "claude", f"echo > '{ready}'", "exec sleep 60")
    daemon = subprocess.Popen(
        [*MAIN, "--port=0", f"--claude={claude}"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PROXY_API_KEY": "k"},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    with daemon.stderr:
        assert ready.read_text() == "\n"
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(20) == 0
        assert "Traceback" not in daemon.stderr.read()


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 0), ("SIGINT", 130)])
def test_a_signal_in_the_middle_of_parsing_is_obeyed(run, name, code):
    ended = run([*PYTHON, "-c", TOLD_WHILE_IT_PARSES.format(name=name)])
    assert (ended.code, ended.output, ended.errors) == (code, "", "")
