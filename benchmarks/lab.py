"""What the benchmarks share: real processes in a clean home, their figures, a table.

Every process started here ends with the ``with`` block that it was started in, and by the kernel's
hand should the benchmark itself be killed.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from claude_proxy.claude.cli import ARGUMENTS, child_environment, find
from claude_proxy.claude.process import die_with_parent

KEY = "sk-benchmark"
UPSTREAM_KEY = "sk-simulated"
MODEL = "sonnet"
SYSTEM = "You are terse."
RETRIES = 2
START_LIMIT = 30.0  # seconds
TURN_LIMIT = 120.0
END_LIMIT = 10.0
# All else would lead the CLI or the daemon elsewhere than into the clean home.
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "NIX_LD", "NIX_LD_LIBRARY_PATH")

Json = dict[str, Any]


class Trouble(Exception):
    """The benchmark cannot go on; says why."""


@dataclass(frozen=True, slots=True)
class Lab:
    """``environment`` is that of the daemon, ``child_environment`` the one its CLIs get of it."""

    home: Path
    environment: dict[str, str]
    upstream_port: int
    upstream_pid: int

    @property
    def child_environment(self) -> dict[str, str]:
        return child_environment(self.environment, RETRIES)

    @property
    def empty_directory(self) -> Path:
        directory = self.home / "empty"
        directory.mkdir(exist_ok=True)
        return directory

    def upstream(self) -> Client:
        return Client(self.upstream_port, {"x-api-key": UPSTREAM_KEY})


@dataclass(frozen=True, slots=True)
class Daemon:
    pid: int
    port: int
    started: float  # time.perf_counter() just before its exec
    answered: float  # at its first good answer
    log: Path

    def client(self) -> Client:
        return Client(self.port, {"authorization": f"Bearer {KEY}"})


class Client:
    """One kept-alive HTTP connection, with as little of its own as the standard library allows."""

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TURN_LIMIT)
        self._headers = {"content-type": "application/json", **headers}

    def post(self, path: str, body: bytes = b"") -> http.client.HTTPResponse:
        """Raises Trouble unless the status is a good one."""
        return self._ask("POST", path, body)

    def get_json(self, path: str) -> Any:
        """Connects anew where the server has closed the connection meanwhile."""
        try:
            response = self._ask("GET", path, None, accept="application/json")
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self._connection.close()
            response = self._ask("GET", path, None, accept="application/json")
        return json.loads(response.read())

    def close(self) -> None:
        self._connection.close()

    def _ask(
        self, method: str, path: str, body: bytes | None, **headers: str
    ) -> http.client.HTTPResponse:
        self._connection.request(method, path, body, {**self._headers, **headers})
        response = self._connection.getresponse()
        if response.status >= 400:
            raise Trouble(f"{method} {path}: {response.status} {response.read()[:500]!r}")
        return response


@contextmanager
def laboratory() -> Iterator[Lab]:
    """A private home and a simulator of the upstream that all processes of the run share."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, on_alarm)
    with tempfile.TemporaryDirectory(prefix="claude-proxy-benchmark-") as name:
        home = Path(name)
        environment = {key: os.environ[key] for key in INHERITED if key in os.environ} | {
            "HOME": name,
            "TMPDIR": name,
            "CLAUDE_CONFIG_DIR": str(home / "claude"),
            **{f"XDG_{kind}_HOME": str(home / kind) for kind in ("STATE", "CONFIG", "CACHE")},
            "XDG_DATA_HOME": str(home / "DATA"),
            "ANTHROPIC_API_KEY": UPSTREAM_KEY,
            "PROXY_API_KEY": KEY,
        }
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            argv = ("-m", "claude_proxy.simulator", "--fd", str(listener.fileno()))
            with (
                (home / "simulator.log").open("wb") as log,
                running((sys.executable, *argv), environment, log, listener) as process,
            ):
                listener.close()  # else a simulator that has died would look like a silent one
                environment["ANTHROPIC_BASE_URL"] = f"http://127.0.0.1:{port}"
                try:
                    yield Lab(home, environment, port, process.pid)
                except OSError as error:
                    log_text = (home / "simulator.log").read_text()[-2_000:]
                    state = f"{error!r}; simulator: exit code {process.poll()}, log {log_text!r}"
                    raise Trouble(state) from error


