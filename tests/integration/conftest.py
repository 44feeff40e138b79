from __future__ import annotations

import uuid

import pytest

from tests.lab import Daemon, Simulator


@pytest.fixture(scope="session")
def simulator():
    running = Simulator()
    yield running
    running.close()


@pytest.fixture(scope="session")
def daemon(simulator):
    """One daemon for all tests that need nothing special of it."""
    running = Daemon("--spares", "2", "--retries", "1", upstream=simulator.url)
    yield running
    running.close()


@pytest.fixture
def start(simulator):
    """Starts daemons with flags of their own and ends them after the test."""
    started: list[Daemon] = []

    def begin(*flags: str, **options) -> Daemon:
        options.setdefault("upstream", simulator.url)
        started.append(Daemon(*flags, **options))
        return started[-1]

    yield begin
    for running in started:
        running.close()


@pytest.fixture
def tag() -> str:
    """A word that marks this test's prompts, so that its requests are found upstream."""
    return f"tag{uuid.uuid4().hex[:12]}"
