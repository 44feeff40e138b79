"""Time to the first text delta, in one run: upstream itself, two ways by hand, two of claude-proxy.

    python benchmarks/ttft.py [--requests 20]

Each round asks each way once, in turning order, on a machine that has come to rest. All speak to
the same simulator; both CLI ways and the daemons have the same environment. The warm process is
started like a daemon's spare, as soon as the one before it is used up: a CLI that has waited for
some seconds is slower than one that has just started, so all must have waited alike. That is also
why each dialect of claude-proxy has a daemon of its own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import closing

import figures
import lab
from lab import Daemon, Lab

from claude_proxy.claude.cli import ARGUMENTS

# Paced like a model, so that the first delta does not wait for a write that holds them all.
DIRECTIVE = "[simulate tokens=20 delay_ms=10]"
WAYS = {
    "upstream": "(a) simulator directly",
    "cold": "(b) cold claude --print",
    "warm": "(c) warm CLI by hand",
    "proxy": "(d) claude-proxy, Chat Completions",
    "responses": "(e) claude-proxy, Responses",
}
TEXT_DELTA = b'"type":"text_delta"'
RESULT = b'"type":"result"'
COLD_ARGUMENTS = tuple(
    argument
    for before, argument in zip(("", *ARGUMENTS), ARGUMENTS, strict=False)
    if "--input-format" not in (before, argument)
)


class Ways:
    """Each method asks once and returns the seconds to the first text delta."""

    def __init__(self, laboratory: Lab, chat: Daemon, responses: Daemon) -> None:
        self._lab = laboratory
        self._upstream = laboratory.upstream()
        self._chat = chat.client()
        self._responses = responses.client()
        self._example = self._example_body()
        self._spare = lab.warm_claude(laboratory)
        self.unsettled = 0
        self.patience = 10.0  # seconds for which a busy machine is waited for
        self.chunks: list[tuple[int, int]] = []  # sent by a daemon, sent by upstream

    def upstream(self) -> float:
        mark = lab.marker()
        body = self._example.replace(b"MARK", mark.encode())
        self._rest()
        start = time.perf_counter()
        response = self._upstream.post("/v1/messages?beta=true", body)
        while TEXT_DELTA not in response.readline():
            if response.isclosed():
                raise lab.Trouble("the simulator sent no text")
        seconds = time.perf_counter() - start
        response.read()
        return seconds

    def cold(self) -> float:
        prompt = f"{lab.marker()} {DIRECTIVE}"
        options = ("--system-prompt", lab.SYSTEM, "--model", lab.MODEL, prompt)
        self._rest()
        start = time.perf_counter()
        with lab.Claude(self._lab, (*COLD_ARGUMENTS, *options), with_input=False) as claude:
            seconds = claude.read_until(TEXT_DELTA) - start
            claude.wait()
        return seconds

    def warm(self) -> float:
        with self._spare as claude:
            self._rest()
            start = time.perf_counter()
            claude.write(
                lab.control("1", "initialize", systemPrompt=[lab.SYSTEM]),
                lab.control("2", "set_model", model=lab.MODEL),
                lab.control("3", "apply_flag_settings", settings={"env": {}}),
                lab.user(f"{lab.marker()} {DIRECTIVE}"),
            )
            seconds = claude.read_until(TEXT_DELTA) - start
            claude.read_until(RESULT)
        self._spare = lab.warm_claude(self._lab)
        return seconds

    def proxy(self) -> float:
        request = lab.completion_request
        return self._stream(self._chat, "/v1/chat/completions", request, has_content)

    def responses(self) -> float:
        """As a client asks that wants the response kept, which is what happens by default."""
        request = lab.response_request
        return self._stream(self._responses, "/v1/responses", request, is_text_delta)

    def close(self) -> None:
        self._spare.close()

    def _stream(
        self,
        daemon: lab.Client,
        path: str,
        to_body: Callable[[str], bytes],
        has_text: Callable[[bytes], bool],
    ) -> float:
        mark = lab.marker()
        body = to_body(f"{mark} {DIRECTIVE}")
        self._rest()
        start = time.perf_counter()
        response = daemon.post(path, body)
        seconds = 0.0
        chunks = 0
        for line in response:
            if line.startswith(b"data: {") and has_text(line[6:]):
                seconds = seconds or time.perf_counter() - start
                chunks += 1
        if not chunks:
            raise lab.Trouble("the daemon sent no text")
        self.chunks.append((chunks, self._deltas(mark)))
        return seconds

    def _rest(self) -> None:
        """Spares are ready and nothing else is going on."""
        daemons = (self._chat, self._responses)
        deadline = time.monotonic() + lab.START_LIMIT
        while not all(daemon.get_json("/health")["sessions"]["spare"] for daemon in daemons):
            if time.monotonic() > deadline:
                raise lab.Trouble("a daemon has no spare")
            time.sleep(0.05)
        self.unsettled += not figures.settle(self.patience)
        # All servers close a connection that was idle for 5 s.
        self._upstream.get_json("/simulator/streams")
        for daemon in daemons:
            daemon.get_json("/health")

    def _deltas(self, mark: str) -> int:
        found = self._upstream.get_json(f"/simulator/requests?contains={mark}")
        return sum(request["deltas"] for request in found)

    def _example_body(self) -> bytes:
        """What the CLI really sends, with MARK in the place of the marker."""
        mark = lab.marker()
        with lab.warm_claude(self._lab) as claude:
            claude.write(
                lab.control("1", "initialize", systemPrompt=[lab.SYSTEM]),
                lab.control("2", "set_model", model=lab.MODEL),
                lab.user(f"{mark} {DIRECTIVE}"),
            )
            claude.read_until(RESULT)
        sent = self._upstream.get_json(f"/simulator/requests?contains={mark}")
        if len(sent) != 1:
            raise lab.Trouble(f"the CLI asked the simulator {len(sent)} times for one prompt")
        return json.dumps(sent[0]["body"]).replace(mark, "MARK").encode()


def has_content(chunk: bytes) -> bool:
    return any(choice["delta"].get("content") for choice in json.loads(chunk)["choices"])


def is_text_delta(event: bytes) -> bool:
    return json.loads(event)["type"] == "response.output_text.delta"


def measure(ways: Ways, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each way, after one round that does not count."""
    ask: dict[str, Callable[[], float]] = {name: getattr(ways, name) for name in WAYS}
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for once in ask.values():
        once()
    ways.unsettled = 0
    names = list(WAYS)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(ask[name]() * 1_000)
    return times


