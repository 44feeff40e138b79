"""`claude-proxy install`, `status`, `check`, `uninstall`, for real."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx
import pytest

from tests.lab import wait_until
from tests.systemd.service import (
    HOME,
    NAME,
    ROOT,
    SOCKET,
    UPSTREAM_KEY,
    ask,
    clear_home,
    hidden_paths,
    journal,
    systemctl,
)

UNITS = HOME / ".config" / "systemd" / "user"
PORT = 8093


@pytest.fixture
def command(simulator):
    """Runs the program as a person does in a shell; its units are gone afterwards."""
    environment = {name: os.environ[name] for name in ("HOME", "PATH", "XDG_RUNTIME_DIR")}
    systemctl(
        *("set-environment", f"ANTHROPIC_BASE_URL={simulator.url}"),
        f"ANTHROPIC_API_KEY={UPSTREAM_KEY}",
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "claude_proxy", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    yield run
    run("uninstall")
    systemctl("unset-environment", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY")
    clear_home()


def installed(command, *flags: str) -> str:
    done = command(*flags, "install")
    assert (done.returncode, done.stderr) == (0, ""), done
    if hidden := hidden_paths():
        drop_in = UNITS / f"{NAME}.d" / "lab.conf"
        drop_in.parent.mkdir()
        drop_in.write_text("[Service]\n" + "".join(f"BindReadOnlyPaths={p}\n" for p in hidden))
        systemctl("daemon-reload")
    return done.stdout


def test_from_install_to_uninstall(command, tag):
    rehearsed = command("install", "--port", str(PORT), "--dry-run")
    assert rehearsed.returncode == 0
    assert f"ListenStream=127.0.0.1:{PORT}" in rehearsed.stdout
    assert not UNITS.exists()

    said = installed(command, "--port", str(PORT))
    assert f"base URL: http://127.0.0.1:{PORT}/v1\n" in said
    assert f"page for your browser: http://127.0.0.1:{PORT}/\n" in said
    assert systemctl("is-enabled", SOCKET).strip() == "enabled"
    before = command("status")
    assert before.returncode == 0
    assert "starts with the first connection" in before.stdout
    assert systemctl("show", "--value", "-p", "ActiveState", NAME).strip() == "inactive"

    key = command("key").stdout.strip()
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", headers=headers, timeout=60) as client:
        assert ask(client, f"{tag} [simulate text=ok]").status_code == 200
    status = command("status").stdout
    assert "active (running)" in status
    assert "logged in" in status
    assert "$0.00 today" in status
    assert key not in status

    checked = command("check")
    assert key not in checked.stdout
    assert UPSTREAM_KEY not in checked.stdout
    assert "ANTHROPIC_API_KEY" in checked.stdout

    assert command("uninstall").returncode == 0
    assert not (UNITS / NAME).exists()
    assert not (UNITS / SOCKET).exists()
    assert wait_until(
        lambda: systemctl("show", "--value", "-p", "LoadState", SOCKET).strip() == "not-found"
    )
    assert command("status").returncode == 3
    assert command("key").stdout.strip() == key


def test_the_spending_of_today_outlives_the_daemon(command, tag):
    installed(command)
    key = command("key").stdout.strip()
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url="http://127.0.0.1:8080", headers=headers, timeout=60) as client:
        body = {"model": "opus", "messages": [{"role": "user", "content": f"{tag} " * 4_000}]}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
    assert wait_until(lambda: journal("-u", NAME, "EVENT=request.done", "MODEL=opus"))
    (done,) = journal("-u", NAME, "EVENT=request.done", "MODEL=opus")
    cost = f"${float(done['COST_USD']):.2f} today"
    assert cost != "$0.00 today"
    systemctl("stop", NAME)
    assert cost in command("status").stdout


def test_a_key_file_becomes_a_credential(command):
    key = HOME / "my key"
    key.write_text("sk-of-mine\n")
    key.chmod(0o600)
    installed(command, "--api-key-file", str(key))
    with httpx.Client(base_url="http://127.0.0.1:8080", timeout=60) as client:
        client.headers["authorization"] = "Bearer sk-of-mine"
        assert client.get("/v1/models").status_code == 200
    assert command("key").stdout == "sk-of-mine\n"
    assert str(key) in (UNITS / NAME).read_text()
    assert "--api-key-file" not in (UNITS / NAME).read_text()
    key.unlink()


def test_units_of_somebody_else_stay(command):
    UNITS.mkdir(parents=True)
    (UNITS / NAME).write_text("[Service]\nExecStart=/bin/true\n")
    refused = command("install")
    assert refused.returncode == 78
    assert str(UNITS / NAME) in refused.stderr
    assert command("uninstall").returncode != 0 or (UNITS / NAME).exists()
    assert (UNITS / NAME).read_text() == "[Service]\nExecStart=/bin/true\n"
    (UNITS / NAME).unlink()
