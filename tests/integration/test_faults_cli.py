"""The CLI crashes, babbles, hangs, floods, is replaced: one error each, and nobody else notices."""

from __future__ import annotations

import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults import (
    BARE,
    FAKE,
    SITE,
    asked_in_all_ways,
    beside,
    error_of,
    is_well,
    survived,
    text_of,
)
from tests.lab import Daemon

SILENCE = "3"
MIB = 2**20


@pytest.fixture(scope="module")
def fake():
    running = Daemon("--claude", FAKE, "--timeout", SILENCE, *BARE, env=SITE)
    is_well(running)
    yield running
    running.close()


def started(start, *flags, **options) -> Daemon:
    """Without a simulator: the stand-in asks nobody."""
    env = SITE | options.pop("env", {})
    return start("--claude", FAKE, *BARE, *flags, upstream=None, env=env, **options)


FAULTS = {
    "crash": (500, None, "ended with exit code 3"),
    "exit-amid": (500, None, "ended with exit code 0"),
    "crash-amid": (500, None, "ended with exit code 3"),
    "killed-amid": (500, None, "ended by SIGKILL"),
    "half-amid": (500, None, "ended with exit code 0"),
    "half-silent-amid": (504, "timeout", "silent for 3 seconds"),
    "closes-amid": (500, None, "closed its output"),
    "deaf-crash-amid": (500, None, "closed its output"),
    "stopped-amid": (504, "timeout", "silent for 3 seconds"),
    "silent": (504, "timeout", "silent for 3 seconds"),
    "array-amid": (502, None, "cannot be read"),
    "deep-amid": (502, None, "cannot be read"),
    "endless-amid": (502, None, "more than 67108864 bytes"),
    "login": (401, "upstream_authentication", None),
    "login-amid": (401, "upstream_authentication", None),
    "limit": (429, "rate_limit_exceeded", None),
    "wild-limit": (429, "rate_limit_exceeded", None),
}


@pytest.mark.parametrize("how", FAULTS)
def test_a_fault_of_the_cli_is_one_error_and_nobody_elses(fake, tmp_path, how):
    status, code, reason = FAULTS[how]
    with survived(fake), beside(fake, tmp_path):
        for ask, stream, answer in asked_in_all_ways(fake, how):
            error = error_of(fake, answer, ask)
            breaks_off = stream and how.endswith("-amid")
            assert answer.status_code == (200 if breaks_off else status)
            assert error["code"] == code
            if reason is not None:
                assert reason in error["message"]
                request = answer.headers["x-request-id"]
                told = fake.log.wait_for("claude.failed", request_id=request)
                assert told["reason"] == error["message"]
        is_well(fake)


def test_noise_harms_no_answer(fake, tmp_path):
    with survived(fake), beside(fake, tmp_path):
        for ask, stream, answer in asked_in_all_ways(fake, "bytes"):
            assert text_of(answer, ask, stream=stream) == "one "


def peak_memory(daemon) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1_024


def test_a_line_of_fifty_megabytes_is_passed_on(fake, tmp_path):
    with survived(fake), beside(fake, tmp_path):
        answer = fake.chat("fifty", stream=True)
        assert len(text_of(answer, "chat", stream=True)) == 50_000_000


def test_a_flood_on_stderr_is_neither_kept_nor_waited_for(start, tmp_path):
    daemon = started(start)
    is_well(daemon)
    with survived(daemon), beside(daemon, tmp_path):
        before = peak_memory(daemon)
        for ask, stream, answer in asked_in_all_ways(daemon, "flood"):
            assert text_of(answer, ask, stream=stream) == "one "
        assert peak_memory(daemon) - before < 50 * MIB  # of 400 that were said


def test_one_that_refuses_to_start_is_said_each_time_and_leaves_nothing(start):
    daemon = started(start, env={"FAKE_CLAUDE_START": "crash"})
    with survived(daemon):
        for ask, _, answer in asked_in_all_ways(daemon, "hi"):
            assert answer.status_code == 500
            assert "exit code 7" in error_of(daemon, answer, ask)["message"]
            request = answer.headers["x-request-id"]
            told = daemon.log.wait_for("claude.died_unused", request_id=request)
            assert told["reason"] == "ended with exit code 7"


def test_a_login_that_is_lost_is_lost_for_that_answer_alone(fake, tmp_path):
    """The next process reads the login anew."""
    with survived(fake), beside(fake, tmp_path):
        assert fake.chat("login").status_code == 401
        is_well(fake)


GOOD = Path(FAKE).read_text()
UPGRADES = ["2.1.340", "2.1.341", "2.1.342", "2.1.343"]


def put(path: Path, text: str) -> None:
    """As an updater does: in one step."""
    draft = path.with_name("draft")
    draft.write_text(text)
    draft.chmod(stat.S_IRWXU)
    draft.replace(path)


@pytest.fixture(scope="module")
def upgradable(tmp_path_factory):
    """A daemon, and the file that is its CLI."""
    path = Path(shutil.copy(FAKE, tmp_path_factory.mktemp("cli") / "claude"))
    running = Daemon("--claude", str(path), *BARE, env=SITE)
    is_well(running)
    yield running, path
    running.close()


def test_upgrades_under_load_cost_no_request(upgradable):
    daemon, path = upgradable
    with survived(daemon), ThreadPoolExecutor(4) as pool:
        for version in UPGRADES:
            asked = [pool.submit(daemon.chat, "fine") for _ in range(6)]
            put(path, GOOD.replace("2.1.330", version))
            assert [answer.result(60).status_code for answer in asked] == [200] * 6
            is_well(daemon)
            daemon.log.wait_for("claude.upgraded", version=version)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("#!/bin/sh\nexit 9\n", "exit code 9"),
        ("#!/bin/sh\necho '2.0.1 (Claude Code)'\n", "is Claude Code 2.0.1"),
        ("#!/nowhere/node\n", "No such file or directory"),
        ("\x7fELF half of it", "Exec format error"),
    ],
    ids=["fails", "too-old", "no-interpreter", "half"],
)
def test_while_a_broken_upgrade_lies_there_running_answers_go_on(upgradable, tmp_path, broken, why):
    daemon, path = upgradable
    told = len(daemon.log.records("claude.upgrade_unusable"))
    with survived(daemon), beside(daemon, tmp_path):
        put(path, broken)
        for ask, _, answer in asked_in_all_ways(daemon, "fine"):
            error = error_of(daemon, answer, ask)
            assert (answer.status_code, error["code"]) == (503, "service_unavailable")
            assert why in error["message"]
            assert answer.headers["x-should-retry"] == "false"
        put(path, GOOD)
        is_well(daemon)
    (record,) = daemon.log.records("claude.upgrade_unusable")[told:]
    assert why in record["reason"]


def test_a_cli_that_is_away_in_mid_upgrade_is_an_error_that_passes(upgradable, tmp_path):
    daemon, path = upgradable
    with survived(daemon), beside(daemon, tmp_path):
        path.unlink()
        for ask, _, answer in asked_in_all_ways(daemon, "fine"):
            error = error_of(daemon, answer, ask)
            assert answer.status_code == 502
            assert "No such file" in error["message"]
            request = answer.headers["x-request-id"]
            daemon.log.wait_for("claude.not_started", request_id=request)
        put(path, GOOD)
        is_well(daemon)
