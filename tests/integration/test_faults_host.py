"""The host's faults: a clock that jumps, nothing left to take, a state that is full or gone."""

from __future__ import annotations

import datetime as dt
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.faults import (
    BARE,
    FAKE,
    SITE,
    asked_in_all_ways,
    beside,
    error_of,
    health,
    is_well,
    survived,
    text_of,
)
from tests.lab import wait_until

DAY = 86_400
# For a daemon whose processes are counted: root's are not. It may read what root may.
NOBODY = "64123"
AS_NOBODY = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
)


def works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


NO_NAMESPACE = pytest.mark.skipif(
    not works("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"),
    reason="a file system of its own takes root, and a mount namespace",
)


@pytest.fixture
def begin(start, tmp_path):
    """Daemons with the stand-in, whose state is in ``tmp_path``."""

    def begin(*flags, **options):
        env = SITE | {"XDG_STATE_HOME": str(tmp_path)} | options.pop("env", {})
        daemon = start("--claude", FAKE, *BARE, *flags, upstream=None, env=env, **options)
        is_well(daemon)
        return daemon

    return begin


def stored(daemon, id_):
    return daemon.client.get(f"/v1/responses/{id_}").status_code


@contextmanager
def limited(daemon, name, soft, through=()):
    """A running daemon's own limit, which is this process's before and afterwards."""
    before, _ = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
    command = (*through, "prlimit", f"--pid={daemon.process.pid}")
    subprocess.run((*command, f"--{name}={soft}:"), check=True)
    try:
        yield
    finally:
        subprocess.run((*command, f"--{name}={before}:"), check=True)


# The clock.


def test_a_clock_that_jumps_ends_nothing_and_days_are_counted_by_it(begin, tmp_path):
    clock = tmp_path / "clock"
    daemon = begin("--store-days", "30", env={"LAB_CLOCK": str(clock)})
    first = daemon.respond("fine").json()
    for days in (1, -1, 365, -365, 0):
        with survived(daemon):
            with beside(daemon, tmp_path):
                clock.write_text(str(days * DAY))
                for ask, stream, answer in asked_in_all_ways(daemon, "fine"):
                    assert text_of(answer, ask, stream=stream) == "fine"
                    request = answer.headers["x-request-id"]
                    done = daemon.log.wait_for("request.done", request_id=request)
                    assert 0 < done["ttft_ms"] <= done["duration_ms"] < 60_000
            created = daemon.respond("fine").json()["created_at"]
            assert abs(created - time.time() - days * DAY) < 60
            assert int(daemon.chat("limit").headers["retry-after"]) >= 1
            assert stored(daemon, first["id"]) == (404 if days == 365 else 200)
    assert days_of_spending(tmp_path) >= {day(n) for n in (1, -1, 365, -365, 0)}


def day(offset):
    today = dt.datetime.now().astimezone().date()
    return (today + dt.timedelta(days=offset)).isoformat()


def days_of_spending(state):
    path = state / "claude-proxy" / "spending.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return {found for (found,) in db.execute("SELECT day FROM used")}


def test_a_daemon_that_was_stopped_for_longer_than_its_patience_goes_on(begin, tmp_path):
    """As it is with a machine that was frozen: what came meanwhile is there, the time is over."""
    daemon = begin("--timeout", "3")
    with survived(daemon), beside(daemon, tmp_path):
        daemon.process.send_signal(signal.SIGSTOP)
        threading.Event().wait(3.5)
        daemon.process.send_signal(signal.SIGCONT)
        is_well(daemon)


# Nothing left to take.


def test_without_descriptors_it_says_so_and_goes_on_when_there_are_some(begin, tmp_path):
    daemon = begin()
    with survived(daemon), beside(daemon, tmp_path):
        assert wait_until(lambda: health(daemon)["sessions"]["running"] == 1)
        used = len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))
        # Room for connections, of which there may be four, but not for a process and its pipes.
        with limited(daemon, "nofile", used + 6):
            for ask, _, answer in asked_in_all_ways(daemon, "fine"):
                error = error_of(daemon, answer, ask)
                assert (answer.status_code, error["code"]) == (503, "overloaded")
                assert "Too many open files" in error["message"]
                assert int(answer.headers["retry-after"]) > 0
                request = answer.headers["x-request-id"]
                daemon.log.wait_for("claude.not_started", request_id=request)
        is_well(daemon)


@pytest.mark.skipif(
    os.geteuid() == 0 and not works(*AS_NOBODY, "true"),
    reason="as root, another user takes setpriv",
)
def test_without_processes_it_says_so_and_goes_on_when_there_are_some(begin, tmp_path):
    through = AS_NOBODY if os.geteuid() == 0 else ()
    daemon = begin(through=through)
    with survived(daemon), beside(daemon, tmp_path):
        with limited(daemon, "nproc", 1, through):
            for ask, _, answer in asked_in_all_ways(daemon, "fine"):
                error = error_of(daemon, answer, ask)
                assert (answer.status_code, error["code"]) == (503, "overloaded")
                assert "temporarily unavailable" in error["message"]
                request = answer.headers["x-request-id"]
                daemon.log.wait_for("claude.not_started", request_id=request)
        is_well(daemon)


