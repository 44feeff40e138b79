"""The cost of passing a delta on: throughput and processor time of the daemon and of its CLIs.

    python benchmarks/relay.py [--deltas 5000] [--streams 1,8,32] [--repeat 3]

All streams of a round begin, stop at a hold before their first delta, and are released together.
A second hold behind the last delta keeps the CLIs alive and idle until the processor times are
read. So neither a start nor an end of a process is in the figures, and this client, which has
nothing to do but to count bytes, is no part of them either.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

import figures
import lab
from lab import Daemon, Lab

CHUNK = b'"delta":{"content":"w'
BEGUN = b'"role":"assistant"'
DONE = b"data: [DONE]\n\n"
READ_SIZE = 1 << 18
LIMIT = 110.0  # seconds; a hold of the simulator ends by itself after 120


class Stream:
    """One answer on a plain socket: the bytes as they came, and how many chunks are in them."""

    def __init__(self, daemon: Daemon, prompt: str) -> None:
        body = lab.completion_request(prompt)
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            f"authorization: Bearer {lab.KEY}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self.socket = socket.create_connection(("127.0.0.1", daemon.port), timeout=LIMIT)
        self.socket.sendall(head.encode() + body)
        self.received: list[bytes] = []
        self.chunks = 0
        self.ended = False
        self._tail = b""

    def read(self) -> None:
        data = self.socket.recv(READ_SIZE)
        self.ended = not data
        self.received.append(data)
        # A chunk may be torn between two reads, but is never counted twice.
        data = self._tail + data
        self.chunks += data.count(CHUNK)
        self._tail = data[-len(CHUNK) + 1 :]

    @property
    def begun(self) -> bool:
        return BEGUN in b"".join(self.received)

    def words(self) -> list[str]:
        """The content of each chunk."""
        lines = b"".join(self.received).split(b"\n")
        chunks = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
        return [delta["content"] for delta in deltas if delta.get("content")]


@dataclass(frozen=True, slots=True)
class Round:
    """``exact``: streams that brought exactly their deltas, in order."""

    streams: int
    exact: int
    deltas: int
    seconds: float
    daemon_cpu: float
    claude_cpu: float
    upstream_cpu: float
    settled: bool

    def per_100k(self, seconds: float) -> str:
        return f"{seconds / self.deltas * 100_000:.2f}"

    @property
    def row(self) -> Sequence[str]:
        return (
            str(self.streams),
            f"{self.deltas / self.seconds:,.0f}",
            self.per_100k(self.daemon_cpu),
            self.per_100k(self.claude_cpu),
            self.per_100k(self.upstream_cpu),
            f"{ratio(self):.3f}",
        )


def ratio(done: Round) -> float:
    return done.daemon_cpu / done.claude_cpu


def read_until_all(streams: Sequence[Stream], what: str) -> None:
    """Reads until each stream's ``what`` is true. Raises Trouble when that takes too long."""
    waiting = {stream for stream in streams if not getattr(stream, what)}
    deadline = time.monotonic() + LIMIT
    with selectors.DefaultSelector() as selector:
        for stream in waiting:
            selector.register(stream.socket, selectors.EVENT_READ, stream)
        while waiting:
            if time.monotonic() > deadline:
                raise lab.Trouble(f"{len(waiting)} streams are not {what} after {LIMIT:g} s")
            for key, _ in selector.select(1.0):
                ready: Stream = key.data
                ready.read()
                if getattr(ready, what):
                    waiting.discard(ready)
                    selector.unregister(ready.socket)
                elif ready.ended:
                    raise lab.Trouble(f"a stream ended early: {ready.received[0][:500]!r}")


