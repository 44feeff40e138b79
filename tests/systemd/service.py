"""claude-proxy as its user has it: units, `systemctl --user`, `journalctl --user`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from tests.lab import Simulator, wait_until

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
WAIT = 30.0
NAME = "claude-proxy.service"
SOCKET = "claude-proxy.socket"
KEY = "sk-lab-4d0c9be1"
UPSTREAM_KEY = "sk-ant-lab-77aa01"
URL = "http://127.0.0.1:8080"
HOME = Path.home()
RUNTIME = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"))
UNIX_SOCKET = RUNTIME / "claude-proxy" / "claude-proxy.sock"
# The unit's own program, as pip or Nix would put it there.
PROGRAM = HOME / ".local" / "bin" / "claude-proxy"
HIDDEN = ("/tmp/", "/var/tmp/")  # by PrivateTmp=


def systemctl(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["systemctl", "--user", *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    if check:
        assert done.returncode == 0, f"systemctl --user {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def journal(*arguments: str) -> list[dict[str, Any]]:
    """The entries, with all their fields."""
    command = ["journalctl", "--user", "--no-pager", "--all", "-o", "json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def control(word: str) -> None:
    """What only root may do in the lab: see enter.sh."""
    Path("/run/lab/control").write_text(f"{word}\n")
    assert Path("/run/lab/answer").read_text() == "ok\n"


class Service:
    """``environment`` and the drop-ins are a user's own `systemctl --user edit`."""

    def __init__(self, upstream: str) -> None:
        self.units = HOME / ".config" / "systemd" / "user"
        self.environment = {
            "ANTHROPIC_BASE_URL": upstream,
            "ANTHROPIC_API_KEY": UPSTREAM_KEY,
            "PROXY_API_KEY": KEY,
            "PYTHONWARNINGS": "error",
        }
        self._clients: list[httpx.Client] = []
        self.units.mkdir(parents=True)
        for unit in (NAME, SOCKET):
            shutil.copy(UNITS / unit, self.units)
        PROGRAM.parent.mkdir(parents=True)
        PROGRAM.write_text(f'#!/bin/sh\ncd {ROOT}\nexec {sys.executable} -m claude_proxy "$@"\n')
        PROGRAM.chmod(0o755)
        self.edit()
        self.since = f"--since=@{time.time():.6f}"

    def edit(self, *lines: str, unit: str = NAME) -> None:
        """A drop-in with these lines; [Service] or [Socket] is where they stand without another."""
        text = ["[Service]" if unit == NAME else "[Socket]"]
        if unit == NAME:
            text += [f'Environment="{name}={value}"' for name, value in self.environment.items()]
            text += [f"BindReadOnlyPaths={path}" for path in hidden_paths()]
        directory = self.units / f"{unit}.d"
        directory.mkdir(exist_ok=True)
        (directory / "lab.conf").write_text("\n".join([*text, *lines]) + "\n")
        systemctl("daemon-reload")

    def flags(self, *flags: str) -> str:
        """For ``edit``: the program with these flags instead of the shipped ones."""
        return f"ExecStart=\nExecStart={PROGRAM} {' '.join(flags)}"

    def run_instead(self, line: str) -> None:
        """This line of the shell's in the place of the CLI."""
        cli = self.units / "claude"
        cli.write_text(f"#!/bin/sh\n{line}\n")
        cli.chmod(0o755)
        self.edit(self.flags("--claude", str(cli)))

    def start(self, unit: str = SOCKET) -> None:
        systemctl("start", unit)

    def show(self, name: str, unit: str = NAME) -> str:
        return systemctl("show", "--value", "-p", name, unit).strip()

    @property
    def pid(self) -> int:
        return int(self.show("MainPID"))

    @property
    def status(self) -> str:
        return self.show("StatusText")

    def processes(self) -> list[int]:
        """Everything in the unit's cgroup."""
        group = self.show("ControlGroup")
        path = Path("/sys/fs/cgroup") / group.lstrip("/") / "cgroup.procs"
        try:
            return [int(line) for line in path.read_text().split()] if group else []
        except OSError:  # gone with its last process
            return []

    def client(self, *, unix: bool = False, key: str = KEY) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(UNIX_SOCKET)) if unix else None
        made = httpx.Client(
            base_url=URL,
            transport=transport,
            timeout=WAIT,
            headers={"authorization": f"Bearer {key}"},
        )
        self._clients.append(made)
        return made

    def records(self, event: str | None = None, *matches: str) -> list[dict[str, Any]]:
        """The program's journal entries since this test began."""
        matches = (f"EVENT={event}", *matches) if event else matches
        return journal("-u", NAME, "-t", "claude-proxy", self.since, *matches)

    def wait_for_record(self, event: str, *matches: str) -> dict[str, Any]:
        assert wait_until(lambda: self.records(event, *matches), WAIT), self.tail()
        return self.records(event, *matches)[-1]

    def wait_for_state(self, state: str, unit: str = NAME) -> None:
        assert wait_until(lambda: self.show("ActiveState", unit) == state, WAIT), self.tail()

    def wait_for_status(self, *parts: str) -> None:
        assert wait_until(lambda: all(part in self.status for part in parts), WAIT), self.status

    def tail(self) -> str:
        entries = journal("-u", NAME, self.since, "-n", "40")
        return "\n".join(str(entry["MESSAGE"]) for entry in entries)

    def remove(self) -> None:
        for client in self._clients:
            client.close()
        systemctl("stop", SOCKET, NAME, check=False)
        systemctl("reset-failed", check=False)
        assert wait_until(lambda: not self.processes()), self.tail()
        shutil.rmtree(self.units)
        shutil.rmtree(PROGRAM.parent)
        clear_home()
        systemctl("daemon-reload")


