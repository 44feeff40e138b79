"""The machine: systemd, kernel, journal, disk, and what keeps a user's services alive."""

from __future__ import annotations

import grp
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from claude_proxy import __version__, directories
from claude_proxy.commands import sandbox, systemctl, unit_files, units
from claude_proxy.commands.checks.finding import FAIL, OK, WARN, Finding, Scene
from claude_proxy.commands.systemctl import shown

# The oldest one that the units were tried with.
OLDEST_SYSTEMD = 252
JOURNAL_GROUPS = ("systemd-journal", "adm", "wheel")
NO_SANDBOX = "no-sandbox.conf"
MEBIBYTE = 2**20
NEEDED, WANTED = 16 * MEBIBYTE, 256 * MEBIBYTE
# How a unit ends that gets no user namespace, see systemd.exec(5).
NO_NAMESPACE = frozenset({"217", "226"})
# Kernel setting, the value with which an unprivileged program gets no user namespace.
NAMESPACE_LIMITS = {
    "kernel/unprivileged_userns_clone": "0",
    "user/max_user_namespaces": "0",
    "kernel/apparmor_restrict_unprivileged_userns": "1",
}


def program_itself(scene: Scene) -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(OK, "program", f"claude-proxy {__version__}, Python {python}")
    if os.getuid() == 0 and scene.environ.get("SUDO_USER"):
        why = "this looks at root's own claude-proxy"
        yield Finding(WARN, "program", why, "run it without sudo")


def state_directory(scene: Scene) -> Iterator[Finding]:
    """The nearest directory that is there counts: the rest is made in it."""
    name = "state directory"
    try:
        path = directories.state_directory(scene.environ).absolute()
    except RuntimeError as error:  # there is no home directory
        yield Finding(FAIL, name, str(error), "set HOME")
        return
    there = next(each for each in (path, *path.parents) if each.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        yield Finding(
            FAIL, name, f"{there} cannot be written by you", f"see its owner: ls -ld {there}"
        )
        return
    shared = there == path and path.stat().st_mode & 0o077
    if shared:
        yield Finding(WARN, name, f"others may look into {path}", f"chmod 700 {path}")
    disk = os.statvfs(there)
    free = disk.f_bavail * disk.f_frsize
    if free < NEEDED or (disk.f_files and not disk.f_favail):
        yield Finding(FAIL, name, f"the disk of {there} is full", "make room on it")
    elif free < WANTED:
        why = f"{free // MEBIBYTE} MiB are left on the disk of {there}"
        yield Finding(WARN, name, why, "make room on it")
    elif not shared:
        yield Finding(OK, name, str(path))


def systemd_version(scene: Scene) -> Iterator[Finding]:
    if scene.seen.manager is None:
        why = "there is no user manager here"
        mend = "log in as this user; not by su or sudo, which start none"
        if scene.environ.get("XDG_RUNTIME_DIR") or (scene.root / "run/systemd/system").is_dir():
            yield Finding(WARN, "systemd", why, mend)
        return
    version = scene.seen.manager.version
    if 0 < version < OLDEST_SYSTEMD:
        why = f"version {version} is older than {OLDEST_SYSTEMD}, the oldest one tried"
        yield Finding(WARN, "systemd", why, f"systemd-analyze --user verify {units.SERVICE}")
    else:
        yield Finding(OK, "systemd", f"version {version}")


def user_namespaces(scene: Scene) -> Iterator[Finding]:
    """A sandboxed unit of a user needs them: else it ends with 217/USER or 226/NAMESPACE."""
    service = scene.seen.service
    works = service.get("ActiveState") == "active" or service.get("PrivateUsers") == "no"
    if scene.seen.manager is None or not scene.seen.is_managed or works:
        return
    limits = [
        f"{setting.replace('/', '.')} = {value}"
        for setting, value in NAMESPACE_LIMITS.items()
        if read(scene.proc / "sys" / setting) == value
    ]
    if limits or service.get("ExecMainStatus") in NO_NAMESPACE:
        why = ", ".join(limits) or f"it ended with {service['ExecMainStatus']}"
        why = f"a user's service gets none on this machine ({why})"
        yield Finding(FAIL, "sandbox", why, f"go without one: {without_sandbox(scene)}")


def links(scene: Scene) -> Iterator[Finding]:
    """A home whose parts lie on another disk: the sandbox leaves only the home writable."""
    with suppress(RuntimeError):  # there is no home directory
        environment = scene.seen.environment(scene.home)
        for place, real in sandbox.closed(scene.seen.unit_text, environment, scene.home).items():
            why = f"{place} leads to {real}, which the service may only read"
            mend = f"{shown('edit', units.SERVICE)}: [Service] ReadWritePaths={real}"
            yield Finding(FAIL, "sandbox", why, mend)


def without_sandbox(scene: Scene) -> str:
    source = unit_files.shipped_directory() / NO_SANDBOX
    with suppress(RuntimeError):  # there is no home directory
        target = unit_files.directory(scene.environ) / f"{units.SERVICE}.d" / NO_SANDBOX
        return f"install -D -m 644 {source} {target} && {shown('daemon-reload')}"
    return str(source)


def linger(scene: Scene) -> Iterator[Finding]:
    if scene.seen.manager is None or not scene.seen.is_managed:
        return
    lingers = systemctl.lingers(scene.environ)
    if lingers is False:
        why = "off: the service ends with your last logout"
        yield Finding(WARN, "linger", why, "loginctl enable-linger")
    elif lingers:
        yield Finding(OK, "linger", "on: the service outlives the last logout")


def journal(scene: Scene) -> Iterator[Finding]:
    """Without a journal on disk there is none per user, and the whole one is for some groups."""
    if scene.seen.manager is None or os.getuid() == 0 or in_journal_group():
        return
    if not (scene.root / "var/log/journal").is_dir():
        why = "`journalctl --user` shows you nothing: the journal is kept in memory alone"
        mend = f"sudo usermod -aG systemd-journal {systemctl.user_name()}, and log in anew"
        yield Finding(WARN, "journal", why, mend)
    else:
        yield Finding(OK, "journal", "kept on disk")


def in_journal_group() -> bool:
    for name in JOURNAL_GROUPS:
        with suppress(KeyError):
            if grp.getgrnam(name).gr_gid in (os.getegid(), *os.getgroups()):
                return True
    return False


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
