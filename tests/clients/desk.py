"""A home without anything, to which a client's settings are brought, and where it is run."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from tests.lab import KEY, WAIT, Daemon, wait_until

PLAIN_PATH = "/usr/local/bin:/usr/bin:/bin"


class Desk:
    """``tag`` is in ``prompt`` and in ``answer``, what the client is to show."""

    def __init__(self, directory: Path, daemon: Daemon, key_file: Path) -> None:
        self.home, self.work = directory / "home", directory / "work"
        self.home.mkdir()
        self.work.mkdir()
        self.daemon = daemon
        self.tag = f"tag{uuid.uuid4().hex[:12]}"
        self.answer = f"the north wind, said {self.tag}"
        self.prompt = f"[simulate text='{self.answer}']"
        self.flags = ("--port", daemon.url.rpartition(":")[2], "--api-key-file", str(key_file))
        self.done = len(daemon.log.records("request.done"))

    def note_on_key(self) -> None:
        """From now on the key's file holds more, and no client may read it by itself."""
        path = self.home / "key and note"
        path.write_text(f"{KEY}\nfor the clients\n")
        self.flags = (*self.flags[:2], "--api-key-file", str(path))

    def config(self, *argv: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "claude_proxy", "config", *argv, *self.flags],
            env={"HOME": str(self.home), "PATH": PLAIN_PATH},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        assert KEY not in done.stdout
        return done.stdout

    def printed(self, client: str) -> dict[str, str]:
        """The texts by where they go."""
        parts = re.split(r"^(?:#|//) --- [^:\n]+: (.+)\n", self.config(client), flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2], strict=True))

    def take(self, client: str) -> str:
        """Has its files written, and gives the text for the shell."""
        printed = self.printed(client)
        self.config(client, "--write")
        for where, text in printed.items():
            if where.startswith("/"):
                assert Path(where).read_text().partition("\n")[2] == f"{text.strip()}\n"
        return printed["in a shell"].strip()

    def sh(self, text: str, *programs: Path, **environ: str) -> str:
        """What it prints; as a whole it ends with its shell."""
        path = ":".join([*(str(each.parent) for each in programs), PLAIN_PATH])
        process = subprocess.Popen(
            ["/bin/sh", "-euc", text],
            cwd=self.work,
            env={"HOME": str(self.home), "PATH": path, "TERM": "dumb", **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                output, complaint = process.communicate(timeout=2 * WAIT)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0, f"{output}\n{complaint}"
        return output

    def was_clean(self) -> None:
        """Every request since the beginning got its answer, and none was another's."""
        assert wait_until(self.exchanges, WAIT), "the client has asked for nothing"
        wrong = [each for each in self.exchanges() if each["status"] != 200 or each["client_gone"]]
        assert wrong == []
        assert {each["finish_reason"] for each in self.exchanges()} == {"stop"}

    def exchanges(self) -> list[dict[str, Any]]:
        records = self.daemon.log.records("request.done")[self.done :]
        return [each for each in records if each["route"] != "/models"]


def quoted(*words: str) -> str:
    """To be put behind a command."""
    return " " + shlex.join(words)
