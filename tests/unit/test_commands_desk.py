"""A home with a CLI, a systemctl, a loginctl and a journalctl that answer what a test writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Nothing but the shell is asked for: the unit tests run where there is little else.
SHELL = """#!/bin/sh
show() { while IFS= read -r line || [ "$line" ]; do printf '%s\\n' "$line"; done <"$1"; }
"""
SYSTEMCTL = """
case "$*" in
  *"--property=Version,UnitPath"*) answer=manager ;;
  *show*claude-proxy.service*) answer=service ;;
  *show*claude-proxy.socket*) answer=socket ;;
  *show-environment*) answer=environment ;;
  *" cat claude-proxy.service"*)
    while IFS='=' read -r name value; do
      if [ "$name" = FragmentPath ]; then show "$value"; fi
    done <DIRECTORY/service
    exit 0 ;;
  *)
    shift 3
    echo "$*" >>DIRECTORY/calls
    if [ -f DIRECTORY/broken ]; then echo "no such luck" >&2; exit 1; fi
    exit 0 ;;
esac
[ -f DIRECTORY/$answer ] && show DIRECTORY/$answer
"""
ANSWERING = """
[ -f DIRECTORY/NAME ] && show DIRECTORY/NAME
"""
CLAUDE = """
if [ "$1" = auth ]; then
  printf '{"loggedIn": %s, "authMethod": "claude.ai", "subscriptionType": "max"}\\n' \\
    "$(show DIRECTORY/logged-in)"
else
  echo "2.1.330 (Claude Code)"
fi
"""
PLAIN_PATH = "/usr/bin:/bin"


class Desk:
    """``answers`` is what the fakes read from, ``units`` where the user's units lie."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.bin = directory / "bin"
        self.answers = directory / "answers"
        self.units = self.home / ".config/systemd/user"
        self.service = self.units / "claude-proxy.service"
        self.socket = self.units / "claude-proxy.socket"
        for each in (self.home, self.bin, self.answers):
            each.mkdir()
        self.program("systemctl", SYSTEMCTL)
        self.program("loginctl", ANSWERING)
        self.program("journalctl", ANSWERING)
        self.program("claude", CLAUDE)
        self.answer("logged-in", "true")
        self.answer("manager", f"Version=257.3-1\nUnitPath=/etc/systemd/user {self.units}")
        self.answer("environment", "PATH=/usr/bin:/bin")
        self.answer("loginctl", "no")

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        shell = "" if text.startswith("#!") else SHELL
        text = text.replace("DIRECTORY", str(self.answers)).replace("NAME", name)
        path.write_text(shell + text)
        path.chmod(0o755)

    def answer(self, name: str, text: str) -> None:
        (self.answers / name).write_text(text + "\n")

    def calls(self) -> list[str]:
        """What systemctl was told to do, without what it was asked."""
        path = self.answers / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def run(self, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
        clean = {
            "HOME": str(self.home),
            "PATH": f"{self.bin}:{PLAIN_PATH}",
            "XDG_RUNTIME_DIR": str(self.home),
        }
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "claude_proxy", *argv],
            env={name: value for name, value in (clean | environ).items() if value},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=ROOT,
        )

    def say(self, *argv: str, code: int = 0, **environ: str) -> str:
        """What it prints; the test fails when it ends otherwise, or complains."""
        done = self.run(*argv, **environ)
        assert (done.returncode, done.stderr) == (code, ""), done.stdout + done.stderr
        return done.stdout

    def complaint(self, *argv: str, code: int = 78, **environ: str) -> str:
        done = self.run(*argv, **environ)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr

    def serve(self, start: str, *environment: str) -> None:
        """As if somebody else had made a unit that starts so, and systemd had read it."""
        self.units.mkdir(parents=True)
        self.service.write_text(f"[Service]\nExecStart={start}\n")
        variables = " ".join(environment)
        self.answer(
            "service",
            f"LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\n"
            f"FragmentPath={self.service}\nEnvironment={variables}",
        )
        self.answer("socket", "LoadState=loaded\nActiveState=active\nUnitFileState=enabled")

    def tree(self) -> dict[str, str]:
        """All regular files of the home, and what is in them."""
        return {
            str(path.relative_to(self.home)): path.read_text()
            for path in sorted(self.home.rglob("*"))
            if path.is_file()
        }


