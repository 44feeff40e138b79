"""``claude-proxy uninstall``: what install did, undone; whatever does not carry its mark stays."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from claude_proxy.command_line import Invocation
from claude_proxy.commands import systemctl, unit_files, units
from claude_proxy.commands.external import say
from claude_proxy.commands.install import FAREWELL
from claude_proxy.commands.systemctl import Manager, shown
from claude_proxy.directories import state_directory
from claude_proxy.settings import ConfigurationError

WANTED_BY = {units.SOCKET: "sockets.target.wants", units.SERVICE: "default.target.wants"}


def run(asked: Invocation, environ: Mapping[str, str]) -> int:
    """Raises ConfigurationError."""
    try:
        folder = unit_files.directory(environ)
        state = state_directory(environ)
    except RuntimeError as error:  # there is no home directory
        raise ConfigurationError(f"cannot look for the user's units: {error}") from None
    ours = []
    # The socket first: it would start the service again.
    for path in (folder / units.SOCKET, folder / units.SERVICE):
        if unit_files.is_ours(path):
            ours.append(path)
        elif problem := unit_files.obstacle(path):
            say(f"left alone: {problem}")
        else:
            say(f"there is no {path}")
    if ours:
        remove(ours, systemctl.reached(environ), asked)
    drop_ins = [path for path in ours if path.with_name(f"{path.name}.d").is_dir()]
    for path in drop_ins:
        say(f"left: {path}.d")
    if state.is_dir():
        say(f"left: {state}, with the key, the kept responses and what was spent")
    return 0


def remove(ours: list[Path], manager: Manager | None, asked: Invocation) -> None:
    names = [path.name for path in ours if not (manager and unit_files.elsewhere(path, manager))]
    tense = ("would run", "would remove") if asked.dry_run else ("ran", "removed")
    if manager is None:
        say("no user manager here: what runs, runs on until the last logout")
    elif not names:
        say("systemd has its units of these names from elsewhere: they are left alone")
    else:
        stop = ["disable", "--now", *names]
        if not asked.dry_run:
            manager.do(*stop, limit=asked.settings.drain_timeout + FAREWELL)
        say(f"{tense[0]} {shown(*stop)}")
    for path in ours:
        if not asked.dry_run:
            delete(path)
        say(f"{tense[1]} {path}")
    if manager is not None:
        if not asked.dry_run:
            manager.do("daemon-reload")
            if names:  # none would mean all
                manager.forget_failures(*names)
        say(f"{tense[0]} {shown('daemon-reload')}")


def delete(path: Path) -> None:
    """With the link that enables it, which systemctl has removed already where it could."""
    link = path.parent / WANTED_BY[path.name] / path.name
    try:
        path.unlink()
        if link.is_symlink():
            link.unlink()
            with suppress(OSError):  # other units are in there
                link.parent.rmdir()
    except OSError as error:
        raise ConfigurationError(f"cannot remove {error.filename}: {error.strerror}") from None