def on_alarm(*_: object) -> NoReturn:
    raise Trouble(f"a CLI took longer than {TURN_LIMIT:g} s")


@contextmanager
def time_limit() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, TURN_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def running(
    argv: Sequence[str], environment: Mapping[str, str], log: Any, listener: socket.socket | None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process without input that writes to ``log``, in a group of its own."""
    process = subprocess.Popen(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=() if listener is None else (listener.fileno(),),
        process_group=0,
        preexec_fn=die_with_parent(),  # noqa: PLW1509 - the benchmarks have no threads
    )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL for what is left of the group."""
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_LIMIT)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def daemon(lab: Lab, *flags: str) -> Iterator[Daemon]:
    """claude-proxy as a user starts it, answering /health; its log is shown if it does not."""
    port = free_port()
    path = lab.home / f"daemon-{port}.log"
    argv = (sys.executable, "-m", "claude_proxy", "--port", str(port), *flags)
    started = time.perf_counter()
    with path.open("wb") as log, running(argv, lab.environment, log, None) as process:
        while not answers(port):
            if process.poll() is not None or time.perf_counter() - started > START_LIMIT:
                raise Trouble(f"the daemon does not start: {path.read_text()[-2_000:]}")
            time.sleep(0.001)
        yield Daemon(process.pid, port, started, time.perf_counter(), path)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(port: int) -> bool:
    """Whether GET /health succeeds right now."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            return connection.recv(4_096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


class Claude:
    """A CLI process driven by hand."""

    def __init__(self, lab: Lab, argv: Sequence[str], *, with_input: bool) -> None:
        self._process = subprocess.Popen(
            (str(claude_path()), *argv),
            env=lab.child_environment,
            cwd=lab.empty_directory,
            stdin=subprocess.PIPE if with_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        end(self._process)

    def write(self, *lines: Json) -> None:
        """All lines in one write."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        self._process.stdin.flush()

    def read_until(self, needle: bytes) -> float:
        """time.perf_counter() when a line with ``needle`` has come. Raises Trouble at the end."""
        assert self._process.stdout is not None
        with time_limit():
            for line in self._process.stdout:
                if needle in line:
                    return time.perf_counter()
        raise Trouble(f"the CLI ended before it said {needle!r}")

    def wait(self) -> None:
        """Until it has ended by itself."""
        assert self._process.stdout is not None
        with time_limit():
            self._process.stdout.read()
            self._process.wait()


def claude_path() -> Path:
    return find(None, os.environ)


def warm_claude(lab: Lab) -> Claude:
    """Started as the daemon starts a spare, and ready."""
    claude = Claude(lab, ARGUMENTS, with_input=True)
    claude.write(control("ready", "list_models"))
    claude.read_until(b'"control_response"')
    return claude


def control(name: str, subtype: str, **fields: Any) -> Json:
    request = {"subtype": subtype, **fields}
    return {"type": "control_request", "request_id": name, "request": request}


def user(prompt: str) -> Json:
    return {
        "type": "user",
        "session_id": "",
        "parent_tool_use_id": None,
        "client_composed": True,
        "message": {"role": "user", "content": [{"type": "text", "text": prompt}]},
    }


def completion_request(prompt: str) -> bytes:
    """A streaming request for Chat Completions."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
    return json.dumps({"model": MODEL, "stream": True, "messages": messages}).encode()


def response_request(prompt: str) -> bytes:
    """The same for Responses."""
    body = {"model": MODEL, "stream": True, "instructions": SYSTEM, "input": prompt}
    return json.dumps(body).encode()


def marker() -> str:
    """A word that no other prompt holds."""
    return f"marker-{secrets.token_hex(8)}"
