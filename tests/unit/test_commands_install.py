"""``claude-proxy install`` and ``uninstall`` as processes, with a systemctl that takes notes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from claude_proxy.commands import unit_text, units
from tests.unit.test_commands_desk import Desk

START = ["daemon-reload", "enable --now claude-proxy.socket"]


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


def exec_start(desk: Desk) -> list[str]:
    return unit_text.words_of(desk.service.read_text())


def test_both_units_are_written_and_the_socket_is_enabled(desk):
    said = desk.say("--port", "9000", "--model", "opus", "install")
    assert f"wrote {desk.service}" in said
    assert f"wrote {desk.socket}" in said
    assert desk.calls() == START
    assert "http://127.0.0.1:9000/v1" in said
    assert "loginctl enable-linger" in said
    words = exec_start(desk)
    assert words[1:3] == ["-m", "claude_proxy"]
    assert "--model=opus" in words
    assert not any(word.startswith("--port") for word in words)
    assert "ListenStream=127.0.0.1:9000\n" in desk.socket.read_text()
    assert "ListenStream=%t/claude-proxy/claude-proxy.sock\n" in desk.socket.read_text()


def test_the_cli_that_is_found_now_is_on_the_services_path(desk):
    desk.say("install")
    assert f"Environment=PATH={desk.bin}:" in desk.service.read_text().replace('"', "")


@pytest.mark.skipif(not Path("/usr/bin/env").exists(), reason="there is no /usr/bin/env")
def test_a_cli_that_node_runs_brings_node_along(desk, tmp_path):
    node = tmp_path / "node-bin/node"
    node.parent.mkdir()
    node.write_text('#!/bin/sh\necho "2.1.330 (Claude Code)"\n')
    node.chmod(0o755)
    desk.program("claude", "#!/usr/bin/env node\n")
    desk.say("install", PATH=f"{desk.bin}:{node.parent}:/usr/bin:/bin")
    assert f"PATH={desk.bin}:{node.parent}:" in desk.service.read_text()


def test_unchanged_files_are_left_alone_and_a_service_that_runs_is_restarted(desk):
    desk.say("install")
    before = desk.service.stat().st_ino
    desk.answer("service", "ActiveState=active\nLoadState=loaded")
    desk.answer("socket", "ActiveState=active\nLoadState=loaded")
    assert f"unchanged: {desk.service}" in desk.say("install")
    assert desk.service.stat().st_ino == before
    assert desk.calls() == [*START, *START, "try-restart claude-proxy.service"]


def test_new_addresses_need_a_new_socket(desk):
    desk.say("install")
    desk.answer("service", "ActiveState=active\nLoadState=loaded")
    desk.answer("socket", "ActiveState=active\nLoadState=loaded")
    desk.say("--port", "9001", "install")
    stop = "stop claude-proxy.socket claude-proxy.service"
    assert desk.calls() == [*START, START[0], stop, START[1]]


def test_what_has_failed_may_start_again(desk):
    desk.answer("socket", "ActiveState=failed\nLoadState=loaded")
    desk.say("install")
    assert desk.calls() == [START[0], "reset-failed claude-proxy.socket", START[1]]


def test_a_dry_run_shows_the_units_and_changes_nothing(desk):
    said = desk.say("install", "--dry-run")
    assert f"would write {desk.service}:" in said
    assert "    [Service]" in said
    assert "would run systemctl --user enable --now claude-proxy.socket" in said
    assert desk.calls() == []
    assert desk.tree() == {}
    assert not desk.units.exists()


def test_without_a_user_manager_it_says_what_to_type_later(desk):
    said = desk.say("install", XDG_RUNTIME_DIR="")
    assert desk.service.exists()
    assert desk.calls() == []
    assert "    systemctl --user daemon-reload\n" in said
    assert "    systemctl --user enable --now claude-proxy.socket\n" in said


def test_without_systemctl_too(desk):
    (desk.bin / "systemctl").unlink()
    said = desk.say("install", PATH=str(desk.bin))
    assert "    systemctl --user enable --now claude-proxy.socket\n" in said


def test_a_key_on_the_command_line_is_refused_and_not_repeated(desk):
    complaint = desk.complaint("--api-key", "sk-very-secret", "install", code=2)
    assert "--api-key-file" in complaint
    assert "sk-very-secret" not in complaint
    assert desk.tree() == {}


def test_a_key_file_becomes_a_credential_and_no_flag(desk):
    key = desk.home / "my key"
    key.write_text("sk-very-secret\n")
    said = desk.say("--api-key-file", str(key), "install")
    assert f"LoadCredential=api-key:{key}\nSetCredential=api-key:no file\n" in (
        desk.service.read_text()
    )
    assert not any("api-key-file" in word for word in exec_start(desk))
    assert f"claude-proxy '--api-key-file={key}' key" in said
    assert "sk-very-secret" not in said + desk.service.read_text()


def test_a_key_file_that_cannot_be_used_is_told_now(desk):
    assert "missing" in desk.complaint("--api-key-file", "missing", "install")
    assert desk.tree() == {}


def test_a_file_of_clients_keys_that_cannot_be_used_is_told_now(desk):
    assert "No such file" in desk.complaint("--api-keys-file", "missing", "install")
    assert desk.tree() == {}


def test_addresses_that_others_reach_are_refused_unless_they_are_meant(desk):
    refused = desk.complaint("--host", "0.0.0.0", "install")
    assert "can be reached from other machines" in refused
    assert desk.tree() == {}
    meant = desk.say("--host", "0.0.0.0", "--allow-remote", "install")
    assert "others can reach 0.0.0.0:8080" in meant
    assert "--allow-remote" in exec_start(desk)


def test_paths_become_absolute(desk):
    (desk.home / "c.toml").write_text("queue = 3\n")
    desk.say("--config", str(desk.home / "c.toml"), "--claude", "~/../bin/claude", "install")
    words = exec_start(desk)
    assert f"--config={desk.home}/c.toml" in words
    assert f"--claude={desk.home}/../bin/claude" in words


def test_variables_that_the_service_does_not_get_are_named_without_their_values(desk):
    said = desk.say("install", PROXY_API_KEY="sk-very-secret", CLAUDE_PROXY_QUEUE="7")
    assert "warning: the service does not get" in said
    assert "PROXY_API_KEY" in said
    assert "CLAUDE_PROXY_QUEUE" in said
    assert "sk-very-secret" not in said


def test_the_port_of_a_variable_counts(desk):
    desk.say("install", PORT="9002")
    assert "ListenStream=127.0.0.1:9002\n" in desk.socket.read_text()


def test_another_place_of_the_login_is_passed_on(desk):
    desk.say("install", CLAUDE_CONFIG_DIR="/srv/claude")
    text = desk.service.read_text()
    assert "Environment=CLAUDE_CONFIG_DIR=/srv/claude\n" in text
    assert "ReadWritePaths=-/srv/claude\n" in text


def test_what_lies_on_another_disk_stays_writable(desk, tmp_path):
    """The sandbox leaves the home alone writable."""
    for name in ("disk/claude", "disk/state"):
        (tmp_path / name).mkdir(parents=True)
    (desk.home / ".claude").symlink_to(tmp_path / "disk/claude")
    (desk.home / ".local").mkdir()
    (desk.home / ".local/state").symlink_to(tmp_path / "disk/state")
    assert "FAIL  sandbox" not in desk.run("check").stdout
    desk.say("install")
    text = desk.service.read_text()
    assert f"ReadWritePaths=-{tmp_path}/disk/claude\n" in text
    assert f"ReadWritePaths=-{tmp_path}/disk/state/claude-proxy\n" in text
    common = f"LoadState=loaded\nActiveState=inactive\nFragmentPath={desk.service}"
    desk.answer("service", common)
    assert "sandbox" not in desk.run("check").stdout
    desk.service.write_text(text.replace(f"ReadWritePaths=-{tmp_path}/disk/claude\n", ""))
    said = desk.run("check").stdout
    assert f"FAIL  sandbox: {desk.home}/.claude leads to {tmp_path}/disk/claude, which" in said
    assert said.count("FAIL  sandbox") == 1


@pytest.mark.parametrize("name", ["my home", "ho$me", 'ho"me', "link"])
def test_a_home_of_another_spelling_is_where_systemd_looks(desk, name):
    """systemctl quotes what it says, and may call the same directory otherwise."""
    other = desk.home.with_name(name)
    known = desk.home
    if name == "link":
        other.symlink_to(known)
    else:
        other.mkdir()
        known = other
    escaped = f"{known}/.config/systemd/user".replace('"', '\\"').replace("$", "\\$")
    desk.answer("manager", f'Version=257\nUnitPath=/etc/systemd/user "{escaped}"')
    assert "ran systemctl" in desk.say("install", HOME=str(other))
    assert (other / ".config/systemd/user/claude-proxy.socket").exists()


def test_another_state_home_is_passed_on(desk):
    desk.say("install", XDG_STATE_HOME=f"{desk.home}/state")
    assert f"Environment=STATE_DIRECTORY={desk.home}/state/claude-proxy\n" in (
        desk.service.read_text()
    )


def test_what_a_private_tmp_hides_is_told(desk, tmp_path):
    said = desk.say("install")
    assert (f"{desk.bin}/claude lies where" in said) == str(tmp_path).startswith("/tmp/")


def test_a_program_that_goes_with_a_cache_is_told(desk):
    """As one that `uvx` runs."""
    assert "put the program where it stays" not in desk.say("install", "--dry-run")
    cache = str(Path(sys.executable).parent.parent)
    said = desk.say("install", "--dry-run", UV_CACHE_DIR=cache)
    assert f"warning: {sys.executable} goes when its cache is cleared" in said


def test_a_unit_without_the_mark_is_never_overwritten(desk):
    desk.units.mkdir(parents=True)
    desk.socket.write_text("[Socket]\nListenStream=1\n")
    before = desk.tree()
    assert str(desk.socket) in desk.complaint("install")
    assert desk.tree() == before
    assert desk.calls() == []


def test_a_link_is_never_written_through(desk):
    desk.units.mkdir(parents=True)
    target = desk.home / "elsewhere"
    target.write_text(units.mark("0.0.1", units.SERVICE))
    desk.service.symlink_to(target)
    assert str(target) in desk.complaint("install")
    assert target.read_text() == units.mark("0.0.1", units.SERVICE)


@pytest.mark.parametrize(
    ("target", "hint"),
    [("/nix/store/abc-home-manager-files/x.service", "Nix"), ("/dev/null", "unmask")],
)
def test_units_of_nix_and_masked_ones_are_told_apart(desk, target, hint):
    desk.units.mkdir(parents=True)
    desk.service.symlink_to(target)
    assert hint in desk.complaint("install")
    assert hint in desk.say("uninstall")
    assert desk.service.is_symlink()


def test_a_unit_from_elsewhere_is_not_covered(desk, tmp_path):
    other = tmp_path / "claude-proxy.service"
    other.write_text("[Service]\n")
    desk.answer("service", f"FragmentPath={other}")
    assert str(other) in desk.complaint("install")
    assert not desk.units.exists()


def test_a_manager_that_looks_elsewhere_is_told(desk):
    desk.answer("manager", "Version=257\nUnitPath=/home/other/.config/systemd/user")
    assert "XDG_CONFIG_HOME" in desk.complaint("install")


def test_a_missing_cli_is_told_before_anything_is_written(desk):
    assert "/none" in desk.complaint("--claude", "/none", "install")
    assert desk.tree() == {}


def test_what_systemctl_complains_of_is_told(desk):
    (desk.answers / "broken").touch()
    assert "no such luck" in desk.complaint("install")


def test_uninstall_undoes_install_and_leaves_the_state(desk):
    desk.say("key")
    before = desk.tree()
    desk.say("install")
    said = desk.say("uninstall")
    assert desk.tree() == before
    assert desk.calls()[2:] == [
        "disable --now claude-proxy.socket claude-proxy.service",
        "daemon-reload",
        "reset-failed claude-proxy.socket claude-proxy.service",
    ]
    assert re.search(r"left: .*/claude-proxy, with the key", said)


def test_uninstall_rehearsed_changes_nothing(desk):
    desk.say("install")
    before, calls = desk.tree(), desk.calls()
    said = desk.say("uninstall", "--dry-run")
    assert f"would remove {desk.service}" in said
    assert (desk.tree(), desk.calls()) == (before, calls)


def test_uninstall_leaves_what_install_did_not_write(desk):
    desk.say("install")
    desk.service.write_text("[Service]\n")
    said = desk.say("uninstall")
    assert "left alone" in said
    assert desk.service.exists()
    assert not desk.socket.exists()
    assert desk.calls()[2] == "disable --now claude-proxy.socket"


def test_uninstall_without_a_manager_removes_the_link_too(desk):
    desk.say("install")
    link = desk.units / "sockets.target.wants/claude-proxy.socket"
    link.parent.mkdir()
    link.symlink_to(desk.socket)
    desk.say("uninstall", XDG_RUNTIME_DIR="")
    assert not list(desk.units.iterdir())


def test_uninstall_of_nothing(desk):
    assert "there is no" in desk.say("uninstall")
    assert desk.calls() == []


def test_the_shipped_units_are_found():
    from claude_proxy.commands import unit_files

    assert Path(unit_files.shipped_directory() / units.SERVICE).is_file()
    assert "ListenStream=%t/" in unit_files.shipped(units.SOCKET)


def test_units_of_the_same_name_that_systemd_has_from_elsewhere_run_on(desk, tmp_path):
    desk.say("install")
    before = desk.calls()
    for unit in ("service", "socket"):
        other = tmp_path / f"claude-proxy.{unit}"
        other.write_text("[Unit]\n")
        desk.answer(unit, f"LoadState=loaded\nActiveState=active\nFragmentPath={other}")
    said = desk.say("uninstall")
    assert "they are left alone" in said
    assert desk.calls() == [*before, "daemon-reload"]
    assert not desk.service.exists()
