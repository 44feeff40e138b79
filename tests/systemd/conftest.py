"""These tests install and drive the units of the user who runs them, so they run in the lab alone:

tests/systemd/enter.sh PYTHON -m pytest tests/systemd
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from tests.lab import Simulator
from tests.systemd.service import Service

HERE = Path(__file__).parent
# "yes", or "no" on a system without user namespaces.
NAMESPACES = os.environ.get("LAB_INSIDE")


def why_not(item: pytest.Item) -> str | None:
    if NAMESPACES is None:
        return "needs a systemd of its own: tests/systemd/enter.sh"
    if (NAMESPACES == "no") != (item.path.name == "test_no_sandbox.py"):
        return "the other kind of system: LAB_USERNS of tests/systemd/enter.sh"
    return None


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents and (reason := why_not(item)):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def simulator():
    running = Simulator()
    yield running
    running.close()


@pytest.fixture
def service(simulator):
    """The shipped units, installed and not yet started; afterwards nothing is left of them."""
    installed = Service(simulator.url)
    yield installed
    installed.remove()


@pytest.fixture
def tag() -> str:
    """A word that marks this test's prompts, so that its requests are found upstream."""
    return f"tag{uuid.uuid4().hex[:12]}"
