"""The first answer of a daemon that a connection wakes up, against a cold start of the CLI.

    python benchmarks/wakeup.py [--rounds 10]

Nothing runs when the client connects; the connection starts the daemon, as systemd's socket unit
does, and the request waits in the socket until then. Both times end at the first text delta.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time

import figures
import lab
from lab import Lab
from ttft import COLD_ARGUMENTS, DIRECTIVE, TEXT_DELTA, has_content

from claude_proxy.claude.process import die_with_parent

# systemd names the one process that it means by its id, which only that process knows.
ACTIVATE = 'exec 3<&"$0"; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
AIM = 1.5


def cold(laboratory: Lab) -> float:
    """Seconds from the start of ``claude --print`` to its first text."""
    prompt = f"{lab.marker()} {DIRECTIVE}"
    options = ("--system-prompt", lab.SYSTEM, "--model", lab.MODEL, prompt)
    start = time.perf_counter()
    with lab.Claude(laboratory, (*COLD_ARGUMENTS, *options), with_input=False) as claude:
        seconds = claude.read_until(TEXT_DELTA) - start
        claude.wait()
    return seconds


def woken(laboratory: Lab) -> float:
    """Seconds from the connection to the first text."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = lab.Client(listener.getsockname()[1], {"authorization": f"Bearer {lab.KEY}"})
        start = time.perf_counter()
        process = subprocess.Popen(
            ("sh", "-c", ACTIVATE, str(listener.fileno()), sys.executable, "-m", "claude_proxy"),
            env=laboratory.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(listener.fileno(),),
            process_group=0,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 - the benchmarks have no threads
        )
        try:
            body = lab.completion_request(f"{lab.marker()} {DIRECTIVE}")
            response = client.post("/v1/chat/completions", body)
            for line in response:
                if line.startswith(b"data: {") and has_content(line[6:]):
                    return time.perf_counter() - start
            raise lab.Trouble("the daemon sent no text")
        finally:
            client.close()
            lab.end(process)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    figures.machine()
    times: dict[str, list[float]] = {"cold": [], "woken": []}
    with lab.laboratory() as laboratory:
        for number in range(rounds + 1):
            for name, ask in (("cold", cold), ("woken", woken)):
                figures.settle()
                seconds = ask(laboratory)
                if number:  # the first round fills the caches
                    times[name].append(seconds * 1_000)
    rows = [
        (title, f"{figures.median(times[name]):.0f}", f"{min(times[name]):.0f}")
        for name, title in (("cold", "cold claude --print"), ("woken", "claude-proxy, woken up"))
    ]
    figures.table(("time to first text, ms", "median", "least"), rows)
    print()
    factor = figures.median(times["woken"]) / figures.median(times["cold"])
    figures.aim("woken / cold", f"{factor:.2f}", f"{AIM:g}", met=factor <= AIM)
    print(json.dumps({name: [round(each) for each in values] for name, values in times.items()}))


if __name__ == "__main__":
    main()
