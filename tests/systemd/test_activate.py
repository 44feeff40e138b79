"""Other starters: `systemd-socket-activate`, and sockets of every kind in any number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.lab import LogReader, wait_until
from tests.systemd.service import HOME, KEY, ROOT, UPSTREAM_KEY, ask, clear_home

PLACES = ("127.0.0.1:8095", "[::1]:8095", str(HOME / "a.sock"), str(HOME / "b.sock"))
NAMES = "four:six:first:second"


@pytest.fixture
def activated(simulator):
    """Listens in all places and starts the daemon with the first connection."""
    environment = {
        "ANTHROPIC_BASE_URL": simulator.url,
        "ANTHROPIC_API_KEY": UPSTREAM_KEY,
        "PROXY_API_KEY": KEY,
        "PYTHONWARNINGS": "error",
        "HOME": str(HOME),
        "PATH": os.environ["PATH"],
    }
    listening = [word for place in PLACES for word in ("-l", place)]
    passed = [word for name in environment for word in ("-E", name)]
    process = subprocess.Popen(
        [
            *("systemd-socket-activate", *listening, *passed, f"--fdname={NAMES}"),
            *(sys.executable, "-m", "claude_proxy"),
        ],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = LogReader(process.stderr)
    assert wait_until(lambda: sum("Listening on" in line for line in log.lines) == len(PLACES))
    yield log
    process.terminate()
    assert process.wait(20) == 0
    log.finish()
    for place in PLACES[2:]:
        Path(place).unlink()
    clear_home()


@pytest.mark.parametrize("first", range(len(PLACES)))
def test_every_socket_wakes_it_and_answers(activated, first):
    for place in (*PLACES[first:], *PLACES[:first]):
        transport = httpx.HTTPTransport(uds=place) if place.startswith("/") else None
        base = "http://localhost" if place.startswith("/") else f"http://{place}"
        headers = {"authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=base, transport=transport, headers=headers, timeout=60) as to:
            assert ask(to, "[simulate text=ok]").status_code == 200
    listening = activated.wait_for("daemon.listening")
    assert listening["socket_names"] == NAMES.split(":")
    assert listening["addresses"] == [
        *("http://127.0.0.1:8095", "http://[::1]:8095"),
        *(f"unix:{place}" for place in PLACES[2:]),
    ]
