"""SIGHUP's work: a real configuration file and key file, read again into a real pool."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from claude_proxy import app, log
from claude_proxy.api_key import ApiKey
from claude_proxy.claude.pool import Pool
from claude_proxy.clients import Clients, load_clients
from claude_proxy.command_line import load
from claude_proxy.current import Current
from claude_proxy.http.server import Server
from claude_proxy.kept import Kept
from claude_proxy.measures import Measures
from claude_proxy.money.allowance import Allowance
from claude_proxy.money.spending import Spending
from claude_proxy.notify import Notifier
from claude_proxy.reload import Reload, differences
from claude_proxy.serving import Serving
from claude_proxy.settings import OPTIONS, SECRET, Settings
from claude_proxy.start import Start
from tests.unit.fake_cli import answer, installation, run, until
from tests.unit.systemd import Systemd

SETTINGS = """\
api-key-file = "{key}"
spares = 0
queue = 5
"""


@pytest.fixture(autouse=True)
def _levels_as_before():
    loggers = [logging.getLogger(name) for name in (None, "uvicorn", "asyncio")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def built(current: Current, pool: Pool) -> ASGIApp:
    return app.build(current, pool, Kept(None), Allowance(current, Spending()), Measures())


@dataclass
class Home:
    """A configuration file, a key file, and what runs by them."""

    config: Path
    key: Path
    current: Current
    pool: Pool
    server: Server
    reload: Reload

    def configure(self, more: str = "") -> list[dict[str, Any]]:
        """Writes the file, reloads, and returns what the log has to say."""
        self.config.write_text(SETTINGS.format(key=self.key) + more)
        with capture_logs() as told:
            self.reload()
        return told

    async def status_with(self, key: str) -> int:
        """What a client with that key gets, for something that is not there."""
        transport = httpx.ASGITransport(built(self.current, self.pool))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            answer = await client.get("/nothing", headers={"authorization": f"Bearer {key}"})
        return answer.status_code


@pytest.fixture
def home(tmp_path):
    @asynccontextmanager
    async def home(*argv: str) -> AsyncGenerator[Home, None]:
        config, key = tmp_path / "config.toml", tmp_path / "key"
        config.write_text(SETTINGS.format(key=key))
        key.write_text("first\n")

        def reread() -> tuple[Settings, Clients]:
            settings = load(["--config", str(config), *argv], {}).settings
            return settings, load_clients(settings, {})

        current = Current(*reread())
        async with Pool(installation(tmp_path), current.settings) as pool:
            server = Server(built(current, pool), pool, 30.0)
            yield Home(config, key, current, pool, server, Reload(reread, current, pool, server))

    return home


def test_good_settings_are_put_in_force_and_named(home):
    async def work():
        async with home() as here:
            told = here.configure('drain-timeout = "9s"\nlog-level = "error"\ntimeout = 7')
            (record,) = told
            assert record["event"] == "daemon.reloaded"
            assert record["changed"] == {"timeout": 7.0, "drain_timeout": 9.0, "log_level": "error"}
            assert record["key_from"] == str(here.key)
            assert here.server.drain_timeout == 9.0
            assert here.pool.silence == 7.0
            assert here.current.settings.timeout == 7.0
            assert logging.getLogger().level == logging.ERROR
            assert logging.getLogger("uvicorn").level == logging.ERROR
            here.configure()
            assert here.server.drain_timeout == Settings().drain_timeout
            assert logging.getLogger().level == logging.INFO
            assert logging.getLogger("asyncio").level == logging.WARNING

    run(work)


def test_nothing_new_is_said_as_well(home):
    async def work():
        async with home() as here:
            before = here.current.settings
            (record,) = here.configure()
            assert record["changed"] == {}
            assert here.current.settings == before

    run(work)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("timeout = 'soon'\nqueue-timeout = 1", "timeout: expected a number"),
        ("queue-timeout = 1\nnonsense = 1", "unknown setting nonsense"),
        ("queue-timeout = 1\nspares =", "not TOML"),
        ("queue-timeout = 1\nqueue = 1", "not TOML"),
    ],
)
def test_bad_settings_are_refused_as_a_whole(home, more, reason):
    async def work():
        async with home() as here:
            before, key = here.current.settings, here.current.clients
            (record,) = here.configure(more)
            assert record["event"] == "daemon.reload_refused"
            assert record["log_level"] == "error"
            assert reason in record["reason"]
            assert (here.current.settings, here.current.clients) == (before, key)
            (record,) = here.configure("queue-timeout = 1")
            assert record["changed"] == {"queue_timeout": 1.0}

    run(work)


@pytest.mark.parametrize("left", [None, "", "two words\n"])
def test_a_key_that_cannot_be_read_leaves_all_as_it_was(home, left):
    async def work():
        async with home() as here:
            here.key.unlink()
            if left is not None:
                here.key.write_text(left)
            (record,) = here.configure("queue-timeout = 1")
            assert record["event"] == "daemon.reload_refused"
            assert str(here.key) in record["reason"]
            assert here.current.settings.queue_timeout == Settings().queue_timeout
            assert await here.status_with("first") == 404

    run(work)


def test_what_a_running_program_cannot_change_is_named_and_left(home):
    async def work():
        async with home() as here:
            told = here.configure('port = 1\nhost = "::1"\nlog-format = "json"\nqueue-timeout = 1')
            warning, record = told
            assert (warning["event"], warning["log_level"]) == ("daemon.needs_restart", "warning")
            assert warning["note"] == "a reload leaves host, port, log_format alone"
            assert record["changed"] == {"queue_timeout": 1.0}
            settings = here.current.settings
            assert (settings.port, settings.host, settings.log_format) == (
                8080,
                "127.0.0.1",
                "auto",
            )
            assert [one["event"] for one in here.configure("port = 1")] == [
                *("daemon.needs_restart", "daemon.reloaded")
            ]

    run(work)


def test_a_new_key_is_asked_for_from_now_on(home):
    async def work():
        async with home() as here:
            assert (await here.status_with("first"), await here.status_with("second")) == (404, 401)
            here.key.write_text("second\n")
            assert await here.status_with("first") == 404, "nobody has said so yet"
            told = here.configure()
            assert (await here.status_with("first"), await here.status_with("second")) == (401, 404)
            assert "second" not in str(told)

    run(work)


def test_a_key_is_never_named_among_what_has_changed(home):
    old, new = Settings(), Settings(api_key="sk-secret", queue=1)
    assert differences(old, new) == ["api_key", "queue"]
    assert {name for name in SECRET if OPTIONS[name].fixed} == set()

    async def work():
        async with home() as here:
            clients = Clients.of(ApiKey("sk-secret", "test"))
            reload = Reload(lambda: (new, clients), here.current, here.pool, here.server)
            with capture_logs() as told:
                reload()
            (record,) = [one for one in told if one["event"] == "daemon.reloaded"]
            assert record["changed"]["api_key"] == "(secret)"
            assert "sk-secret" not in str(told)

    run(work)


def test_a_flag_still_goes_before_the_file(home):
    async def work():
        async with home("--queue-timeout=3") as here:
            (record,) = here.configure("queue-timeout = 1")
            assert record["changed"] == {}
            assert here.current.settings.queue_timeout == 3.0

    run(work)


def test_turns_that_run_go_on_and_waiting_ones_get_the_new_slots(home):
    async def work():
        async with home("--max-concurrency=1") as here:
            silent = asyncio.create_task(answer(here.pool, "silent"))
            await until(lambda: here.pool.stats.running == 1)
            waiting = asyncio.create_task(answer(here.pool, "hello"))
            await until(lambda: here.pool.stats.queued == 1)
            wider = Settings(spares=0, max_concurrency=2)
            Reload(lambda: (wider, here.current.clients), here.current, here.pool, here.server)()
            assert await waiting
            assert not silent.done()
            silent.cancel()
            with pytest.raises(asyncio.CancelledError):
                await silent

    run(work)


def test_spares_are_started_and_ended_by_the_new_number(home):
    async def work():
        async with home() as here:
            settings = {"spares": 0}

            def reload(**more: int) -> None:
                settings.update(more)
                made = (Settings(**settings), here.current.clients)
                Reload(lambda: made, here.current, here.pool, here.server)()

            for wanted in (2, 1, 0):
                reload(spares=wanted)
                await until(lambda wanted=wanted: here.pool.stats.spares == wanted)
                assert here.pool.stats.running == 0

    run(work)


def test_systemd_hears_of_the_end_of_a_reload_that_crashes(home, tmp_path, monkeypatch):
    """It would wait for that, and then kill the service."""
    systemd = Systemd(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
    notifier = Notifier(os.environ)

    def reread() -> tuple[Settings, Clients]:
        raise ZeroDivisionError

    async def work():
        async with home() as here:
            before = here.current.settings
            start = Start(before, here.current.clients, {}, notifier, reread, passed=[])
            serving = Serving(start, here.pool, Kept(None), Spending(), [])
            with pytest.raises(ZeroDivisionError):
                serving.reload()
            began, ended = systemd.heard()
            assert began.startswith("RELOADING=1\n")
            assert ended.startswith("READY=1\n")
            assert here.pool.silence == before.timeout
            serving.server.should_exit = True
            serving.reload()
            assert systemd.heard() == [], "it is not ready any more"

    run(work)
    notifier.close()
    systemd.close()


def test_the_level_holds_for_all_loggers_at_once():
    log.set_level("debug")
    assert logging.getLogger("anything").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("uvicorn").isEnabledFor(logging.INFO)
