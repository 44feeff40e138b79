"""How many connections there may be, and a loop that is out of descriptors."""

from __future__ import annotations

import asyncio
import logging
import resource
from errno import EMFILE

import pytest
import structlog

from claude_proxy import repetition
from claude_proxy.http.descriptors import (
    ACCEPT_FAILED,
    LEAST_CONNECTIONS,
    MOST_CONNECTIONS,
    LoopErrors,
    for_connections,
    raise_limit,
)
from claude_proxy.repetition import Repetition
from claude_proxy.settings import Settings
from tests.unit.fake_cli import run, until


@pytest.fixture
def limit():
    """Sets the soft limit for the time of the test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda soft: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_limit_is_raised_as_far_as_it_may_be(limit):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit(256)
    raise_limit()
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert soft == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))
    raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == soft


@pytest.mark.parametrize(
    ("soft", "settings", "most"),
    [
        (1_000, Settings(max_concurrency=8, max_sessions=8, spares=1), 1_000 - 17 * 8 - 192),
        (1_000, Settings(max_concurrency=1, max_sessions=0, spares=0), 1_000 - 8 - 192),
        (1_000, Settings(max_concurrency=500), LEAST_CONNECTIONS),
    ],
)
def test_the_processes_of_the_cli_have_their_descriptors_first(limit, soft, settings, most):
    limit(soft)
    assert for_connections(settings) == most


def test_there_is_a_bound_whatever_the_limit_is(monkeypatch):
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    for found in (unlimited, (1 << 20, 1 << 20)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, found=found: found)
        assert for_connections(Settings()) == MOST_CONNECTIONS


def test_what_fails_again_and_again_is_told_once_and_then_counted(monkeypatch):
    monkeypatch.setattr(repetition, "INTERVAL", 0.05)

    async def work() -> list[structlog.typing.EventDict]:
        with structlog.testing.capture_logs() as logs:
            said = Repetition("it.failed")
            for number in range(100):
                said.happened(f"reason {number}")
            assert len(logs) == 1
            await until(lambda: len(logs) == 2)
            await until(lambda: said._quiet is None)
            said.happened("later")
        return logs

    told = [(line["event"], line["reason"], line["times"]) for line in run(work)]
    assert told == [
        ("it.failed", "reason 0", 1),
        ("it.failed", "reason 99", 99),
        ("it.failed", "later", 1),
    ]


def test_the_loop_says_all_else_as_ever(caplog):
    async def work() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(LoopErrors())
        with structlog.testing.capture_logs() as logs:
            for _ in range(128):
                error = OSError(EMFILE, "Too many open files")
                loop.call_exception_handler({"message": ACCEPT_FAILED, "exception": error})
        assert [line["event"] for line in logs] == ["connections.not_accepted"]
        assert caplog.records == []
        loop.call_soon(lambda: 1 / 0)
        await until(lambda: caplog.records)
        assert "ZeroDivisionError" in caplog.text

    with caplog.at_level(logging.WARNING, "asyncio"):
        caplog.clear()
        run(work)
