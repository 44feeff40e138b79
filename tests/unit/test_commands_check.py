"""``claude-proxy check`` as a process, and single checks on a made-up machine."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

import pytest

from claude_proxy.claude import cli
from claude_proxy.commands import external, ports, systemctl, units
from claude_proxy.commands.checks import account, clients, host, key, service
from claude_proxy.commands.checks.finding import FAIL, OK, WARN, Scene
from claude_proxy.commands.seen import Seen
from claude_proxy.listeners import Place
from claude_proxy.settings import Settings
from tests.unit.answering import answering
from tests.unit.fake_cli import running
from tests.unit.test_commands_desk import SHELL, Desk


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def check(desk: Desk, *argv: str, code: int = 0, **environ: str) -> dict[str, str]:
    """Level and text by name; of a name with several findings, the last."""
    said = desk.say(*argv, "check", code=code, **environ)
    found = [re.fullmatch(r"(ok|warn|FAIL) +([^:]+): (.+)", line) for line in said.splitlines()]
    assert all(found), said
    return {match[2]: f"{match[1]} {match[3]}" for match in found}


def scene(tmp_path: Path, **parts) -> Scene:
    """With a manager that shows the service's file alone, and units as in ``service`` and
    ``socket``.
    """
    environ = parts.pop("environ", {"HOME": str(tmp_path), "PATH": str(tmp_path)})
    service = parts.pop("service", {})
    fragment = service.get("FragmentPath", "/nonexistent")
    text = f'case "$*" in *" cat "*) show {fragment}; exit 0 ;; esac; exit 1'
    (tmp_path / "systemctl").write_text(f"{SHELL}\n{text}\n")
    (tmp_path / "systemctl").chmod(0o755)
    seen = Seen(
        systemctl.Manager(environ, {"Version": "257"}),
        service,
        parts.pop("socket", {}),
    )
    settings = parts.pop("settings", Settings())
    return Scene(settings, environ, seen, str(tmp_path), None, tmp_path / "proc", tmp_path)


def levels(findings) -> list[str]:
    return [finding.level for finding in findings]


def test_all_is_well(desk, free_port):
    found = check(desk, "--port", free_port, XDG_RUNTIME_DIR="")
    assert found["CLI"].startswith(f"ok {desk.bin}/claude")
    assert found["login"] == "ok logged in as max"
    assert found["addresses"].startswith("ok ")
    assert "systemd" not in found or found["systemd"].startswith("warn")


def test_nothing_is_written(desk, free_port):
    check(desk, "--port", free_port)
    assert desk.tree() == {}
    assert desk.calls() == []


def test_an_installed_service(desk, free_port):
    desk.say("--port", free_port, "install")
    common = "LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled"
    desk.answer("service", f"{common}\nFragmentPath={desk.service}\nEnvironment=PATH={desk.bin}")
    desk.answer(
        "socket",
        f"LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n"
        f"FragmentPath={desk.socket}\nListen=127.0.0.1:{free_port} (Stream)",
    )
    found = check(desk)
    assert found["claude-proxy.service"] == f"ok {desk.service}"
    assert found["CLI of the service"].startswith("ok ")
    assert found["program of the service"].startswith("ok ")
    assert found["linger"] == (
        "warn off: the service ends with your last logout; loginctl enable-linger"
    )
    assert found["systemd"] == "ok version 257"


def test_not_logged_in(desk, free_port):
    desk.answer("logged-in", "false")
    assert check(desk, "--port", free_port, code=1)["login"].startswith("FAIL NOT logged in")


def test_no_cli(desk):
    assert check(desk, "--claude", "/none", "--port", "1", code=1)["CLI"].startswith("FAIL ")


@pytest.mark.parametrize(
    ("given", "start", "expected"),
    [
        (None, "/bin/true --claude=/a/claude", []),
        (None, "/bin/true", [FAIL]),
        ("/none", "/bin/true --claude=/a/claude", [FAIL]),
    ],
)
def test_no_cli_is_none_here_unless_the_service_has_its_own(
    tmp_path, monkeypatch, given, start, expected
):
    monkeypatch.setattr(cli, "bundled_path", lambda: None)
    unit = tmp_path / "unit"
    unit.write_text(f"[Service]\nExecStart={start}\n")
    service = {"FragmentPath": str(unit), "LoadState": "loaded"}
    one = scene(tmp_path, service=service, settings=Settings(claude=given))
    assert levels(account.cli_here(one)) == expected


def test_variables_that_override_the_login_are_named_and_not_shown(desk, free_port):
    desk.answer("environment", "ANTHROPIC_AUTH_TOKEN=sk-very-secret")
    desk.answer("service", 'Environment=CLAUDE_CODE_USE_BEDROCK=1 "A=b c"\nLoadState=loaded')
    said = desk.run("--port", free_port, "check", ANTHROPIC_API_KEY="sk-very-secret").stdout
    assert "warn  variables: set here: ANTHROPIC_API_KEY," in said
    assert "warn  variables: set for every service of yours: ANTHROPIC_AUTH_TOKEN," in said
    assert "warn  variables: set in the unit: CLAUDE_CODE_USE_BEDROCK," in said
    assert "sk-very-secret" not in said


@pytest.mark.parametrize(
    "name", ["ANTHROPIC_MODEL", "CLAUDE_CODE_ENTRYPOINT", "MY_ANTHROPIC_API_KEY"]
)
def test_other_variables_do_not_matter(name):
    assert account.overriding({name: "x"}) == ""


def test_proxies_that_only_one_side_has(tmp_path):
    one = scene(
        tmp_path,
        environ={"https_proxy": "http://user:pass@proxy", "PATH": str(tmp_path)},
        service={"LoadState": "loaded", "Environment": "NO_PROXY=x HTTP_PROXY=y"},
    )
    texts = [finding.line() for finding in account.proxies(one)]
    assert "https_proxy set here and not for the service" in texts[0]
    assert "HTTP_PROXY set for the service and not here" in texts[1]
    assert "pass" not in "".join(texts)


def test_a_port_that_somebody_else_has_is_told_with_its_name(desk):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = check(desk, "--port", str(port), code=1)["addresses"]
    assert f"127.0.0.1:{port} is taken by" in found
    assert f"(PID {os.getpid()})" in found


def test_an_address_that_is_not_ours(tmp_path):
    assert "cannot be listened on" in (ports.problem(Place("192.0.2.1", 9)) or "")


def test_holders_of_another_user_are_named_by_their_number(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(
        "  sl  local_address rem_address st ...\n"
        "   0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 4711 0 99 1 x\n"
    )
    assert ports.holder(8080, tmp_path) == "a process of user 4711"
    assert ports.holder(8081, tmp_path) == "another process"


def test_a_key_that_others_can_read(desk, free_port):
    path = desk.home / "key"
    path.write_text("sk-very-secret-indeed\n")
    path.chmod(0o644)
    flags = ["--port", free_port, "--api-key-file", str(path)]
    found = check(desk, *flags)["key"]
    assert found.startswith("warn others may read")
    assert f"chmod 600 {path}" in found
    path.chmod(0o600)
    assert check(desk, *flags)["key"] == f"ok {path}"


@pytest.mark.parametrize(("text", "level"), [("", FAIL), ("a b\n", FAIL), ("short\n", WARN)])
def test_a_key_that_is_odd(tmp_path, text, level):
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    found = list(key.file_with_key(path))
    assert levels(found) == [level]
    assert "a b" not in found[0].line()


def test_a_given_key_is_not_shown(desk, free_port):
    said = desk.say("--port", free_port, "check", PROXY_API_KEY="tiny-secret")
    assert "fewer than 16" in said
    assert "tiny-secret" not in said


def test_the_clients_keys_are_looked_at_and_their_names_are_told_alone(tmp_path):
    path = tmp_path / "keys"
    given = scene(tmp_path, settings=Settings(api_keys_file=str(path)))
    (missing,) = clients.keys_file(given)
    assert (missing.level, "No such file" in missing.why) == (FAIL, True)
    path.write_text("phone sk-very-secret\nlaptop sk-too\n")
    path.chmod(0o644)
    (readable,) = clients.keys_file(given)
    assert (readable.level, readable.mend) == (WARN, f"chmod 600 {path}")
    path.chmod(0o600)
    (good,) = clients.keys_file(given)
    assert (good.level, good.why) == (OK, f"{path}: phone, laptop")
    assert list(clients.keys_file(scene(tmp_path))) == []


def test_the_key_of_the_unit_is_looked_at(tmp_path):
    text = "[Service]\nLoadCredential=api-key:/other\nLoadCredential=api-key:%h/a%%b\n"
    one = scene(tmp_path, service=unit(tmp_path, text))
    assert key.files(one) == [tmp_path / "a%b"]


def test_a_state_directory_that_others_see(tmp_path):
    path = tmp_path / ".local/state/claude-proxy"
    path.mkdir(parents=True)
    path.chmod(0o755)
    assert levels(host.state_directory(scene(tmp_path))) == [WARN]
    path.chmod(0o700)
    assert levels(host.state_directory(scene(tmp_path))) == [OK]


def test_a_file_in_the_place_of_a_directory(tmp_path):
    (tmp_path / ".local").touch()
    assert levels(host.state_directory(scene(tmp_path))) == [FAIL]


def test_a_full_disk():
    """/proc has no blocks, and the state directory would be in it."""
    one = Scene(Settings(), {"STATE_DIRECTORY": "/proc/self/x"}, Seen(None), "/")
    found = list(host.state_directory(one))
    assert levels(found) == [FAIL]


def unit(tmp_path: Path, text: str, **more: str) -> dict[str, str]:
    path = tmp_path / units.SERVICE
    path.write_text(text)
    return {"LoadState": "loaded", "FragmentPath": str(path), **more}


def test_a_unit_of_another_version(tmp_path):
    one = scene(tmp_path, service=unit(tmp_path, units.mark("0.0.1", units.SERVICE)))
    (finding,) = service.unit_files(one)
    assert (finding.level, finding.mend) == (WARN, service.INSTALL)
    assert "0.0.1" in finding.why


def test_a_unit_that_changed_and_one_that_is_masked(tmp_path):
    changed = unit(tmp_path, "[Service]", NeedDaemonReload="yes")
    masked = {"LoadState": "masked", "FragmentPath": "/dev/null"}
    found = list(service.unit_files(scene(tmp_path, service=changed, socket=masked)))
    assert levels(found) == [OK, WARN, FAIL]
    assert "unmask" in found[2].mend


def test_a_program_that_is_gone_or_hidden(tmp_path):
    gone = unit(tmp_path, "[Service]\nExecStart=/gone/claude-proxy\n")
    (finding,) = service.program_of_service(scene(tmp_path, service=gone))
    assert (finding.level, finding.mend) == (FAIL, service.INSTALL)
    here = unit(tmp_path, f"[Service]\nExecStart={sys.executable} -m claude_proxy\n")
    (finding,) = service.program_of_service(scene(tmp_path, service=here))
    assert finding.level == OK


@pytest.mark.parametrize(
    ("code", "word"), [("226", "sandbox"), ("78", "configuration"), ("5", "5")]
)
def test_why_the_service_failed(tmp_path, code, word):
    one = scene(tmp_path, service={"ActiveState": "failed", "ExecMainStatus": code})
    (finding,) = service.failures(one)
    assert finding.level == FAIL
    assert word in finding.why
    assert "reset-failed" in finding.mend


def test_a_socket_that_gave_up(tmp_path):
    failed = {"ActiveState": "failed", "Result": "service-start-limit-hit"}
    (finding,) = service.failures(scene(tmp_path, socket=failed))
    assert "too many starts" in finding.why
    assert "systemctl --user reset-failed 'claude-proxy.*'" in finding.mend


def test_units_that_nobody_started_or_enabled(tmp_path):
    loaded = {"LoadState": "loaded", "ActiveState": "inactive", "UnitFileState": "disabled"}
    (finding,) = service.enabled(scene(tmp_path, service=loaded, socket=loaded))
    assert finding.level == FAIL
    active = loaded | {"ActiveState": "active"}
    (finding,) = service.enabled(scene(tmp_path, service=loaded, socket=active))
    assert (finding.level, finding.mend) == (WARN, "systemctl --user enable claude-proxy.socket")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
        ("user/max_user_namespaces", "0"),
    ],
)
def test_no_user_namespaces(tmp_path, setting, value):
    path = tmp_path / "proc/sys" / setting
    path.parent.mkdir(parents=True)
    path.write_text(value + "\n")
    loaded = {"LoadState": "loaded", "ActiveState": "failed"}
    (finding,) = host.user_namespaces(scene(tmp_path, service=loaded))
    assert finding.level == FAIL
    assert setting.replace("/", ".") in finding.why
    assert "no-sandbox.conf" in finding.mend
    for other in ({"ActiveState": "active"}, {"PrivateUsers": "no"}):
        assert not list(host.user_namespaces(scene(tmp_path, service=loaded | other)))


def test_a_service_that_got_no_namespace_whatever_the_kernel_says(tmp_path):
    failed = {"LoadState": "loaded", "ActiveState": "failed", "ExecMainStatus": "217"}
    assert levels(host.user_namespaces(scene(tmp_path, service=failed))) == [FAIL]


def test_an_old_systemd(tmp_path):
    one = scene(tmp_path)
    one.seen.manager.version = 249
    assert levels(host.systemd_version(one)) == [WARN]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file another user's")
def test_a_home_that_is_not_ours_to_look_into_is_told(desk):
    """As root, every directory can be looked into; but no name is that long."""
    home = f"/{'a' * 300}"
    done = desk.run("check", HOME=home)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"FAIL  key file: cannot look at {home}/" in done.stdout
    assert f"is HOME, {home}, that of this user?" in done.stdout
    assert "spent     unknown" in desk.run("status", HOME=home).stdout
    assert "is HOME that of this user" in desk.complaint("install", "--dry-run", HOME=home)


def test_files_of_claude_that_belong_to_somebody_else(tmp_path):
    (tmp_path / ".claude").mkdir()
    assert not list(account.owner(scene(tmp_path)))
    os.chown(tmp_path / ".claude", 4711, 4711)
    (finding,) = account.owner(scene(tmp_path))
    assert finding.level == FAIL
    assert "chown" in finding.mend


def test_a_program_that_never_ends_is_given_up(tmp_path):
    path = tmp_path / "stuck"
    path.write_text("#!/bin/sh\nsleep 1000 &\nwait\n")
    path.chmod(0o755)
    done = external.run([str(path)], os.environ, limit=0.2)
    assert (done.code, done.output) == (None, "")
    assert running(str(path)) == {}


def test_a_program_that_is_not_there(tmp_path):
    assert external.run([str(tmp_path / "none")], os.environ).code is None


def test_the_environment_of_a_unit_is_read_as_systemctl_quotes_it():
    text = r"""PATH=/a:/b "X=two \$words \\ \"" EMPTY="""
    found = systemctl.unit_environment({"Environment": text})
    assert found == {"PATH": "/a:/b", "X": 'two $words \\ "', "EMPTY": ""}


def test_a_port_that_a_daemon_of_another_start_has_is_taken(desk):
    """It answers, and still the service's socket cannot have that port."""
    desk.serve("/bin/true")
    desk.answer("socket", "LoadState=loaded\nActiveState=failed\nResult=resources")
    with answering() as other:
        port = other.server_address[1]
        said = desk.run("--port", str(port), "check").stdout
    assert f"FAIL  addresses: 127.0.0.1:{port} is taken by " in said


def test_a_program_below_tmp_that_runs_is_visible(tmp_path):
    program = tmp_path / "program"
    program.write_text("")
    program.chmod(0o755)
    unit = tmp_path / "unit"
    unit.write_text(f"[Service]\nExecStart=-{program}\n")
    states = {"FragmentPath": str(unit), "LoadState": "loaded", "PrivateTmp": "yes"}
    for state, level in (("active", OK), ("inactive", FAIL)):
        one = scene(tmp_path, service={**states, "ActiveState": state})
        assert levels(service.program_of_service(one)) == [level]
