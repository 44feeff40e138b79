"""The user's Claude Code CLI as the commands see it: where, which version, logged in or not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

from claude_proxy.claude import cli
from claude_proxy.claude.cli import Cli, Login
from claude_proxy.settings import Settings

Found = Cli
Standing = Login
NODE = "node"


def find(given: str | None, environ: Mapping[str, str]) -> Path:
    """Raises ConfigurationError."""
    return cli.find(given, environ)


def examine(path: Path, environ: Mapping[str, str]) -> Cli:
    """Runs it for its version. Raises ConfigurationError."""
    return asyncio.run(cli.examine(path, cli.child_environment(environ, 0)))


def login(found: Cli, environ: Mapping[str, str]) -> Login:
    """What the CLI itself says; spends no tokens."""
    return asyncio.run(cli.login(found, cli.child_environment(environ, 0)))


def installed(settings: Settings, environ: Mapping[str, str]) -> Cli:
    """Raises ConfigurationError."""
    return examine(find(settings.claude, environ), environ)


def of_either(here: Settings, served: Settings | None, environ: Mapping[str, str]) -> Cli:
    """The one that is asked for here, else the one that the service was told of, else the one
    that is found here. Raises ConfigurationError.
    """
    if here.claude is None and served is not None and served.claude is not None:
        return installed(served, environ)
    return installed(here, environ)


def interpreter(path: Path, environ: Mapping[str, str]) -> Path | None:
    """The node that runs it, when the CLI is a script and node is on PATH."""
    if not needs_node(path):
        return None
    found = shutil.which(NODE, path=environ.get("PATH"))
    return Path(found).absolute() if found else None


def needs_node(path: Path) -> bool:
    """Whether its first line is ``#!/usr/bin/env node``."""
    try:
        with path.open("rb") as file:
            words = file.readline(200).removeprefix(b"#!").split()
    except OSError:
        return False
    return len(words) > 1 and words[0].endswith(b"/env") and words[-1] == NODE.encode()


def describe(login: Login, found: Cli | None = None) -> str:
    """With what to do about it."""
    return f"{login}: {how_to_log_in(found)}" if login.logged_in is False else str(login)


def how_to_log_in(found: Cli | None) -> str:
    """One that came with a package is on nobody's PATH, so it is named by its place."""
    return f"as this user, type {found.path if found else 'claude'} auth login"
