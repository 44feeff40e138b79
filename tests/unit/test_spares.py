"""Spares: real processes of the CLI's stand-in that wait for a conversation."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from claude_proxy.claude import spares as spares_module
from claude_proxy.claude.installation import Installation
from claude_proxy.claude.session import Session
from claude_proxy.claude.spares import Spares
from tests.unit.fake_cli import FAKE, installation, run, until

LONG = 3_600.0


class Place:
    """An installation of its own, and all that it has started."""

    def __init__(self, directory: Path) -> None:
        self.cli = Path(shutil.copy(FAKE, directory / "claude"))
        self.installation: Installation = installation(directory, self.cli)
        self.sessions: list[Session] = []

    async def start(self, count: int) -> list[Session]:
        new = [await self.installation.spawn() for _ in range(count)]
        self.sessions += new
        return new


@pytest.fixture
def place(tmp_path):
    @asynccontextmanager
    async def place() -> AsyncGenerator[Place, None]:
        made = Place(tmp_path)
        try:
            yield made
        finally:
            await asyncio.gather(*[session.close() for session in made.sessions])
            made.installation.clean_up()

    return place


def filled(place: Place, sessions: list[Session], wanted: int, max_age: float = LONG) -> Spares:
    spares = Spares(place.installation, wanted, max_age)
    for session in sessions:
        spares.add(session)
    return spares


async def kill(session: Session) -> None:
    os.kill(session.pid, signal.SIGKILL)
    await until(lambda: not session.alive)


def test_the_oldest_is_taken_first_and_each_once(place):
    async def work():
        async with place() as here:
            first, second = await here.start(2)
            spares = filled(here, [first, second], wanted=2)
            assert (len(spares), spares.missing) == (2, False)
            assert spares.take() is first
            assert (len(spares), spares.missing) == (1, True)
            assert await spares.take_soon() is second
            assert spares.take() is None
            assert await spares.take_soon() is None
            assert len(spares) == 0

    run(work)


def test_a_dead_one_is_no_good_and_put_out(place):
    async def work():
        async with place() as here:
            first, second = await here.start(2)
            spares = filled(here, [first, second], wanted=2)
            await kill(first)
            assert spares.take() is second
            assert spares.useless() == [first]
            assert len(spares) == 0
            assert spares.useless() == []

    run(work)


def test_an_old_one_is_no_good_and_put_out(place):
    async def work():
        async with place() as here:
            (session,) = await here.start(1)
            spares = filled(here, [session], wanted=1)
            spares.configure(1, 1e-9)
            assert spares.take() is None
            assert spares.useless() == [session]
            assert spares.missing

    run(work)


def test_what_runs_an_old_file_of_the_cli_is_no_good_and_put_out(place):
    async def work():
        async with place() as here:
            (old,) = await here.start(1)
            spares = filled(here, [old], wanted=1)
            draft = shutil.copy(FAKE, here.cli.with_name("draft"))
            here.cli.unlink()
            assert spares.useless() == [], "in mid-upgrade there is nothing better"
            Path(draft).replace(here.cli)
            assert spares.take() is None
            assert spares.useless() == [old]
            await here.installation.follow_upgrade()
            (new,) = await here.start(1)
            spares.add(new)
            assert spares.take() is new

    run(work)


def test_of_more_than_are_wanted_the_oldest_stay(place):
    async def work():
        async with place() as here:
            sessions = await here.start(3)
            spares = filled(here, sessions, wanted=3)
            spares.configure(1, LONG)
            assert not spares.missing
            assert spares.useless() == sessions[1:]
            spares.configure(0, LONG)
            assert not spares.missing
            assert spares.useless() == sessions[:1]
            spares.configure(2, LONG)
            assert spares.missing

    run(work)


def test_all_can_be_cleared(place):
    async def work():
        async with place() as here:
            sessions = await here.start(2)
            spares = filled(here, sessions, wanted=2)
            assert spares.clear() == sessions
            assert (len(spares), spares.clear()) == (0, [])

    run(work)


def test_of_those_who_find_none_the_first_waits_for_the_one_that_starts(place):
    async def work():
        async with place() as here:
            spares = filled(here, [], wanted=1)
            with spares.arriving() as arrival:
                waiting = asyncio.create_task(spares.take_soon())
                assert await arrival.is_claimed(20)
                assert await spares.take_soon() is None, "nobody waits for what is another's"
                (session,) = await here.start(1)
                spares.add(session)
                assert not waiting.done()
            assert await waiting is session
            assert await spares.take_soon() is None, "nothing starts any more"

    run(work)


def test_who_waits_for_one_that_fails_starts_its_own(place):
    async def work():
        async with place() as here:
            spares = filled(here, [], wanted=1)
            with suppress(ZeroDivisionError), spares.arriving() as arrival:
                waiting = asyncio.create_task(spares.take_soon())
                assert await arrival.is_claimed(20)
                raise ZeroDivisionError
            assert await waiting is None

    run(work)


def test_who_waits_for_one_that_hangs_goes_on_without_it(place, monkeypatch):
    assert spares_module.PATIENCE <= 10
    monkeypatch.setattr(spares_module, "PATIENCE", 0.1)

    async def work():
        async with place() as here:
            spares = filled(here, [], wanted=1)
            with spares.arriving() as arrival:
                async with asyncio.timeout(10):
                    assert await spares.take_soon() is None
                assert await arrival.is_claimed(0)
                assert not arrival.over.is_set()
                (session,) = await here.start(1)
                spares.add(session)
            assert await spares.take_soon() is session, "that came after all"

    run(work)


def test_one_that_comes_in_the_last_moment_is_taken(place, monkeypatch):
    monkeypatch.setattr(spares_module, "PATIENCE", 0.1)

    async def work():
        async with place() as here:
            spares = filled(here, [], wanted=1)
            (session,) = await here.start(1)
            with spares.arriving() as arrival:
                waiting = asyncio.create_task(spares.take_soon())
                assert await arrival.is_claimed(20)
                spares.add(session)
                assert await waiting is session, "though its start is not over"

    run(work)


def test_one_that_nobody_claims_is_told_so_in_time(place):
    async def work():
        async with place() as here:
            spares = filled(here, [], wanted=1)
            with spares.arriving() as arrival:
                assert not await arrival.is_claimed(0.01)
                assert not await arrival.is_claimed(0)
            assert spares.missing

    run(work)


def test_a_taker_that_gives_up_leaves_the_spare_to_others(place):
    async def work():
        async with place() as here:
            spares = filled(here, [], wanted=1)
            with spares.arriving() as arrival:
                waiting = asyncio.create_task(spares.take_soon())
                assert await arrival.is_claimed(20)
                waiting.cancel()
                (session,) = await here.start(1)
                spares.add(session)
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert spares.take() is session

    run(work)
