"""What was found out about the CLI's file, kept so that a start need not ask it again.

To ask costs a process, which is in the way of the connection that has woken the program up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from claude_proxy import small_file
from claude_proxy.claude import cli as cli_on_disk
from claude_proxy.claude.cli import Cli, Stamp

NAME = "claude.json"


class Examined(msgspec.Struct):
    """``stamp`` changes with the file; an upgrade is examined anew."""

    stamp: Stamp
    version: str


async def examine(path: Path, environment: Mapping[str, str], directory: Path | None) -> Cli:
    """Like ``cli.examine``, but asks the same file once only. ``directory``: where that is kept.

    Raises ConfigurationError.
    """
    stamp = cli_on_disk.stamp(path)
    if directory is not None and stamp is not None:
        with suppress(OSError, ValueError):  # also what msgspec raises
            known = msgspec.json.decode(small_file.read(directory / NAME), type=Examined)
            if known.stamp == stamp and cli_on_disk.is_new_enough(known.version):
                return Cli(path, known.version)
    cli = await cli_on_disk.examine(path, environment)
    if directory is not None and stamp is not None and cli.stamp() == stamp:
        keep(Examined(stamp, cli.version), directory)
    return cli


def keep(found: Examined, directory: Path) -> None:
    """In one step, so that nobody reads half of it; what cannot be kept is asked again."""
    draft = directory / f".{NAME}.{os.getpid()}"
    with suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.encode(found))
        draft.replace(directory / NAME)
