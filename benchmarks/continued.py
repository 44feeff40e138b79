"""A conversation's next turn: a living process by hand, claude-proxy, and a replay of 200 turns.

    python benchmarks/continued.py [--turns 30] [--history 200]

Both living ways hold the same conversation and take turns at it, so that it is equally long for
both. A replay is timed to the first text too; what a first turn of no history takes is taken off,
since that is the model's time and the process's, not the replay's.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import closing
from typing import Any

import figures
import lab
from lab import Client, Daemon, Lab

DIRECTIVE = "[simulate tokens=20 delay_ms=5]"
TEXT_DELTA = b'"type":"text_delta"'
RESULT = b'"type":"result"'
WORDS = "word " * 40
Messages = list[dict[str, Any]]


class Bare:
    """One CLI process by hand, given what the daemon gives it in a next turn."""

    def __init__(self, laboratory: Lab) -> None:
        self._claude = lab.warm_claude(laboratory)
        self._claude.write(
            lab.control("1", "initialize", systemPrompt=[lab.SYSTEM]),
            lab.control("2", "set_model", model=lab.MODEL),
        )

    def turn(self, prompt: str) -> float:
        """Seconds to the first text delta."""
        start = time.perf_counter()
        settings = {"env": {"CLAUDE_CODE_EXTRA_BODY": "{}"}}
        self._claude.write(
            lab.control("s", "apply_flag_settings", settings=settings), lab.user(prompt)
        )
        seconds = self._claude.read_until(TEXT_DELTA) - start
        self._claude.read_until(RESULT)
        return seconds

    def close(self) -> None:
        self._claude.close()


class Conversation:
    """A client of the daemon that keeps its history."""

    def __init__(self, client: Client, messages: Messages) -> None:
        self._client = client
        self.messages = [{"role": "system", "content": lab.SYSTEM}, *messages]

    def turn(self, prompt: str) -> float:
        """Seconds to the first text."""
        self.messages.append({"role": "user", "content": prompt})
        body = {"model": lab.MODEL, "stream": True, "messages": self.messages}
        encoded = json.dumps(body).encode()
        start = time.perf_counter()
        seconds, said = 0.0, ""
        for line in self._client.post("/v1/chat/completions", encoded):
            if line.startswith(b"data: {"):
                text = "".join(
                    choice["delta"].get("content") or ""
                    for choice in json.loads(line[6:])["choices"]
                )
                if text and not said:
                    seconds = time.perf_counter() - start
                said += text
        if not said:
            raise lab.Trouble("the daemon sent no text")
        self.messages.append({"role": "assistant", "content": said})
        return seconds


def continued(laboratory: Lab, daemon: Daemon, turns: int) -> tuple[list[float], list[float]]:
    """Milliseconds of both ways; the first two turns do not count."""
    bare_times: list[float] = []
    proxy_times: list[float] = []
    with closing(Bare(laboratory)) as bare:
        conversation = Conversation(daemon.client(), [])
        for number in range(turns + 2):
            prompt = f"{WORDS}{lab.marker()} {DIRECTIVE}"
            ways = [(bare_times, bare.turn), (proxy_times, conversation.turn)]
            for times, turn in ways if number % 2 else reversed(ways):
                figures.settle()
                times.append(turn(prompt) * 1_000)
    return bare_times[2:], proxy_times[2:]


def history(turns: int) -> Messages:
    """Made up, so that no living process knows it."""
    mark = lab.marker()
    messages: Messages = []
    for number in range(turns):
        messages.append({"role": "user", "content": f"{mark} {number} {WORDS}"})
        messages.append({"role": "assistant", "content": f"Answer {number}: {WORDS}"})
    return messages


def replayed(daemon: Daemon, turns: int) -> float:
    """Seconds to the first text behind a history of so many turns, median of three."""
    times = []
    for _ in range(3):
        client = daemon.client()
        while client.get_json("/health")["sessions"]["spare"] < 1:
            time.sleep(0.05)
        figures.settle()
        times.append(Conversation(daemon.client(), history(turns)).turn(f"Go on. {DIRECTIVE}"))
    return figures.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=30, help="turns of the living ways (30)")
    parser.add_argument("--history", type=int, default=200, help="turns that are replayed (200)")
    options = parser.parse_args()
    figures.machine()
    with lab.laboratory() as laboratory, lab.daemon(laboratory, "--spares", "1") as daemon:
        bare, proxy = continued(laboratory, daemon, options.turns)
        fresh, whole = replayed(daemon, 0), replayed(daemon, options.history)
    rows = [
        (
            title,
            f"{figures.median(times):.1f}",
            f"{figures.percentile(times, 0.9):.1f}",
            f"{min(times):.1f}",
        )
        for title, times in (("living CLI by hand", bare), ("claude-proxy, continued", proxy))
    ]
    figures.table(("time to first text, ms", "median", "p90", "least"), rows)
    behind = figures.median(proxy) - figures.median(bare)
    replay = whole - fresh
    print(
        f"\nno history: {fresh * 1_000:.1f} ms; {options.history} turns: {whole * 1_000:.1f} ms\n"
    )
    figures.aim("continued behind by hand", f"{behind:.1f} ms", "<= 10 ms", met=behind <= 10)
    figures.aim(
        f"replay of {options.history} turns", f"{replay:.2f} s", "< 1.5 s", met=replay < 1.5
    )


if __name__ == "__main__":
    main()