def test_the_desk_does_not_reach_into_the_real_home(tmp_path):
    assert Desk(tmp_path).say("key").startswith("sk-claude-proxy-")
    assert (tmp_path / "home/.local/state/claude-proxy/api-key").exists()
    assert os.fspath(tmp_path) != os.path.expanduser("~")  # noqa: PTH111 - compared as text


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def served(tmp_path) -> Desk:
    """Its service has its settings from a file, its CLI from where nobody else looks."""
    desk = Desk(tmp_path)
    own = tmp_path / "own claude"
    (desk.bin / "claude").rename(own)
    config = tmp_path / "my config.toml"
    config.write_text(f'claude = "{own}"\nport = 1\n')
    desk.serve(f'/bin/true "--config={config}"', f'"PATH={desk.bin}"', "PROXY_API_KEY=sk-of-unit")
    return desk


def test_the_key_of_a_service_is_printed_wherever_it_has_it_from(served):
    assert served.say("key") == "sk-of-unit\n"
    assert served.say("--api-key", "sk-given", "key") == "sk-given\n"
    key = served.home / "key"
    key.write_text("sk-of-file\n")
    (served.home.parent / "my config.toml").write_text(f'api-key-file = "{key}"\n')
    served.answer("service", f"LoadState=loaded\nFragmentPath={served.service}")
    assert served.say("key") == "sk-of-file\n"


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("SetCredential=api-key:sk-set", "sk-set"),
        ("LoadCredential=api-key:%h/none\nSetCredential=api-key:sk-set", "sk-set"),
        ("LoadCredential=api-key:%h/key\nSetCredential=api-key:sk-set", "sk-file"),
        ("LoadCredential=api-key:%h/key\nSetCredential=api-key:no file", "sk-file"),
        ("EnvironmentFile=%h/variables", "sk-variables"),
        ('Environment="PROXY_API_KEY=sk-text"', "sk-text"),
    ],
)
@pytest.mark.parametrize("manager", ["", "there"])
def test_the_key_is_found_where_the_unit_has_it(desk, lines, key, manager):
    """Also where no manager can be asked, as from cron: then by the unit's own files."""
    desk.serve("/bin/true")
    folder = desk.units / "claude-proxy.service.d"
    desk.service.write_text(f"{desk.service.read_text()}{lines}\n" if manager else "[Service]\n")
    folder.mkdir()
    (folder / "a.conf").write_text(f"[Service]\nExecStart=/bin/true\n{lines}\n")
    (desk.home / "key").write_text("sk-file\n")
    (desk.home / "variables").write_text("# mine\nPROXY_API_KEY='sk-variables'\n")
    runtime = str(desk.home) if manager else ""
    assert desk.say("key", XDG_RUNTIME_DIR=runtime) == f"{key}\n"
    assert not (desk.home / ".local").exists()


def test_a_key_of_the_session_that_the_unit_does_not_take_is_not_the_services(desk):
    desk.serve("/bin/true")
    desk.answer("environment", "PROXY_API_KEY=sk-of-the-session")
    assert desk.say("key") == "sk-of-the-session\n"
    desk.service.write_text(f"{desk.service.read_text()}UnsetEnvironment=PROXY_API_KEY\n")
    assert desk.say("key").startswith("sk-claude-proxy-")


def test_a_key_file_that_is_gone_is_said_to_be(desk):
    desk.serve("/bin/true")
    desk.service.write_text("[Service]\nLoadCredential=api-key:%h/gone\n")
    assert f"{desk.home}/gone: No such file" in desk.complaint("key")


def test_variables_from_a_file_of_the_units_are_seen(desk):
    desk.serve("/bin/true")
    desk.service.write_text("[Service]\nExecStart=/bin/true\nEnvironmentFile=%h/variables\n")
    (desk.home / "variables").write_text("ANTHROPIC_API_KEY=sk-very-secret\n")
    said = desk.run("check").stdout
    assert "warn  variables: set in the unit: ANTHROPIC_API_KEY," in said
    assert "sk-very-secret" not in said


def test_the_cli_of_a_service_need_not_be_found_here(served):
    own = served.home.parent / "own claude"
    assert f"CLI       {own}, version 2.1.330" in served.say("status")
    said = served.run("check").stdout
    assert f"ok    CLI of the service: {own}, version 2.1.330" in said
    assert "ok    login: logged in as max" in said
    assert "warn  key: it stands in the unit, which others may read" in said
    assert "sk-of-unit" not in said


def test_a_service_that_simulates_needs_no_login(served):
    (served.home.parent / "my config.toml").write_text("demo = true\n")
    served.program("claude", CLAUDE)
    served.answer("logged-in", "false")
    assert "login     simulated" in served.say("status")
    assert "login:" not in served.run("check").stdout


def test_a_service_whose_settings_are_wrong_is_looked_at_all_the_same(served):
    (served.home.parent / "my config.toml").write_text("nonsense = 1\n")
    assert "own claude" not in served.say("status")
    assert " CLI of the service: " in served.run("check").stdout