def clear_home() -> None:
    """Of what the program and its CLI have left there."""
    for path in (".claude", ".claude.json", ".local", ".cache", ".config"):
        entry = HOME / path
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)


def hidden_paths() -> list[str]:
    """What the program is made of, where the unit's own /tmp would cover it."""
    needed = {str(ROOT), sys.prefix, sys.base_prefix}
    return [path for path in sorted(needed) if path.startswith(HIDDEN)]


def chat(prompt: str, *, stream: bool = False) -> dict[str, Any]:
    """The body of a request."""
    return {"model": "sonnet", "stream": stream, "messages": [{"role": "user", "content": prompt}]}


def ask(client: httpx.Client, prompt: str) -> httpx.Response:
    return client.post("/v1/chat/completions", json=chat(prompt))


class Stream:
    """A streamed answer that is read in the background."""

    def __init__(self, client: httpx.Client, prompt: str) -> None:
        self.text = ""
        self.failure: Exception | None = None
        self._client = client
        self._prompt = prompt
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        body = chat(self._prompt, stream=True)
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
                for part in response.iter_text():
                    self.text += part
        except httpx.HTTPError as failure:
            self.failure = failure

    def finish(self, timeout: float = WAIT) -> str:
        """All of it, when it has ended."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), self.text
        if self.failure is not None:
            raise self.failure
        return self.text


def held(service: Service, simulator: Simulator, tag: str) -> Stream:
    """An answer of which three tokens have come; ``simulator.release(tag)`` lets the rest go."""
    stream = Stream(service.client(), f"{tag} [simulate tokens=9 hold={tag} hold_after=3]")
    simulator.wait(tag, "held")
    return stream


def answers_without_journald(service: Service, away: str, back: str) -> None:
    """``away`` and ``back`` are done to journald; more is logged meanwhile than any queue holds."""
    service.start(NAME)
    client = service.client()
    assert client.get("/v1/models").status_code == 200
    control(f"journald-{away}")
    try:
        for _ in range(600):
            assert client.get("/v1/responses/unknown").status_code == 404
    finally:
        control(f"journald-{back}")
    id_ = client.get("/v1/responses/once-more").headers["x-request-id"]
    service.wait_for_record("request.done", f"REQUEST_ID={id_}")
    assert service.show("NRestarts") == "0"
