"""What the service may do and who may use it: credential, sandbox, the CLI's own files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import wait_until
from tests.systemd.service import HOME, KEY, NAME, ROOT, SOCKET, UNITS, ask, systemctl

# What `systemd-analyze security` may say, at most; docs/operations.md has what is left open.
EXPOSURE = 2.0


def environment_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def test_the_key_is_a_credential_that_the_cli_does_not_see(service):
    key = HOME / "key"
    key.write_text("sk-from-a-credential\n")
    key.chmod(0o600)
    del service.environment["PROXY_API_KEY"]
    service.edit("LoadCredential=api-key:%h/key")
    service.start()
    assert ask(service.client(key=KEY), "hi").status_code == 401
    answer = ask(service.client(key="sk-from-a-credential"), "[simulate text=ok]")
    assert answer.status_code == 200
    listening = service.wait_for_record("daemon.listening")
    assert listening["KEY_FROM"].endswith("/claude-proxy.service/api-key")
    children = [pid for pid in service.processes() if pid != service.pid]
    assert children
    for pid in children:
        seen = environment_of(pid)
        assert not seen.keys() & {
            *("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS"),
            *("JOURNAL_STREAM", "INVOCATION_ID", "PROXY_API_KEY", "STATE_DIRECTORY"),
        }
    key.unlink()


def test_a_key_file_that_is_not_there_is_no_restart_loop(service):
    """As `claude-proxy install` and Nix write it: the clients hear of it, and once it is there,
    the next connection is enough.
    """
    key = HOME / "key"
    del service.environment["PROXY_API_KEY"]
    service.edit("LoadCredential=api-key:%h/key", "SetCredential=api-key:no file")
    service.start()
    for _ in range(2):
        with service.client(key="sk-late") as client:
            refused = ask(client, "hello")
        assert refused.status_code == 503
        assert "LoadCredential=api-key:... names is not there" in refused.json()["error"]["message"]
        service.wait_for_state("failed")
    assert service.show("NRestarts") == "0"
    assert service.show("ExecMainStatus") == "78"
    assert service.show("ActiveState", SOCKET) == "active"
    key.write_text("sk-late\n")
    with service.client(key="sk-late") as client:
        assert ask(client, "[simulate text=ok]").status_code == 200
    key.unlink()


def test_a_credential_that_systemd_cannot_load_is_not_tried_again_and_again(service):
    """Without the second line it is systemd that fails."""
    service.edit("LoadCredential=api-key:%h/none")
    with pytest.raises(AssertionError, match="failed"):
        service.start(NAME)
    service.wait_for_state("failed")
    assert service.show("ExecMainStatus") == "243"
    assert service.show("NRestarts") == "0"


def test_the_cli_keeps_its_own_files(service):
    service.start()
    assert ask(service.client(), "[simulate text=ok]").status_code == 200
    assert wait_until((HOME / ".claude.json").exists)


def test_the_cli_may_renew_its_login(service):
    """As it does: a new file, moved over the old one, in ~/.claude and in the home itself."""
    places = (HOME / ".claude" / ".credentials.json", HOME / ".claude.json")
    places[0].parent.mkdir()
    steps = []
    for place in places:
        place.write_text("old")
        steps += [f"echo new > {place}.new", f"mv {place}.new {place}"]
    fake = ROOT / "tests" / "fakes" / "claude"
    service.run_instead(f'set -e; {"; ".join(steps)}; exec {sys.executable} {fake} "$@"')
    service.start()
    assert ask(service.client(), "hello").status_code == 200
    assert [place.read_text() for place in places] == ["new\n", "new\n"]


def test_the_shell_and_the_service_have_the_same_made_key(service):
    del service.environment["PROXY_API_KEY"]
    service.edit()
    service.start()
    program = HOME / ".local" / "bin" / "claude-proxy"
    shell = {"HOME": str(HOME), "PATH": os.environ["PATH"]}
    made = subprocess.run(
        [program, "key"], env=shell, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert ask(service.client(key=made), "[simulate text=ok]").status_code == 200


def test_the_units_are_right(service):
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", service.units / NAME, service.units / SOCKET],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_sandbox_is_as_tight_as_it_is_said_to_be():
    command = ["systemd-analyze", "security", "--user", "--offline=true", "--no-pager"]
    done = subprocess.run(
        [*command, UNITS / NAME], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done)
    assert found is not None, done
    assert float(found[1]) <= EXPOSURE


@pytest.mark.parametrize("path", [".ssh/id", ".gnupg/key"])
def test_keys_of_others_are_out_of_reach(service, path):
    """Seen from inside the service's own mount namespace."""
    secret = HOME / path
    secret.parent.mkdir()
    secret.write_text("secret")
    service.start(NAME)
    inside = Path(f"/proc/{service.pid}/root") / str(secret)[1:]
    with pytest.raises(PermissionError):
        inside.read_text()
    systemctl("stop", NAME)
    secret.unlink()
    secret.parent.rmdir()