# The state.


def test_state_that_is_deleted_under_a_running_daemon_is_begun_anew(begin, tmp_path):
    daemon = begin()
    lost = daemon.respond("fine").json()
    with survived(daemon), beside(daemon, tmp_path):
        shutil.rmtree(tmp_path / "claude-proxy")
        for ask, stream, answer in asked_in_all_ways(daemon, "fine"):
            assert text_of(answer, ask, stream=stream) == "fine"
        kept = daemon.respond("fine").json()
        gone = daemon.respond("fine", previous_response_id=lost["id"])
        assert error_of(daemon, gone, "respond")["code"] == "previous_response_not_found"
    assert (kept["store"], stored(daemon, kept["id"])) == (True, 200)
    told = [Path(record["path"]).name for record in daemon.log.records("store.opened_anew")]
    assert told.count("responses.db") == 1
    daemon.terminate()
    assert stored(begin(), kept["id"]) == 200


def test_a_state_that_cannot_be_written_costs_no_answer_and_heals(begin, tmp_path):
    daemon = begin()
    path = tmp_path / "claude-proxy" / "responses.db"
    with survived(daemon), beside(daemon, tmp_path):
        shutil.rmtree(path.parent)
        path.parent.write_text("a file in place of the directory")
        for ask, stream, answer in asked_in_all_ways(daemon, "fine"):
            assert text_of(answer, ask, stream=stream) == "fine"
            request = answer.headers["x-request-id"]
            if ask == "respond":
                assert daemon.log.wait_for("store.response_lost", request_id=request)["reason"]
        found = daemon.client.get("/v1/responses/resp_1")
        assert found.status_code == 500
        assert "cannot be read" in found.json()["error"]["message"]
        path.parent.unlink()
        healed = daemon.respond("fine").json()
    assert (healed["store"], stored(daemon, healed["id"])) == (True, 200)


def on_own_file_system(place, *options):
    """A command that becomes the daemon, once a tmpfs or what else is mounted there for it."""
    return ("unshare", "--mount", "sh", "-c", f'{" && ".join(options)} && exec "$@"', str(place))


def in_namespace(daemon, *command):
    subprocess.run(("nsenter", f"--target={daemon.process.pid}", "--mount", *command), check=True)


@NO_NAMESPACE
def test_a_cli_that_fills_the_disk_costs_its_answer_nothing_but_its_place(begin, tmp_path):
    """The state and the CLI's own directory are on one small file system."""
    mounted = on_own_file_system(tmp_path, f"mount -t tmpfs -o size=1M none {tmp_path}")
    daemon = begin(through=mounted, env={"XDG_RUNTIME_DIR": str(tmp_path)})
    first = daemon.respond("fine").json()
    assert first["store"] is True
    with survived(daemon):
        for ask, stream, answer in asked_in_all_ways(daemon, "fills"):
            assert "No space left on device" in text_of(answer, ask, stream=stream)
        full = daemon.respond("fine " * 50_000)
        assert text_of(full, "respond", stream=False) == "fine"
        assert full.json()["store"] is False
        request = full.headers["x-request-id"]
        lost = daemon.log.wait_for("store.response_lost", request_id=request)
        assert "full" in lost["reason"]
        assert stored(daemon, first["id"]) == 200
        assert stored(daemon, full.json()["id"]) == 404
        in_namespace(daemon, "mount", "-o", "remount,size=16M", str(tmp_path))
        healed = daemon.respond("fine " * 50_000).json()
    assert (healed["store"], stored(daemon, healed["id"])) == (True, 200)


@NO_NAMESPACE
def test_a_state_that_is_read_only_costs_no_answer(begin, tmp_path):
    before = begin()
    kept = before.respond("fine").json()
    before.terminate()
    state = tmp_path / "claude-proxy"
    bind = f"mount --bind {state} {state} && mount -o remount,bind,ro {state}"
    daemon = begin(through=on_own_file_system(state, bind))
    daemon.log.wait_for("store.unusable")
    daemon.log.wait_for("spending.not_kept")
    with survived(daemon), beside(daemon, tmp_path):
        for ask, stream, answer in asked_in_all_ways(daemon, "fine"):
            assert text_of(answer, ask, stream=stream) == "fine"
        assert daemon.respond("fine").json()["store"] is False
        assert stored(daemon, kept["id"]) == 404
    daemon.terminate()
    assert stored(begin(), kept["id"]) == 200


def test_broken_files_at_the_start_are_moved_aside_each(begin, tmp_path):
    state = tmp_path / "claude-proxy"
    state.mkdir()
    for name in ("responses.db", "spending.db"):
        (state / name).write_bytes(b"no database any more " * 500)
    daemon = begin()
    kept = daemon.respond("fine").json()
    assert (kept["store"], stored(daemon, kept["id"])) == (True, 200)
    assert days_of_spending(tmp_path) == {day(0)}
    moved = {Path(record["moved_to"]).name for record in daemon.log.records("store.corrupt")}
    assert {name.partition(".corrupt-")[0] for name in moved} == {"responses.db", "spending.db"}
    assert all((state / name).read_bytes().startswith(b"no database") for name in moved)
