"""The settings that `claude-proxy config` gives, and the real clients that take them.

`tests/clients/install.sh DIR` brings the clients; CLIENTS_DIR=DIR says where they are.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.clients.desk import Desk
from tests.lab import KEY, Daemon, Simulator

# Directories of install.sh, and what there is in them.
PROGRAMS = {
    "python": "python/bin/python",
    "llm": "python/bin/llm",
    "aider": "aider/bin/aider",
    "litellm": "aider/bin/python",
    "javascript": "javascript/node_modules/openai/package.json",
    "node": "node/node_modules/node/bin/node",
    "codex": "codex/node_modules/@openai/codex/vendor/*/bin/codex",
    "opencode": "opencode/node_modules/opencode-linux-*/bin/opencode",
    "cline": "cline/node_modules/@cline/cli-linux-*/bin/cline",
    "cn": "continue/node_modules/.bin/cn",
    "openclaw": "openclaw/node_modules/.bin/openclaw",
}


@pytest.fixture(scope="session")
def installed():
    """The path of a program of PROGRAMS; a test that asks for one that is not there is skipped."""
    given = os.environ.get("CLIENTS_DIR")

    def find(name: str) -> Path:
        if name == "codex" and (own := os.environ.get("CODEX_BIN")):
            return Path(own)
        if not given:
            pytest.skip(f"{name}: CLIENTS_DIR is not set; tests/clients/install.sh DIR fills it")
        found = sorted(Path(given).absolute().glob(PROGRAMS[name]))
        if not found:
            pytest.skip(f"{name} is not in CLIENTS_DIR; tests/clients/install.sh brings it")
        return found[0]

    return find


@pytest.fixture(scope="session")
def key_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("key") / "api-key"
    path.touch(0o600)
    path.write_text(f"{KEY}\n")
    return path


@pytest.fixture(scope="session")
def simulator():
    running = Simulator()
    yield running
    running.close()


@pytest.fixture(scope="session")
def daemon(simulator, key_file):
    """One for all clients; it knows its key from a file, as they do."""
    running = Daemon(
        *("--spares", "2", "--retries", "1", "--api-key-file", str(key_file)),
        upstream=simulator.url,
        env={"PROXY_API_KEY": None},
    )
    yield running
    running.close()


@pytest.fixture
def desk(tmp_path, daemon, key_file):
    return Desk(tmp_path, daemon, key_file)
