"""Wrong keys: told at first at once, then late; said once in the log; and never in the way of a
right one.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from starlette.datastructures import Headers
from structlog.testing import capture_logs

from claude_proxy.api_key import ApiKey
from claude_proxy.clients import Clients
from claude_proxy.current import Current
from claude_proxy.errors import InvalidApiKey
from claude_proxy.http import authentication
from claude_proxy.http.authentication import FREE_TRIES, Authentication
from claude_proxy.settings import Settings


def door() -> Authentication:
    return Authentication(Current(Settings(), Clients.of(ApiKey("sk-right", "test"))))


async def wrong(here: Authentication, key: str = "sk-wrong") -> float:
    """Seconds until it is told."""
    began = time.monotonic()
    with pytest.raises(InvalidApiKey):
        await here.client(Headers({"authorization": f"Bearer {key}"}))
    return time.monotonic() - began


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer sk-right"},
        {"authorization": "bearer  sk-right "},
        {"x-api-key": "sk-right"},
        {"authorization": "Bearer sk-wrong", "x-api-key": "sk-right"},
    ],
)
def test_a_right_key_is_known_wherever_it_stands(headers):
    assert asyncio.run(door().client(Headers(headers))).name == "default"


def test_who_goes_on_with_wrong_keys_waits_longer_and_longer_and_it_is_said_once(monkeypatch):
    monkeypatch.setattr(authentication, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(authentication, "LONGEST_DELAY", 0.05)
    here = door()

    async def work():
        for _ in range(FREE_TRIES):
            await wrong(here)
            assert not here.is_annoyed
        late = [await wrong(here) for _ in range(4)]
        assert all(
            took >= least for took, least in zip(late, (0.02, 0.04, 0.05, 0.05), strict=True)
        )
        assert here.is_annoyed

    with capture_logs() as told:
        asyncio.run(work())
    (record,) = told
    assert (record["event"], record["log_level"]) == ("authentication.wrong_keys", "warning")
    assert "sk-" not in str(record)


def test_meanwhile_a_right_key_waits_for_nothing(monkeypatch):
    monkeypatch.setattr(authentication, "FIRST_DELAY", 60.0)
    monkeypatch.setattr(authentication, "LONGEST_DELAY", 60.0)
    here = door()

    async def work():
        for _ in range(FREE_TRIES):
            await wrong(here)
        waiting = [asyncio.create_task(wrong(here)) for _ in range(authentication.MOST_WAITING)]
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            assert (await here.client(Headers({"x-api-key": "sk-right"}))).name == "default"
            await wrong(here)  # one too many to be kept waiting
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert here._waiting == 0

    asyncio.run(work())


def test_after_a_while_all_is_forgotten(monkeypatch):
    monkeypatch.setattr(authentication, "FORGOTTEN", 0.0)
    here = door()

    async def work():
        for _ in range(FREE_TRIES * 3):
            await wrong(here)
        assert not here.is_annoyed

    asyncio.run(work())


def test_without_any_key_the_message_says_where_to_find_it():
    with pytest.raises(InvalidApiKey, match="claude-proxy key"):
        asyncio.run(door().client(Headers({"authorization": "Basic c2stcmlnaHQ="})))


def test_who_goes_on_without_any_key_fills_no_log_either(monkeypatch):
    monkeypatch.setattr(authentication, "FIRST_DELAY", 0.0)
    here = door()

    async def work():
        for _ in range(FREE_TRIES + 2):
            with pytest.raises(InvalidApiKey, match="No API key was sent"):
                await here.client(Headers({}))

    with capture_logs() as told:
        asyncio.run(work())
    assert [record["event"] for record in told] == ["authentication.wrong_keys"]
    assert here.is_annoyed
