"""A program on a terminal of its own: what is typed, and all that it shows."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence

WAIT = 30.0


class Terminal:
    """``stdout`` and ``stderr``: where they go; None is the terminal."""

    def __init__(
        self,
        words: Sequence[str],
        env: dict[str, str],
        stdout: int | None = None,
        stderr: int | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> None:
        self.shown = ""
        self._at = 0
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        self.process = subprocess.Popen(
            words,
            env=env,
            cwd=cwd,
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs if stderr is None else stderr,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no lock in it
        )
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, pattern: str, timeout: float = WAIT) -> re.Match[str]:
        """In what is shown after the last match."""
        deadline = time.monotonic() + timeout
        while (found := re.compile(pattern).search(self.shown, self._at)) is None:
            assert self._read(deadline - time.monotonic()), f"no {pattern!r} in {self.shown!r}"
        self._at = found.end()
        return found

    def finish(self) -> int:
        """All of it is in ``shown`` then. The exit code."""
        deadline = time.monotonic() + WAIT
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(max(0, deadline - time.monotonic()))

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._ours)

    def _read(self, timeout: float) -> bool:
        """False at the end, or when nothing comes in time."""
        if not select.select([self._ours], [], [], max(0, timeout))[0]:
            return False
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # nobody has its other end any more
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)
