"""The overview, whole and as events: bounded, over at the drain, and nobody's reason to stay up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace

import msgspec
import pytest

from claude_proxy import app
from claude_proxy.api_key import ApiKey
from claude_proxy.claude.pool import Pool
from claude_proxy.clients import Client as Customer
from claude_proxy.clients import Clients, digest
from claude_proxy.current import Current
from claude_proxy.http import server
from claude_proxy.kept import Kept
from claude_proxy.measures import Measures
from claude_proxy.money.allowance import Allowance
from claude_proxy.money.spending import Spending
from claude_proxy.money.used import Used
from claude_proxy.page import overview, watch
from claude_proxy.page.overview import Overlook, Overview
from claude_proxy.page.recent import Recent
from claude_proxy.settings import Settings
from tests.unit.fake_cli import installation, run, until
from tests.unit.service import Client, Service, serving

SOON = 8.0
EVENTS = "text/event-stream"


@dataclass
class Scene:
    service: Service
    current: Current
    spending: Spending

    async def ask(self, *, method: str = "GET", accept: str = EVENTS, key: str = "sk-x") -> Client:
        client = await self.service.connect()
        lines = [
            f"{method} /v1/overview HTTP/1.1",
            *("host: localhost", f"authorization: Bearer {key}", f"accept: {accept}", "", ""),
        ]
        client._writer.write("\r\n".join(lines).encode())
        return client


@pytest.fixture
def scene(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "INTERVAL", 0.02)

    @asynccontextmanager
    async def scene(drain: float = 20.0) -> AsyncGenerator[Scene, None]:
        current = Current(Settings(spares=0), Clients.of(ApiKey("sk-x", "test")))
        spending = Spending()
        async with Pool(installation(tmp_path), current.settings) as pool:
            built = app.build(current, pool, Kept(None), Allowance(current, spending), Measures())
            async with serving(built, pool, drain) as service:
                service.server.on_stopping = lambda: (
                    current.ending.set(),
                    service.stopping.set(),
                )
                yield Scene(service, current, spending)

    return scene


async def head(client: Client) -> list[str]:
    return (await client._reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")[:-2]


async def event(client: Client) -> Overview:
    """The next one."""
    frame = await client._reader.readuntil(b"\n\n")
    return msgspec.json.decode(frame.partition(b"data: ")[2], type=Overview)


async def whole(client: Client) -> tuple[str, bytes]:
    lines = await head(client)
    length = next(int(line.split()[1]) for line in lines if line.startswith("content-length"))
    return lines[0], await client._reader.readexactly(length)


def test_it_needs_the_key_and_is_whole_for_who_wants_no_events(scene):
    async def work():
        async with scene() as here:
            status, _ = await whole(await here.ask(key="sk-y"))
            assert status == "http/1.1 401 unauthorized"
            status, body = await whole(await here.ask(accept="application/json"))
            assert status == "http/1.1 200 ok"
            told = msgspec.json.decode(body, type=Overview)
            assert told.models == ["haiku", "sonnet", "opus"]
            assert (told.default_model, told.ending) == ("sonnet", None)
            assert [one.status for one in told.requests] == [401]

    run(work)


def test_a_head_is_not_a_watcher(scene):
    async def work():
        async with scene() as here:
            client = await here.ask(method="HEAD")
            lines = await head(client)
            assert "content-type: application/json" in lines
            await until(lambda: not here.service.server.busy)
            assert not here.service.server.server_state.tasks

    run(work)


def test_events_come_at_first_and_when_something_changes_and_are_no_request(scene):
    async def work():
        async with scene() as here:
            client = await here.ask()
            lines = await head(client)
            assert f"content-type: {EVENTS}; charset=utf-8" in lines
            assert "cache-control: no-store" in lines
            first = await event(client)
            assert first.usage.today.total.usd == 0
            here.spending.add(Used("phone", "m", usd=0.5))
            second = await event(client)
            (day,) = second.usage.days
            assert (day.usd, day.by_model, day.by_client) == (0.5, {"m": 0.5}, {"phone": 0.5})
            other = await here.ask(key="sk-y")
            await whole(other)
            third = await event(client)
            assert [(one.status, one.route) for one in third.requests] == [(401, "unknown")]

    run(work)


def test_while_nothing_changes_it_says_that_it_lives(scene, monkeypatch):
    monkeypatch.setattr(watch, "SILENCE", 0.05)

    async def work():
        async with scene() as here:
            client = await here.ask()
            await head(client)
            await event(client)
            for _ in range(2):
                assert b": keep-alive\n\n" in await client._reader.readuntil(b"keep-alive\n\n")

    run(work)


def test_so_many_may_watch_and_whoever_leaves_makes_room(scene):
    async def work():
        async with scene() as here:
            watchers = [await here.ask() for _ in range(watch.MOST_WATCHERS)]
            for client in watchers:
                await event(client)
            status, body = await whole(await here.ask())
            assert status == "http/1.1 503 service unavailable"
            assert b"are watching already" in body
            await watchers[0].close()
            state = here.service.server.server_state
            await until(lambda: len(state.tasks) < watch.MOST_WATCHERS)
            await event(await here.ask())

    run(work)


@pytest.mark.parametrize(("rest", "usd"), [(0, 0.5), (1e9, 0)])
def test_a_month_that_takes_long_to_sum_up_is_summed_up_seldom(tmp_path, monkeypatch, rest, usd):
    monkeypatch.setattr(overview, "REST", rest)

    async def work():
        current, spending = Current(Settings(), Clients.of(ApiKey("sk-x", "test"))), Spending()
        async with Pool(installation(tmp_path), Settings(spares=0)) as pool:
            overlook = Overlook(current, pool, Allowance(current, spending), Recent())
            overlook.now()
            spending.add(Used("phone", "m", usd=0.5))
            told = msgspec.json.decode(overlook.now(), type=Overview)
            assert told.usage.month.total.usd == usd

    run(work)


def test_what_another_daemon_has_spent_is_seen_too(tmp_path, monkeypatch):
    monkeypatch.setattr(overview, "MONTH_FRESH", 0)
    path = tmp_path / "spending.db"

    async def work():
        current = Current(Settings(spares=0), Clients.of(ApiKey("sk-x", "test")))
        with closing(Spending.open(path)) as ours, closing(Spending.open(path)) as theirs:
            async with Pool(installation(tmp_path), current.settings) as pool:
                overlook = Overlook(current, pool, Allowance(current, ours), Recent())
                overlook.now()
                theirs.add(Used("phone", "m", usd=0.5))
                told = msgspec.json.decode(overlook.now(), type=Overview)
                assert told.usage.month.total.usd == 0.5

    run(work)


@pytest.mark.parametrize("why", ["idle", "stopped"])
def test_it_ends_with_the_program_at_once_and_says_why(scene, why):
    async def work():
        async with scene() as here:
            client = await here.ask()
            await event(client)
            assert not here.service.server.busy
            here.current.why = why
            here.service.server.should_exit = True
            last = await event(client)
            assert (last.ending, last.service.reasons) == (why, ["it is shutting down"])
            async with asyncio.timeout(SOON):
                assert (await client._reader.read()).endswith(b"0\r\n\r\n")
                await asyncio.shield(here.service.task)

    run(work)


def test_who_has_lost_the_key_sees_no_more(scene):
    async def work():
        async with scene() as here:
            phone = Customer("phone", digest(b"sk-phone"))
            clients = here.current.clients
            here.current.clients = Clients([*clients.all, phone], "test")
            client, other = await here.ask(key="sk-phone"), await here.ask()
            await event(client)
            await event(other)
            limited = replace(phone, rate=1)
            here.current.clients = Clients([*clients.all, limited], "test")
            here.spending.add(Used("phone", "m", usd=0.5))
            assert (await event(client)).usage.today.total.usd == 0.5
            await event(other)
            here.current.clients = clients
            here.spending.add(Used("default", "m", usd=0.25))
            assert (await event(other)).usage.today.total.usd == 0.75
            async with asyncio.timeout(SOON):
                assert await client._reader.read() == b"\r\n0\r\n\r\n"

    run(work)


async def stalled(here: Scene) -> Client:
    """One that has more before it than kernel and server hold, and takes none of it."""
    client = await here.ask()
    await event(client)
    client._writer.transport.pause_reading()
    for number in range(20):
        here.spending.add(Used(f"{number}{'x' * 200_000}", "m", usd=1))
    (connection,) = here.service.server.server_state.connections
    await until(lambda: connection.flow.write_paused)
    return client


def test_who_takes_nothing_has_gone(scene, monkeypatch):
    monkeypatch.setattr(watch, "SEND_TIMEOUT", 0.2)
    monkeypatch.setattr(watch, "SILENCE", 0.05)

    async def work():
        async with scene() as here:
            client = await stalled(here)
            await until(lambda: not here.service.server.server_state.tasks)
            client._writer.transport.abort()

    run(work)


def test_who_takes_nothing_does_not_hold_the_drain(scene, monkeypatch):
    monkeypatch.setattr(server, "FAREWELL", 0.2)
    monkeypatch.setattr(watch, "SILENCE", 0.05)

    async def work():
        async with scene() as here:
            client = await stalled(here)
            here.service.server.should_exit = True
            async with asyncio.timeout(SOON):
                await asyncio.shield(here.service.task)
            client._writer.transport.abort()

    run(work)
