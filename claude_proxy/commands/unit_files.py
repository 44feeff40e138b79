"""The unit files on disk: the shipped ones, those of this user, and whose they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import claude_proxy
from claude_proxy import small_file
from claude_proxy.commands import units
from claude_proxy.commands.systemctl import Manager, shown
from claude_proxy.directories import configuration_directory
from claude_proxy.settings import ConfigurationError

NIX_STORE = "/nix/store/"


def shipped_directory() -> Path:
    """In an installed package the units lie inside of it, in a checkout beside it."""
    package = Path(claude_proxy.__file__).parent
    inside = package / "systemd"
    return inside if inside.is_dir() else package.parent / "systemd"


def shipped(name: str) -> str:
    path = shipped_directory() / name
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None


def directory(environ: Mapping[str, str]) -> Path:
    """Where a user's own units lie. Raises RuntimeError when there is no home directory."""
    return configuration_directory(environ).parent / "systemd" / "user"


def text_of(path: Path) -> str | None:
    """None: there is no such file, or none that can be read."""
    try:
        return small_file.read(path).decode(errors="replace")
    except OSError:
        return None


def on_disk(environ: Mapping[str, str]) -> str:
    """The service's file and drop-ins of this user's own, for when no manager can be asked."""
    with suppress(RuntimeError, OSError):  # no home directory, or one that is not ours to look into
        path = directory(environ) / units.SERVICE
        parts = [path, *sorted(path.with_name(f"{path.name}.d").glob("*.conf"))]
        return "\n".join(text_of(part) or "" for part in parts if path.exists())
    return ""


def is_ours(path: Path) -> bool:
    return obstacle(path) is None and text_of(path) is not None


def obstacle(path: Path) -> str | None:
    """Why install may not write to ``path``, and what to do; None: it may."""
    real = os.path.realpath(path)
    if real.startswith(NIX_STORE):
        return f"{path} is managed by Nix ({real}): make the change in its configuration"
    if path.is_symlink() and real == os.devnull:
        return f"{path} is masked: {shown('unmask', path.name)}"
    if path.is_symlink():
        return f"{path} is a symbolic link to {real}: remove it first, if it is not needed"
    if path.exists() and units.marked(text_of(path) or "") is None:
        return (
            f"{path} was not written by claude-proxy install: move it away first, or keep it and "
            "change it by hand"
        )
    return None


def is_searched(folder: Path, manager: Manager) -> bool:
    """Whether systemd looks for units in it, by whichever name."""
    known = {os.path.realpath(path) for path in manager.unit_path}
    return not known or os.path.realpath(folder) in known


def elsewhere(path: Path, manager: Manager) -> str | None:
    """Where systemd has a unit of that name from, when it is not ``path``."""
    fragment = manager.show(path.name, "FragmentPath").get("FragmentPath")
    if not fragment or not Path(fragment).exists():
        return None
    if path.exists() and path.samefile(fragment):
        return None
    if os.path.realpath(fragment).startswith(NIX_STORE):
        return f"{path.name} is managed by Nix ({fragment}): make the change in its configuration"
    return (
        f"there is a {path.name} already, {fragment}: "
        f"use that one ({shown('enable --now', units.SOCKET)}), or remove it first"
    )


def write(path: Path, text: str) -> None:
    """Seen whole or not at all. Raises ConfigurationError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            draft.unlink()
