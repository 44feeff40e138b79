"""The units as Nix makes them, under the same systemd: what differs is text, and this reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.nix import evaluation
from tests.nix.evaluation import ROOT, needs_nix
from tests.systemd.service import (
    HOME,
    KEY,
    NAME,
    PROGRAM,
    RUNTIME,
    SOCKET,
    UPSTREAM_KEY,
    ask,
    hidden_paths,
    journal,
    systemctl,
)

pytestmark = needs_nix


def text(unit: dict) -> str:
    """As home-manager writes it: sections and settings by name, a list as a line for each."""
    lines = []
    for section, settings in sorted(unit.items()):
        lines.append(f"[{section}]")
        for name, value in sorted(settings.items()):
            values = value if isinstance(value, list) else [value]
            lines += [f"{name}={each}" for each in values]
    return "\n".join(lines) + "\n"


@pytest.fixture
def made(service, simulator):
    """The text of the units that Nix makes of these arguments, by the unit's name."""

    def made(**changes: str) -> dict[str, str]:
        arguments = {
            "program": f'"{PROGRAM}"',
            "arguments": '[ "--idle-exit=5min" ]',
            "environment": f"""{{ ANTHROPIC_BASE_URL = "{simulator.url}";
              ANTHROPIC_API_KEY = "{UPSTREAM_KEY}"; PYTHONWARNINGS = "error"; }}""",
            "unset": '[ "PROXY_API_KEY" ]',
            "path": '[ "%h/.local/bin" "/usr/bin" "/bin" ]',
            "credentials": f'{{ api-key = "{service.units}/key"; }}',
        } | changes
        made = evaluation.units(**arguments)
        return {f"claude-proxy.{kind}": text(unit) for kind, unit in made.items()}

    return made


@pytest.fixture
def generation(service, made):
    """Puts the units that Nix makes of these arguments in the place of the shipped ones."""

    def generation(**changes: str) -> None:
        (service.units / SOCKET).unlink()
        for name, unit in made(**changes).items():
            (service.units / name).write_text(unit)
        (service.units / "key").write_text(f"{KEY}\n")
        service.environment.clear()
        service.edit(*(f"BindReadOnlyPaths={path}" for path in hidden_paths()))

    return generation


def units_of(service):
    return [path for path in (service.units / NAME, service.units / SOCKET) if path.exists()]


def test_they_are_right_and_the_first_connection_starts_them(service, generation, tag):
    generation()
    verified = subprocess.run(
        ["systemd-analyze", "--user", "verify", *units_of(service)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    service.start()
    assert service.show("ActiveState") == "inactive"
    for unix in (False, True):
        assert ask(service.client(unix=unix), f"{tag} [simulate text=ok]").status_code == 200
    assert ask(service.client(key="sk-wrong"), tag).status_code == 401
    listening = service.wait_for_record("daemon.listening")
    assert listening["KEY_FROM"].endswith("/claude-proxy.service/api-key")
    assert service.show("PrivateUsers") == "yes"
    systemctl("reload", NAME)
    assert service.wait_for_record("daemon.reloaded")
    assert KEY not in str(journal())


def test_without_socket_activation_it_listens_itself(service, generation):
    generation(socketActivation="false")
    assert not (service.units / SOCKET).exists()
    systemctl("enable", NAME)
    service.start(NAME)
    assert ask(service.client(), "[simulate text=ok]").status_code == 200
    listening = service.wait_for_record("daemon.listening")
    assert listening["ADDRESSES"] == '["http://127.0.0.1:8080"]'


def test_without_a_sandbox_it_runs(service, generation):
    generation(sandbox="false")
    service.start()
    assert ask(service.client(), "[simulate text=ok]").status_code == 200
    assert service.show("PrivateUsers") == "no"


def test_the_commands_know_it(service, generation):
    generation(arguments=f'[ "--idle-exit=5min" "--claude={ROOT}/tests/fakes/claude" ]')
    service.start()
    shell = {"HOME": str(HOME), "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(RUNTIME)}

    def say(command: str) -> str:
        done = subprocess.run(
            [PROGRAM, command],
            env=shell,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    assert say("key") == f"{KEY}\n"
    assert "starts with the first connection" in say("status")
    assert f"ok    CLI of the service: {ROOT}/tests/fakes/claude" in say("check")


@pytest.mark.skipif(shutil.which("sd-switch") is None, reason="needs sd-switch, home-manager's own")
def test_a_switch_starts_anew_what_has_changed_and_nothing_else(
    service, generation, made, tmp_path
):
    """home-manager links the new files, then lets sd-switch compare them with the old ones."""
    generation()
    systemctl("start", "sockets.target", "default.target")

    def switch(old: Path, **changes: str) -> Path:
        new = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        wants = new / "default.target.wants" if "socketActivation" in changes else None
        (wants or new / "sockets.target.wants").mkdir(parents=True)
        for unit in (NAME, SOCKET):
            (service.units / unit).unlink(missing_ok=True)
        for name, unit in made(**changes).items():
            (new / name).write_text(unit)
            (service.units / name).write_text(unit)
        wanted = NAME if wants else SOCKET
        shutil.copy(new / wanted, wants or new / "sockets.target.wants")
        systemctl("daemon-reload")
        subprocess.run(
            [
                *("sd-switch", "--force-systemctl", "--timeout", "60000"),
                *("--old-units", str(old), "--new-units", str(new)),
            ],
            check=True,
            capture_output=True,
        )
        return new

    (tmp_path / "empty").mkdir()
    first = switch(tmp_path / "empty")
    assert (service.show("ActiveState", SOCKET), service.show("ActiveState")) == (
        *("active", "inactive"),
    )
    assert ask(service.client(), "[simulate text=ok]").status_code == 200
    pid = service.pid
    same = switch(first)
    assert service.pid == pid
    other = switch(same, arguments='[ "--idle-exit=6min" ]')
    assert ask(service.client(), "[simulate text=ok]").status_code == 200
    assert service.pid != pid
    moved = switch(other, listen='[ "127.0.0.1:8090" ]')
    with httpx.Client(base_url="http://127.0.0.1:8090", timeout=60) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        assert ask(client, "[simulate text=ok]").status_code == 200
        alone = switch(moved, socketActivation="false", arguments='[ "--port=8090" ]')
        assert service.show("LoadState", SOCKET) == "not-found"
        assert ask(client, "[simulate text=ok]").status_code == 200
    switch(alone)
    assert service.show("ActiveState", SOCKET) == "active"
    assert ask(service.client(), "[simulate text=ok]").status_code == 200