def read_deltas(streams: Sequence[Stream], deltas: int) -> None:
    """Reads until every stream has brought that many."""
    open_streams = len(streams)
    deadline = time.monotonic() + LIMIT
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream.socket, selectors.EVENT_READ, stream)
        while open_streams:
            if time.monotonic() > deadline:
                raise lab.Trouble(f"{open_streams} streams are not whole after {LIMIT:g} s")
            for key, _ in selector.select(1.0):
                ready: Stream = key.data
                ready.read()
                if ready.chunks >= deltas or ready.ended:
                    open_streams -= 1
                    selector.unregister(ready.socket)


def measure(laboratory: Lab, daemon: Daemon, count: int, deltas: int) -> Round:
    upstream = laboratory.upstream()
    begin, finish = lab.marker(), lab.marker()
    directive = f"[simulate tokens={deltas} hold={begin} hold_after=0 hold={finish}"
    prompt = f"{directive} hold_after={deltas}]"
    streams = [Stream(daemon, prompt) for _ in range(count)]
    read_until_all(streams, "begun")
    settled = figures.settle()
    claudes = figures.children(daemon.pid)
    if len(claudes) != count:
        raise lab.Trouble(f"{len(claudes)} CLI processes for {count} streams")

    def processor_times() -> tuple[float, float, float]:
        return (
            figures.cpu_seconds(daemon.pid),
            sum(map(figures.cpu_seconds, claudes)),
            figures.cpu_seconds(laboratory.upstream_pid),
        )

    before = processor_times()
    start = time.perf_counter()
    upstream.post(f"/simulator/release/{begin}").read()
    read_deltas(streams, deltas)
    seconds = time.perf_counter() - start
    after = processor_times()
    own, claude, simulator = (new - old for new, old in zip(after, before, strict=True))
    upstream.get_json("/simulator/streams")  # connects anew if need be
    upstream.post(f"/simulator/release/{finish}").read()
    read_until_all(streams, "ended")
    expected = [f"w{number}" for number in range(deltas)]
    exact = 0
    for stream in streams:
        stream.socket.close()
        whole = b"".join(stream.received)
        words = [word.rstrip() for word in stream.words()]
        exact += DONE in whole and words == expected
    while figures.children(daemon.pid):
        time.sleep(0.05)
    return Round(count, exact, count * deltas, seconds, own, claude, simulator, settled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--deltas",
        type=int,
        default=5_000,
        help="deltas of each stream (5000); with fewer than 4 streams more",
    )
    parser.add_argument("--repeat", type=int, default=3, help="rounds of each; the median (3)")
    parser.add_argument("--streams", default="1,8,32", help="parallel streams (1,8,32)")
    options = parser.parse_args()
    counts = [int(count) for count in options.streams.split(",")]
    figures.machine()
    flags = ("--spares", "0", "--keep-alive", "0", "--max-concurrency", str(max(counts)))
    with lab.laboratory() as laboratory, lab.daemon(laboratory, *flags) as daemon:
        # The processor time of few deltas would be too short to mean much.
        lengths = [(count, max(options.deltas, 4 * options.deltas // count)) for count in counts]
        every = [
            [measure(laboratory, daemon, count, length) for _ in range(options.repeat)]
            for count, length in lengths
        ]
    rounds = [sorted(tries, key=ratio)[len(tries) // 2] for tries in every]
    head = ("streams", "deltas/s", "daemon", "CLIs", "simulator", "daemon/CLIs")
    figures.table(head, [done.row for done in rounds])
    print("daemon, CLIs, simulator: CPU seconds per 100,000 deltas\n")
    for done in rounds:
        what = f"daemon/CLIs with {done.streams} streams"
        figures.aim(what, f"{ratio(done):.3f}", "< 0.333", met=ratio(done) < 1 / 3)
    measured = [done for tries in every for done in tries]
    exact, streams = sum(done.exact for done in measured), sum(done.streams for done in measured)
    figures.aim("exactly its deltas", f"{exact} of {streams} streams", "all", met=exact == streams)
    if not all(done.settled for done in measured):
        print("\nnote: the machine did not come to rest before every round")


if __name__ == "__main__":
    main()
