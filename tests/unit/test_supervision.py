"""What goes on beside the requests: a real pool and server, and systemd's end of its socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from claude_proxy import supervision
from claude_proxy.api_key import ApiKey
from claude_proxy.claude.cli import Login
from claude_proxy.claude.pool import Pool
from claude_proxy.claude.tally import Stats
from claude_proxy.clients import Clients
from claude_proxy.current import Current
from claude_proxy.money.allowance import Allowance
from claude_proxy.money.spending import Spending
from claude_proxy.money.used import Used
from claude_proxy.notify import Notifier
from claude_proxy.settings import Settings
from claude_proxy.supervision import Supervision, describe, watch_login
from claude_proxy.tasks import running
from tests.unit.fake_cli import answer, installation, run, until
from tests.unit.service import App, Service, serving
from tests.unit.systemd import Systemd

# How often it looks: a third of systemd's limit.
LIMIT_USEC = "30000"
LOOKS = 12


@dataclass
class Scene:
    """All that is supervised."""

    service: Service
    pool: Pool
    app: App
    current: Current
    spending: Spending
    systemd: Systemd
    supervision: Supervision

    async def heard(self, text: str) -> str:
        """The first message with that text; everything before it is forgotten."""
        found: list[str] = []
        await until(lambda: found.extend(self.systemd.heard()) or any(text in one for one in found))
        return next(one for one in found if text in one)

    async def looks(self, count: int = LOOKS) -> None:
        """Waits until it has looked so often."""
        signs = 0

        def enough() -> bool:
            nonlocal signs
            signs += self.systemd.heard().count("WATCHDOG=1")
            return signs >= count

        await until(enough)


@pytest.fixture
def scene(tmp_path, monkeypatch):
    @asynccontextmanager
    async def scene(*, activated: bool = True, **settings) -> AsyncGenerator[Scene, None]:
        systemd = Systemd(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
        monkeypatch.setenv("WATCHDOG_USEC", LIMIT_USEC)
        notifier = Notifier(os.environ)
        current = Current(Settings(spares=0, **settings), Clients.of(ApiKey("k", "test")))
        spending, app = Spending(), App()
        allowance = Allowance(current, spending)
        async with (
            Pool(installation(tmp_path), current.settings, spending.add) as pool,
            serving(app, pool) as service,
        ):
            supervision = Supervision(
                service.server, pool, current, allowance, notifier, activated=activated
            )
            service.server.on_stopping = lambda: (supervision.stopping(), service.stopping.set())
            async with running(supervision.run(), "supervision"):
                yield Scene(service, pool, app, current, spending, systemd, supervision)
        notifier.close()
        systemd.close()

    return scene


def test_it_gives_signs_of_life_as_long_as_the_loop_turns(scene):
    async def work():
        async with scene() as here:
            began = asyncio.get_running_loop().time()
            await here.looks()
            took = asyncio.get_running_loop().time() - began
            assert took >= (LOOKS - 2) * int(LIMIT_USEC) / 3e6

    run(work)


def test_the_status_is_told_when_it_changes_and_only_then(scene):
    async def work():
        async with scene() as here:
            here.supervision.ready()
            ready = await here.heard("READY=1")
            assert ready == "READY=1\nSTATUS=idle, $0.00 today; login unknown"
            here.spending.add(Used("default", "m", usd=0.5))
            changed = await here.heard("STATUS=")
            assert changed == "STATUS=idle, $0.50 today; login unknown"
            assert await here.heard("") == "WATCHDOG=1"
            turn = asyncio.create_task(answer(here.pool, "silent"))
            assert await here.heard("STATUS=") == "STATUS=1 running, $0.50 today; login unknown"
            turn.cancel()
            assert await here.heard("STATUS=idle")

    run(work)


def test_a_reload_is_told_and_its_end(scene):
    async def work():
        async with scene() as here:
            here.supervision.reloading()
            here.supervision.ready()
            assert "MONOTONIC_USEC=" in await here.heard("RELOADING=1")

    run(work)


def test_while_it_drains_it_says_so_and_asks_for_patience(scene):
    async def work():
        async with scene() as here:
            client = await here.service.connect()
            client.ask("/wait")
            await here.app.asked.wait()
            here.service.server.should_exit = True
            told = await here.heard("STOPPING=1")
            assert told == "STOPPING=1\nSTATUS=draining: idle, $0.00 today; login unknown"
            for _ in range(3):
                assert await here.heard("EXTEND_TIMEOUT_USEC") == "EXTEND_TIMEOUT_USEC=15000000"
            here.spending.add(Used("default", "m", usd=1))
            assert "draining: idle, $1.00 today" in await here.heard("STATUS=draining")
            here.app.go.set()
            await client.answer()
            await here.service.task

    run(work)


def test_idle_long_enough_it_ends(scene):
    async def work():
        with capture_logs() as told:
            async with scene(idle_exit=0.05) as here:
                await here.service.task
                assert here.service.server.should_exit
        (why,) = [one["why"] for one in told if one["event"] == "daemon.draining"]
        assert why == "idle for 0 s"

    run(work)


@pytest.mark.parametrize("more", [{"idle_exit": 0.001, "activated": False}, {"idle_exit": 0}])
def test_it_never_ends_when_nobody_starts_it_again_or_nobody_wants_that(scene, more):
    async def work():
        async with scene(**more) as here:
            await here.looks()
            assert not here.service.server.should_exit

    run(work)


def test_a_reload_changes_when_it_ends(scene):
    async def work():
        async with scene() as here:
            await here.looks()
            assert not here.service.server.should_exit
            here.current.settings = Settings(idle_exit=0.001)
            await here.service.task

    run(work)


def test_a_request_keeps_it_up_and_idleness_counts_from_its_end(scene):
    async def work():
        async with scene(idle_exit=0.2) as here:
            client = await here.service.connect()
            client.ask("/wait")
            await here.app.asked.wait()
            await here.looks(40)
            assert not here.service.server.should_exit
            ended = asyncio.get_running_loop().time()
            here.app.go.set()
            await client.answer()
            await here.service.stopping.wait()
            assert asyncio.get_running_loop().time() - ended >= 0.19

    run(work)


def test_who_only_watches_does_not_keep_it_up_and_hears_why_it_ends(scene):
    async def work():
        async with scene(idle_exit=0.05) as here:
            client = await here.service.connect()
            client.ask("/watch")
            await here.app.asked.wait()
            await here.current.ending.wait()
            assert here.current.why == "idle"
            here.app.go.set()
            await client.answer()
            await here.service.task

    run(work)


def test_a_turn_and_a_conversation_that_lives_on_keep_it_up(scene):
    async def work():
        async with scene(idle_exit=0.05, keep_alive=300.0) as here:
            await answer(here.pool, "hello")
            assert here.pool.stats.living == 1
            await here.looks(20)
            assert not here.service.server.should_exit
            here.pool.configure(Settings(spares=0, keep_alive=0))
            await here.service.task

    run(work)


def test_a_missing_login_is_named_once(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(supervision, "LOGIN_DELAY", 0)
    monkeypatch.setattr(supervision, "LOGIN_INTERVAL", 0.001)

    async def work():
        with capture_logs() as told:
            async with (
                scene() as here,
                running(watch_login(here.pool, here.service.server), "login"),
            ):
                await here.heard("NOT logged in")
                client = await here.service.connect()
                here.pool.installation._login_at = float("-inf")
                client.ask()
                await client.answer()
                await until(lambda: here.pool.installation._login_at > 0)
        events = [one["event"] for one in told if one["log_level"] == "warning"]
        assert events == ["claude.not_logged_in"]

    run(work)


@pytest.mark.parametrize(
    ("stats", "spent", "login", "line"),
    [
        (Stats(0, 0, 0, 0), 0.0, Login(None), "idle, $0.00 today; login unknown"),
        (Stats(0, 0, 2, 0), 0.004, Login(logged_in=False), "2 spare, $0.00 today; NOT logged in"),
        (
            Stats(running=2, queued=1, spares=1, living=3),
            0.415,
            Login(logged_in=True, method="claude.ai", plan="max"),
            "2 running, 1 queued, 3 living, 1 spare, $0.41 today; logged in as max",
        ),
    ],
)
def test_a_status_is_one_line_for_people(stats, spent, login, line):
    assert describe(stats, spent, login) == line


@pytest.mark.parametrize(
    ("login", "shown"),
    [
        (Login(None, "m", "p"), "login unknown"),
        (Login(logged_in=False, method="m", plan="p"), "NOT logged in"),
        (Login(logged_in=True, method="m"), "logged in as m"),
        (Login(logged_in=True), "logged in as somebody"),
    ],
)
def test_a_login_is_named_by_its_plan_or_its_kind(login, shown):
    assert str(login) == shown


numbers = st.integers(0, 10_000)


@given(st.builds(Stats, numbers, numbers, numbers, numbers), st.floats(0, 1e6))
def test_every_number_that_is_not_zero_is_shown(stats, spent):
    line = describe(stats, spent, Login(None))
    assert line.endswith(f", ${spent:.2f} today; login unknown")
    shown = {stats.running: "running", stats.queued: "queued", stats.living: "living"}
    for number, name in shown.items():
        assert (f"{number} {name}" in line) == (number > 0)
    assert line.startswith("idle") == (stats == Stats(0, 0, 0, 0))


def test_the_place_of_the_stand_in_is_left_clean(scene, tmp_path):
    async def work():
        async with scene() as here:
            await answer(here.pool, "hello")

    run(work)
    assert [path for path in Path(tmp_path).iterdir() if path.is_dir()] == []
