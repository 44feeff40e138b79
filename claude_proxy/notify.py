"""What the daemon tells systemd: sd_notify(3) without ever waiting, and nothing without systemd."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import sdnotify

LONGEST_NUMBER = 20  # of 64 bits


class Notifier:
    """Whoever started this process with ``$NOTIFY_SOCKET`` hears of its states."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._notifier = sdnotify.SystemdNotifier() if environ.get("NOTIFY_SOCKET") else None
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.settimeout(0)
        self.watchdog = watchdog_seconds(environ)

    def ready(self, status: str) -> None:
        self._send("READY=1", status)

    def status(self, text: str) -> None:
        self._send("", text)

    def reloading(self) -> None:
        """Until the next ``ready``. The time tells systemd which of them answers which reload."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1_000}", "reloading")

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", status)

    def extend(self, seconds: float) -> None:
        """The present start or stop may take that long from now on."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def failed(self, reason: str, errno: int | None = None) -> None:
        """Why the start fails, for `systemctl status`."""
        self._send(f"ERRNO={errno}" if errno and errno > 0 else "", reason)

    def close(self) -> None:
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.close()

    def _send(self, state: str, status: str | None = None) -> None:
        """sdnotify drops without a word what is not Latin-1, and a line break would end a text."""
        if self._notifier is None:
            return
        lines = [state] if state else []
        if status is not None:
            folded = " ".join(status.split()).encode("ascii", "replace").decode()
            lines.append(f"STATUS={folded}")
        self._notifier.notify("\n".join(lines))


def watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """How long systemd waits for a sign of life (``WatchdogSec=``); None: it does not."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    usec = environ.get("WATCHDOG_USEC", "")[:LONGEST_NUMBER]
    return int(usec) / 1_000_000 if usec.isdecimal() and int(usec) > 0 else None
