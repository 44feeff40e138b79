"""What must hold around every fault: one error each, and nothing else that is touched by it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.lab import WAIT, Daemon, sse, wait_until

FAKES = Path(__file__).parent / "fakes"
FAKE = str(FAKES / "claude")
SITE = {
    "PYTHONPATH": str(FAKES / "site"),
    # The stand-in's Python, without what a version manager may put before it.
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}
# Nothing is kept alive or ready, so that after a request all is as it was before it.
BARE = ("--spares", "0", "--keep-alive", "0")
WAYS = [(ask, stream) for ask in ("chat", "respond") for stream in (False, True)]
SETTLED = 15.0
REQUEST = "RequestResponseCycle.run_asgi"


@dataclass(frozen=True)
class Inventory:
    """What a daemon has, as the kernel and itself tell it."""

    descriptors: tuple[str, ...]
    tasks: tuple[str, ...]
    processes: int
    running: int
    queued: int

    @classmethod
    def of(cls, daemon: Daemon) -> Inventory:
        told = health(daemon)
        return cls(
            descriptors(daemon),
            tasks(daemon),
            len(daemon.turns()),
            told["sessions"]["running"],
            told["queue"],
        )

    def differences(self, now: Inventory) -> dict[str, Any]:
        before, after = asdict(self), asdict(now)
        return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


def health(daemon: Daemon) -> dict[str, Any]:
    return daemon.client.get("/health", headers={"accept": "application/json"}).json()


def descriptors(daemon: Daemon) -> tuple[str, ...]:
    """By kind, without connections, which come and go with those who look."""
    known = {f"socket:[{inode}]" for inode in connections(daemon)}
    kinds = Counter[str]()
    for link in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kind = str(link.readlink()).removesuffix(" (deleted)")
            if kind not in known:
                kinds[kind if kind.startswith("/") else kind.partition(":[")[0]] += 1
    return tuple(f"{number} {kind}" for kind, number in sorted(kinds.items()))


def connections(daemon: Daemon) -> set[str]:
    """The inodes of those to its port; of one that it has closed, 0."""
    port = f":{httpx.URL(daemon.url).port:04X}"
    listening = "0A"
    lines = Path(f"/proc/{daemon.process.pid}/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return {each[9] for each in fields if each[1].endswith(port) and each[3] != listening}


def tasks(daemon: Daemon) -> tuple[str, ...]:
    """Those that live."""
    seen = len(daemon.log.records("lab.tasks"))
    os.kill(daemon.process.pid, signal.SIGUSR1)
    assert wait_until(lambda: len(daemon.log.records("lab.tasks")) > seen)
    return tuple(daemon.log.records("lab.tasks")[-1]["names"])


class Neighbour:
    """A stream that has begun before a fault and has to end well after it."""

    def __init__(self, daemon: Daemon, prompt: str, model: str = "sonnet") -> None:
        messages = [{"role": "user", "content": prompt}]
        body = {"model": model, "messages": messages, "stream": True}
        request = daemon.client.build_request("POST", "/v1/chat/completions", json=body)
        self._answer = daemon.client.send(request, stream=True)
        self._lines = self._answer.iter_lines()
        self._frames: list[Any] = []
        while not self._text():
            self._read()

    def finish(self) -> str:
        while "[DONE]" not in self._frames:
            self._read()
        assert self._frames[-2]["choices"][0]["finish_reason"] == "stop"
        return self._text()

    def close(self) -> None:
        self._answer.close()

    def _read(self) -> None:
        frames = sse(next(self._lines))
        assert not any("error" in frame for frame in frames), frames
        self._frames += frames

    def _text(self) -> str:
        choices = [frame["choices"][0] for frame in self._frames if frame != "[DONE]"]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


@contextlib.contextmanager
def beside(daemon: Daemon, place: Path) -> Generator[None, None, None]:
    """An answer of the stand-in's that flows before, in and after the block."""
    gate = place / uuid.uuid4().hex
    with contextlib.closing(Neighbour(daemon, f"until={gate}")) as neighbour:
        try:
            yield
        finally:
            gate.touch()
        assert neighbour.finish() == "one two"


@contextlib.contextmanager
def survived(daemon: Daemon) -> Generator[None, None, None]:
    """Afterwards all is as before: descriptors, tasks, processes, slots; and no line is a crash."""
    assert wait_until(lambda: REQUEST not in tasks(daemon), SETTLED)
    before = Inventory.of(daemon)
    lines = len(daemon.log.lines)
    yield
    different: dict[str, Any] = {}

    def is_as_before() -> bool:
        nonlocal different
        different = before.differences(Inventory.of(daemon))
        return not different

    assert wait_until(is_as_before, SETTLED), different
    strange = [line for line in daemon.log.lines[lines:] if is_strange(line)]
    assert not strange, "\n".join(strange)


def is_strange(line: str) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return True
    return "exception" in record or record["event"] in ("task.failed", "request.crashed")


def asked(daemon: Daemon, prompt: str, ask: str, *, stream: bool) -> httpx.Response:
    return getattr(daemon, ask)(prompt, stream=stream)


def asked_in_all_ways(daemon: Daemon, prompt: str) -> Iterator[tuple[str, bool, httpx.Response]]:
    """At the same time, of both dialects, as a stream and not."""
    with ThreadPoolExecutor(len(WAYS)) as pool:
        answers = [pool.submit(asked, daemon, prompt, ask, stream=stream) for ask, stream in WAYS]
        for (ask, stream), answer in zip(WAYS, answers, strict=True):
            yield ask, stream, answer.result(WAIT)


def error_of(daemon: Daemon, answer: httpx.Response, ask: str) -> dict[str, Any]:
    """The one error, in its dialect and in the log. ``in_mid_stream`` tells where it came."""
    in_mid_stream = answer.status_code == 200
    if not in_mid_stream:
        body = answer.json()
        assert set(body) == {"error"}
        error = body["error"]
    else:
        error = last_words(sse(answer.text), ask)
    assert {"message", "type", "param", "code"} <= set(error), error
    assert error["message"]
    done = daemon.log.wait_for("request.done", request_id=answer.headers["x-request-id"])
    assert done["error"] == (error["code"] or error["type"])
    assert done["status"] == answer.status_code
    return error | {"in_mid_stream": in_mid_stream}


def last_words(frames: list[Any], ask: str) -> dict[str, Any]:
    if ask == "chat":
        *before, last = frames
        assert set(last) == {"error"}
        assert not any(frame == "[DONE]" or "error" in frame for frame in before)
        return last["error"]
    *before, error, failed = frames
    assert (error["type"], failed["type"]) == ("error", "response.failed")
    kinds = [frame["type"] for frame in before]
    assert not {"error", "response.completed", "response.failed"} & set(kinds)
    assert failed["response"]["error"]["message"] == error["message"]
    return error["error"]


def text_of(answer: httpx.Response, ask: str, *, stream: bool) -> str:
    assert answer.status_code == 200, answer.text
    if ask == "respond":
        body = sse(answer.text)[-1]["response"] if stream else answer.json()
        assert body["status"] == "completed"
        (message,) = body["output"]
        return message["content"][0]["text"]
    if not stream:
        return answer.json()["choices"][0]["message"]["content"]
    *frames, done = sse(answer.text)
    assert done == "[DONE]"
    return "".join(frame["choices"][0]["delta"].get("content") or "" for frame in frames)


def is_well(daemon: Daemon, prompt: str = "fine") -> None:
    """The next request is served."""
    assert daemon.chat(prompt).json()["choices"][0]["message"]["content"] == "fine"
