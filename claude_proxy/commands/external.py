"""Programs of the system that are asked for something, each with an end to the patience."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """``code`` is None when the program is not there or did not end in time."""

    code: int | None
    output: str = ""
    error: str = ""

    @property
    def went_well(self) -> bool:
        return self.code == 0


def run(
    words: Sequence[str],
    environ: Mapping[str, str],
    limit: float = PATIENCE,
    directory: str | None = None,
) -> Outcome:
    """``limit``: seconds. What it says is asked for in English, to be read by this program."""
    try:
        process = subprocess.Popen(  # noqa: S603 - the words are this program's own
            words,
            env={**environ, "LC_ALL": "C.UTF-8"},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
            process_group=0,
        )
    except OSError as error:
        return Outcome(None, error=f"{words[0]}: {error.strerror}")
    with process:
        try:
            output, complaint = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):  # its children would hold the pipes open
                os.killpg(process.pid, signal.SIGKILL)
            return Outcome(None, error=f"{words[0]}: no end after {limit:g} s")
    return Outcome(process.returncode, output, complaint.strip())


def say(line: str = "") -> None:
    """To stdout, whatever that can encode."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
