"""The CLI as it is installed: where its processes run, what an upgrade does, who is logged in."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import tempfile
from contextlib import aclosing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from claude_proxy.claude.cli import Login
from claude_proxy.claude.installation import PREFIX, Installation, clear_abandoned
from claude_proxy.claude.prompt import Prompt
from claude_proxy.claude.session import Session
from claude_proxy.conversation import TextDelta
from claude_proxy.errors import CannotStart, ProxyError
from tests.unit.fake_cli import FAKE, conversation, installation, run, script


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def directories(place: Path) -> list[Path]:
    return sorted(place.glob(f"{PREFIX}*"))


async def started(cli: Installation) -> Session:
    """A process that has been ended again."""
    session = await cli.spawn()
    await session.close()
    return session


async def shown(cli: Installation) -> dict:
    """What the stand-in says of its surroundings."""
    session = await cli.spawn()
    said = ""
    try:
        async with aclosing(session.run(Prompt.of(conversation("shows")), 20)) as batches:
            async for batch in batches:
                said += "".join(event.text for event in batch if isinstance(event, TextDelta))
    finally:
        await session.close()
    return json.loads(said)


def test_processes_run_in_one_empty_private_directory(tmp_path):
    async def work():
        cli = installation(tmp_path)
        first, second = await shown(cli), await shown(cli)
        (directory,) = directories(tmp_path)
        assert first["cwd"] == second["cwd"] == str(directory)
        assert first["files"] == []
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert directory.name.startswith(f"{PREFIX}{os.getpid()}-")
        cli.clean_up()
        assert directories(tmp_path) == []
        cli.clean_up()

    run(work)


def test_a_directory_that_was_tidied_away_is_made_anew(tmp_path):
    async def work():
        cli = installation(tmp_path)
        await started(cli)
        (directory,) = directories(tmp_path)
        directory.rmdir()
        await started(cli)
        assert len(directories(tmp_path)) == 1
        cli.clean_up()
        assert directories(tmp_path) == []

    run(work)


def test_while_its_place_is_gone_it_runs_where_temporary_files_go(tmp_path, monkeypatch):
    place, other = tmp_path / "gone", tmp_path / "tmp"
    other.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(other))

    async def work():
        cli = installation(place)
        await started(cli)
        assert len(directories(other)) == 1
        cli.clean_up()
        assert directories(other) == []

    run(work)


@pytest.mark.parametrize("reason", ["No such file or directory", "Not a directory"])
def test_no_place_to_run_in_is_an_answer_and_no_crash(tmp_path, monkeypatch, reason):
    place = tmp_path / "gone"
    if reason == "Not a directory":
        place.write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(place))

    async def work():
        cli = installation(place)
        with pytest.raises(ProxyError, match="no place for Claude Code to run in: ") as caught:
            await cli.spawn()
        assert caught.value.message.endswith(f": {reason}")
        place.unlink(missing_ok=True)
        place.mkdir()
        await started(cli)
        cli.clean_up()

    run(work)


def test_what_killed_daemons_have_left_is_cleared_away(tmp_path, dead):
    left = tmp_path / f"{PREFIX}{dead}-abc_1"
    (left / "below").mkdir(parents=True)
    stays = [
        tmp_path / name
        for name in (
            f"{PREFIX}{os.getpid()}-abc",
            f"{PREFIX}{dead}",
            f"{PREFIX}{dead}-a.b",
            f"{PREFIX}x-abc",
            f"{PREFIX}-abc",
            f"x{PREFIX}{dead}-abc",
        )
    ]
    for path in stays:
        path.mkdir()
    clear_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(stays)
    clear_abandoned(tmp_path / "gone")


def test_a_link_of_that_name_costs_nobody_his_files(tmp_path, dead):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    place = tmp_path / "place"
    place.mkdir()
    (place / f"{PREFIX}{dead}-abc").symlink_to(precious)
    clear_abandoned(place)
    assert (precious / "file").read_text() == "x"


def test_the_first_process_clears_what_was_left(tmp_path, dead):
    left = tmp_path / f"{PREFIX}{dead}-abc"
    left.mkdir()

    async def work():
        cli = installation(tmp_path)
        await started(cli)
        assert not left.exists()
        cli.clean_up()

    run(work)


def test_retries_hold_for_processes_that_start_later(tmp_path):
    async def work():
        cli = installation(tmp_path)
        assert (await shown(cli))["env"]["CLAUDE_CODE_MAX_RETRIES"] == "2"
        cli.retry(7)
        assert (await shown(cli))["env"]["CLAUDE_CODE_MAX_RETRIES"] == "7"
        cli.clean_up()

    run(work)


def test_a_new_file_is_examined_and_a_bad_one_named_once(tmp_path):
    async def work():
        path = Path(shutil.copy(FAKE, tmp_path / "claude"))
        cli = installation(tmp_path, path)
        old = await started(cli)
        assert cli.started(old)

        def upgrade(version: str) -> None:
            script(tmp_path / "draft", f"echo '{version} (Claude Code)'").replace(path)

        with capture_logs() as told:
            await cli.follow_upgrade()
            upgrade("2.9.1")
            assert not cli.started(old), "seen by whoever looks first"
            await cli.follow_upgrade()
            await cli.follow_upgrade()
            assert cli.cli.version == "2.9.1"
            upgrade("0.0.1")
            await cli.follow_upgrade()
            await cli.follow_upgrade()
            path.unlink()
            await cli.follow_upgrade()
            assert cli.cli.version == "2.9.1"
        events = [record["event"] for record in told if record["log_level"] != "debug"]
        assert events == ["claude.upgraded", "claude.upgrade_unusable"]
        cli.clean_up()

    run(work)


def test_an_upgrade_that_will_not_do_is_not_started_before_it_is_mended(tmp_path):
    async def work():
        path = script(tmp_path / "claude", f'exec "{FAKE}" "$@"')
        cli = installation(tmp_path, path)
        script(tmp_path / "draft", "echo '2.1.100 (Claude Code)'").replace(path)
        for _ in range(2):
            with pytest.raises(CannotStart, match=r"is Claude Code 2\.1\.100; 2\.1\.248 or newer"):
                await cli.spawn()
        script(tmp_path / "draft", f'exec "{FAKE}" "$@"').replace(path)
        session = await cli.spawn()
        assert session.alive
        await session.close()
        cli.clean_up()

    run(work)


def test_what_kept_an_upgrade_from_running_is_looked_at_again(tmp_path, monkeypatch):
    """The file itself stays as it was."""

    async def work():
        path = script(tmp_path / "claude", f'exec "{FAKE}" "$@"')
        cli = installation(tmp_path, path)
        needed = tmp_path / "needed"
        script(tmp_path / "draft", f'exec "{needed}" "$@"').replace(path)
        with capture_logs() as told:
            with pytest.raises(CannotStart, match="ended with exit code 127"):
                await cli.spawn()
            needed.symlink_to(FAKE)
            with pytest.raises(CannotStart):  # not at each request
                await cli.spawn()
            monkeypatch.setattr("claude_proxy.claude.installation.PROBLEM_FRESH", 0.0)
            await started(cli)
        events = [record["event"] for record in told if record["log_level"] != "debug"]
        assert events == ["claude.upgrade_unusable", "claude.upgraded"]
        cli.clean_up()

    run(work)


def test_the_login_is_asked_for_once_a_minute_whoever_wants_to_know(tmp_path):
    async def work():
        status = '{"loggedIn": true, "authMethod": "claude.ai", "subscriptionType": "max"}'
        path = script(tmp_path / "claude", f"echo >> '{tmp_path}/runs'", f"echo '{status}'")
        cli = installation(tmp_path, path)
        assert cli.last_login == Login(None)
        told = await asyncio.gather(*[cli.login() for _ in range(5)])
        assert set(told) == {Login(logged_in=True, method="claude.ai", plan="max")}
        assert cli.last_login == told[0]
        assert (tmp_path / "runs").read_text() == "\n"

    run(work)
