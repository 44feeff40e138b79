"""What the integration tests are made of: a simulator, a daemon, and what runs below it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import httpx

KEY = "test-key-d6c7f0"
MARKER = "PROXY_LAB"
WAIT = 60.0
# One pixel, and the smallest thing that begins like a PDF; base64.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9Q"
    "DwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PDF = "JVBERi0xLjQK"


class LogReader:
    """Every line that a process writes to a pipe, and waiting for one without sleeping."""

    def __init__(self, stream) -> None:
        self.lines: list[str] = []
        self._news: queue.Queue[str | None] = queue.Queue()
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream:
            for line in self._stream:
                self.lines.append(line.rstrip("\n"))
                self._news.put(line)
        self._news.put(None)

    def records(self, event: str) -> list[dict[str, Any]]:
        parsed = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [record for record in parsed if record.get("event") == event]

    def wait_for(self, event: str, timeout: float = WAIT, **fields: Any) -> dict[str, Any]:
        """The first record of that event with those fields, past or to come."""
        deadline = time.monotonic() + timeout
        while True:
            for record in self.records(event):
                if all(record.get(name) == value for name, value in fields.items()):
                    return record
            try:
                if self._news.get(timeout=max(0, deadline - time.monotonic())) is None:
                    break
            except queue.Empty:
                break
        shown = "\n".join(self.lines[-20:])
        raise AssertionError(f"no record {event} {fields} in the log:\n{shown}")

    def finish(self) -> None:
        self._thread.join(WAIT)


class Simulator:
    """The simulator of Anthropic's API as a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "claude_proxy.simulator", "--until-stdin-closes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().split()[-1]
        self.client = httpx.Client(base_url=self.url, timeout=WAIT)

    def requests(self, contains: str) -> list[dict[str, Any]]:
        return self.client.get("/simulator/requests", params={"contains": contains}).json()

    def wait(self, contains: str, outcome: str = "completed") -> dict[str, Any]:
        answer = self.client.get(
            "/simulator/wait", params={"contains": contains, "outcome": outcome, "timeout": 30}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def release(self, name: str) -> None:
        self.client.post(f"/simulator/release/{name}").raise_for_status()

    def close(self) -> None:
        self.client.close()
        self.process.stdin.close()
        self.process.wait(WAIT)
        self.process.stdout.close()


class Daemon:
    """claude-proxy as a process of its own, with a home of its own."""

    def __init__(
        self,
        *flags: str,
        upstream: str | None = None,
        env: dict[str, str | None] | None = None,
        through: tuple[str, ...] = (),
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        """``through``: a command that becomes the daemon. What ``env`` has as None is not in the
        environment. ``pass_fds`` are open in it.
        """
        self.home = Path(tempfile.mkdtemp(prefix="proxy-lab-"))
        self.mark = uuid.uuid4().hex
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PROXY_API_KEY": KEY,
            "ANTHROPIC_API_KEY": "sk-simulated",
            MARKER: self.mark,
            "TMPDIR": str(self.home),
            "PYTHONWARNINGS": "error",
            # Else the CLI's runtime collects garbage when it idles, which is a third of its work.
            "BUN_GC_TIMER_DISABLE": "1",
        }
        if upstream is not None:
            environment["ANTHROPIC_BASE_URL"] = upstream
        given = environment | (env or {})
        self.process = subprocess.Popen(
            [
                *(*through, sys.executable, "-m", "claude_proxy"),
                *("--port", "0", "--log-level", "debug", *flags),
            ],
            env={name: value for name, value in given.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )
        self.log = LogReader(self._log_stream())
        self.url = self.log.wait_for("daemon.listening")["address"]
        self.client = httpx.Client(
            base_url=self.url, timeout=WAIT, headers={"authorization": f"Bearer {KEY}"}
        )

    def _log_stream(self) -> Any:
        """Lines, until it ends with the daemon."""
        return self.process.stderr

    def chat(self, content: Any, **fields: Any) -> httpx.Response:
        messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
        body = {"model": "sonnet", "messages": messages, **fields}
        return self.client.post("/v1/chat/completions", json=body)

    def respond(self, input_: Any, **fields: Any) -> httpx.Response:
        body = {"model": "sonnet", "input": input_, **fields}
        return self.client.post("/v1/responses", json=body)

    def message(self, content: Any, **fields: Any) -> httpx.Response:
        messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
        body = {"model": "sonnet", "max_tokens": 1_000, "messages": messages, **fields}
        return self.client.post("/v1/messages", json=body)

    def children(self) -> dict[int, str]:
        """Every living process below this daemon, wherever it has gone, by its environment."""
        found = {}
        mark = f"{MARKER}={self.mark}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.process.pid:
                continue
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and mark in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
        return found

    def turns(self) -> dict[int, str]:
        """The CLI processes that answer or wait to; not the short ones that are asked for facts."""
        return {pid: line for pid, line in self.children().items() if "--print" in line}

    def kill_turns(self) -> None:
        """As if each of those processes had crashed."""
        for pid in self.turns():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT)

    def close(self) -> None:
        """Ends it and shows that nothing is left of it."""
        self.client.close()
        if self.process.poll() is None:
            assert self.terminate() == 0
        self.log.finish()
        assert wait_until(lambda: not self.children()), self.children()
        assert not list(self.home.glob("claude-proxy-*")), "a working directory is left"
        shutil.rmtree(self.home)


def wait_until(condition, timeout: float = 10.0) -> bool:
    """Polls what the kernel alone knows (processes); everything else is waited for by events."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.01)
    return True


def turns_upstream(body: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The conversation that a request to the API holds: roles and blocks, alternating.

    Left out are the CLI's own notes (role ``system``) and cache marks, which are no content.
    """
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for message in body["messages"]:
        if message["role"] == "system":
            continue
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        bare = [{k: v for k, v in block.items() if k != "cache_control"} for block in blocks]
        if turns and turns[-1][0] == message["role"]:
            turns[-1][1].extend(bare)
        else:
            turns.append((message["role"], bare))
    return turns


def system_upstream(body: dict[str, Any]) -> list[str]:
    """The system prompt without the two lines that the CLI puts before everybody's."""
    return [block["text"] for block in body["system"][2:]]


def sse(text: str) -> list[Any]:
    """The data of each SSE frame; ``[DONE]`` stays a string."""
    frames = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [frame if frame == "[DONE]" else json.loads(frame) for frame in frames]


def text_block(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def by_place(turns: list[tuple[str, list[dict[str, Any]]]]) -> list[tuple[str, list[Any]]]:
    """Turns whose tool ids are the calls' places in the conversation.

    A living process keeps the ids that the API gave, a replay has those that the client sent.
    """
    places: dict[str, int] = {}

    def placed(block: dict[str, Any]) -> dict[str, Any]:
        if block["type"] == "tool_use":
            return {**block, "id": places.setdefault(block["id"], len(places))}
        if block["type"] == "tool_result":
            return {**block, "tool_use_id": places[block["tool_use_id"]]}
        return block

    return [(role, [placed(block) for block in blocks]) for role, blocks in turns]


def process_of(daemon: Daemon, answer: httpx.Response) -> str:
    """Where the process of that answer came from, as the log says: continued, spare, started."""
    done = daemon.log.wait_for("request.done", request_id=answer.headers["x-request-id"])
    return done["process"]


def function(name: str, parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A tool as Chat Completions has it."""
    given = {} if parameters is None else {"parameters": parameters}
    return {"type": "function", "function": {"name": name, **given, **more}}