def report(ways: Ways, times: dict[str, list[float]]) -> None:
    medians = {name: figures.median(values) for name, values in times.items()}
    rows = [
        (
            title,
            f"{medians[name]:.1f}",
            f"{figures.percentile(times[name], 0.9):.1f}",
            f"{min(times[name]):.1f}",
            f"{medians[name] / medians['proxy']:.2f}",
        )
        for name, title in WAYS.items()
    ]
    figures.table(("time to first text, ms", "median", "p90", "least", "x (d)"), rows)
    print()
    overhead = medians["proxy"] - medians["warm"]
    behind = medians["responses"] - medians["proxy"]
    rounds = [e - d for d, e in zip(times["proxy"], times["responses"], strict=True)]
    low, high = (figures.percentile(rounds, share) for share in (0.25, 0.75))
    faster = medians["cold"] / medians["proxy"]
    whole = sum(sent == due for sent, due in ways.chunks)
    figures.aim("(d) - (c)", f"{overhead:.1f} ms", "<= 10 ms", met=overhead <= 10)
    figures.aim(
        "(e) - (d)",
        f"{behind:.1f} ms, in the middle half of the rounds {low:.1f} to {high:.1f}",
        "0, or the middle half not all above it",
        met=low <= 0,
    )
    figures.aim("(b) / (d)", f"{faster:.1f}", ">= 6", met=faster >= 6)
    figures.aim(
        "as many chunks as upstream sent deltas",
        f"{whole} of {len(ways.chunks)} answers, {ways.chunks[-1][0]} chunks each",
        "all",
        met=whole == len(ways.chunks),
    )
    if ways.unsettled:
        print(f"\nnote: before {ways.unsettled} measurements the machine did not come to rest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=20, help="rounds (20)")
    parser.add_argument("--at-once", action="store_true", help="do not wait for a quiet machine")
    options = parser.parse_args()
    figures.machine()
    with (
        lab.laboratory() as laboratory,
        lab.daemon(laboratory, "--spares", "1") as chat,
        lab.daemon(laboratory, "--spares", "1") as responses,
        closing(Ways(laboratory, chat, responses)) as ways,
    ):
        if options.at_once:
            ways.patience = 0.0
        report(ways, measure(ways, options.requests))


if __name__ == "__main__":
    main()
