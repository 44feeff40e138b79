"""``python -m claude_proxy`` as the process it is: exit codes, and one line on stderr."""

from __future__ import annotations

import importlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from claude_proxy import __version__
from claude_proxy.command_line import COMMANDS
from claude_proxy.settings import OPTIONS

COMMAND = [sys.executable, "-W", "error", "-m", "claude_proxy"]


@pytest.fixture
def run(tmp_path):
    def run(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
        clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        return subprocess.run(
            [*COMMAND, *argv],
            env=clean | environ,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=Path(__file__).parents[2],
        )

    return run


@pytest.fixture
def old_claude(tmp_path) -> str:
    return fake_claude(tmp_path, "1.0.0 (Claude Code)")


def fake_claude(directory: Path, version: str) -> str:
    path = directory / "claude"
    path.write_text(f"#!/bin/sh\necho '{version}'\n")
    path.chmod(0o755)
    return str(path)


def complaint(done: subprocess.CompletedProcess[str], code: int) -> str:
    """What the one line on stderr says."""
    assert (done.returncode, done.stdout) == (code, "")
    line = re.fullmatch(r"claude-proxy: (.+)\n", done.stderr)
    assert line is not None, done.stderr
    return line[1]


@pytest.mark.parametrize(
    ("argv", "source"),
    [
        (["--port", "http"], "--port: "),
        (["--nonsense"], "--nonsense"),
        (["nonsense"], "nonsense"),
        (["--timeout"], "--timeout"),
        (["two\nlines"], "two"),
        (["--unknown\nflag"], "flag"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_one_line(run, argv, source):
    assert source in complaint(run(*argv), 2)


def test_a_wrong_variable_ends_with_2_and_one_line(run):
    assert complaint(run(CLAUDE_PROXY_QUEUE="x"), 2).startswith("CLAUDE_PROXY_QUEUE: ")
    assert "CLAUDE_PROXY_QUEUES" in complaint(run(CLAUDE_PROXY_QUEUES="1"), 2)


def test_a_variable_that_is_not_utf8_ends_with_2_and_one_line(run):
    assert complaint(run(PORT=os.fsdecode(b"\xff")), 2).startswith("PORT: ")


def test_a_key_that_cannot_be_read_ends_with_78_and_one_line(run, tmp_path):
    missing = str(tmp_path / "missing")
    assert missing in complaint(run("--api-key-file", missing), 78)


def test_a_key_that_no_header_can_carry_ends_with_78_and_stays_secret(run):
    assert "grüße" not in complaint(run(PROXY_API_KEY="grüße"), 78)


def test_a_missing_cli_ends_with_78_and_one_line(run, tmp_path):
    missing = str(tmp_path / "claude")
    assert missing in complaint(run("--claude", missing), 78)


def test_a_cli_that_is_too_old_ends_with_78_and_one_line(run, old_claude):
    assert "1.0.0" in complaint(run("--claude", old_claude), 78)


def test_a_taken_port_ends_with_69_and_one_line(run, tmp_path):
    claude = fake_claude(tmp_path, "2.1.330 (Claude Code)")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}" in complaint(run("--claude", claude, "--port", port), 69)


def test_version(run):
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"claude-proxy {__version__}\n", "")


def test_help_fits_a_terminal_and_names_every_flag_and_variable(run):
    done = run("--help", COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    for option in OPTIONS.values():
        assert option.flag in done.stdout
        assert f"[{option.variable}]" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_key_prints_the_given_key_alone(run):
    done = run("key", PROXY_API_KEY="sk-mine")
    assert (done.returncode, done.stdout, done.stderr) == (0, "sk-mine\n", "")


def test_key_makes_a_key_once_and_prints_it_again(run):
    first, second = run("key"), run("key")
    assert (first.returncode, first.stderr) == (0, "")
    assert re.fullmatch(r"sk-claude-proxy-[\w-]{43}\n", first.stdout)
    assert second.stdout == first.stdout


def test_key_complains_like_the_rest(run):
    assert complaint(run("key", PROXY_API_KEY="a b"), 78)
    assert complaint(run("key", "extra"), 2) == "key takes nothing more, and there is extra too"


def test_a_command_takes_its_own_words_and_no_others(run):
    slip = "unknown command confg; did you mean config?"
    assert complaint(run("confg"), 2) == complaint(run("confg", "codex"), 2) == slip
    assert complaint(run("help"), 2).endswith("; did you mean claude-proxy --help?")
    assert complaint(run("config", "openai", "codex"), 2) == (
        "config takes one CLIENT, and there is codex too"
    )
    assert "openai" in run("config").stdout.split()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_a_module(name):
    assert callable(importlib.import_module(f"claude_proxy.commands.{name}").run)


def test_a_flag_of_commands_is_refused_elsewhere(run):
    assert complaint(run("status", "--write"), 2) == "--write: goes with config only"
    assert complaint(run("key", "--dry-run"), 2) == (
        "--dry-run: goes with config, install and uninstall only"
    )
