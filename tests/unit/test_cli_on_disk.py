"""Short runs of the CLI: a wrapper of the shell's around a program that hangs."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_proxy.claude import cli
from claude_proxy.claude.cli import Cli, Login, examine, login, output_of
from claude_proxy.settings import ConfigurationError
from tests.unit.fake_cli import VERSION, run, running, script, until

ENVIRONMENT = {"PATH": os.environ["PATH"]}
ANSWER = f"echo '{VERSION} (Claude Code)'"


@pytest.fixture
def mark() -> str:
    """A number of seconds, by which its sleepers are known."""
    return f"300.{secrets.randbelow(10**9):09}"


@pytest.fixture
def started(tmp_path) -> Path:
    """There when the wrapper runs."""
    return tmp_path / "started"


@pytest.fixture
def hanging(tmp_path, mark, started) -> Callable[..., Path]:
    def hanging(sleeper: str, *more: str) -> Path:
        sleeper = sleeper.format(mark)
        return script(tmp_path / "claude", f"echo {mark} > '{started}'", sleeper, *more)

    return hanging


# Without `exec`, the wrapper's end of the pipe is the sleeper's as well.
WRAPPERS = pytest.mark.parametrize(
    ("sleeper", "more"),
    [
        ("sleep {}", [ANSWER]),
        ("sleep {} & wait", []),
        ("trap '' TERM INT HUP; sleep {0}; sleep {0}", []),
        ("exec sleep {}", []),
        ("sleep {} &", [ANSWER]),
        ("(sh -c 'sleep {}; true'; true) &", [ANSWER, "exit 1"]),
    ],
)


@WRAPPERS
def test_a_wrapper_around_what_hangs_is_given_up_and_leaves_nothing(
    hanging, mark, monkeypatch, sleeper, more
):
    assert cli.VERSION_TIMEOUT <= 30
    monkeypatch.setattr(cli, "VERSION_TIMEOUT", 0.5)
    path = hanging(sleeper, *more)

    async def work() -> None:
        async with asyncio.timeout(20):
            with pytest.raises(
                ConfigurationError, match=r"does not run: no answer to --version; try it by hand$"
            ):
                await examine(path, ENVIRONMENT)
        await until(lambda: not running(mark, str(path)))

    run(work)


@WRAPPERS
def test_who_waits_no_longer_leaves_nothing(hanging, mark, started, sleeper, more):
    path = hanging(sleeper, *more)

    async def work() -> None:
        asking = asyncio.create_task(
            output_of(path, "--version", environment=ENVIRONMENT, limit=300.0)
        )
        await until(lambda: "transport" in asking.get_stack()[0].f_locals)
        await until(
            lambda: any(f"sleep\0{mark}" in one for one in running(mark, str(path)).values())
        )
        assert started.exists()
        asking.cancel()
        async with asyncio.timeout(20):
            with pytest.raises(asyncio.CancelledError):
                await asking
        await until(lambda: not running(mark, str(path)))

    run(work)


def test_a_login_that_hangs_is_unknown(hanging, mark, monkeypatch):
    monkeypatch.setattr(cli, "LOGIN_TIMEOUT", 0.5)
    path = hanging("sleep {}")

    async def work() -> None:
        async with asyncio.timeout(20):
            assert await login(Cli(path, VERSION), ENVIRONMENT) == Login(None)
        await until(lambda: not running(mark, str(path)))

    run(work)


def test_what_a_wrapper_has_put_aside_ends_with_it(hanging, mark):
    """It has answered in time, as that does not hold the pipe."""
    path = hanging("sleep {} >/dev/null &", ANSWER)

    async def work() -> None:
        assert await examine(path, ENVIRONMENT) == Cli(path, VERSION)
        await until(lambda: not running(mark, str(path)))

    run(work)


def test_exit_code_and_output_are_the_program_s(tmp_path):
    path = script(tmp_path / "claude", 'echo "$@"', "echo aside >&2", "exit 7")

    async def work() -> None:
        asked = output_of(path, "a", "b c", environment=ENVIRONMENT, limit=20.0)
        assert await asked == (7, b"a b c\n")

    run(work)


def test_output_without_an_end_is_not_kept(tmp_path, monkeypatch):
    path = script(tmp_path / "claude", "exec yes")

    async def work() -> None:
        with pytest.raises(
            ConfigurationError, match=r"does not run: no answer to --version; try it by hand$"
        ):
            await examine(path, ENVIRONMENT)

    monkeypatch.setattr(cli, "VERSION_TIMEOUT", 1.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(work)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 32 * 1024  # KiB; kept, it would be some GB a second


def test_a_run_whose_pipe_outlives_it_is_closed_with_the_call(tmp_path, mark):
    """Held by a process of another group, which is not ended."""
    sleeper = f"import os; os.setsid(); os.execlp('sleep', 'sleep', '{mark}')"
    path = script(tmp_path / "claude", f'{sys.executable} -c "{sleeper}" &', "exit 1")

    async def work() -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(TimeoutError):
            await output_of(path, environment=ENVIRONMENT, limit=0.5)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        for pid in running(mark):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not running(mark, str(path)))

    run(work)
