"""Memory of the daemon at rest, and how long it takes until it answers.

    python benchmarks/idle.py [--starts 10]

Its CLI processes are not counted. Started with a warm page cache, a private home and no --demo.
"""

from __future__ import annotations

import argparse
import time

import figures
import lab
from lab import Lab


def start_seconds(laboratory: Lab) -> float:
    """From exec to the first good answer of GET /health."""
    figures.settle()
    with lab.daemon(laboratory, "--spares", "0") as daemon:
        return daemon.answered - daemon.started


def resting_memory(laboratory: Lab) -> dict[str, float]:
    """Of the daemon alone, a while after one streamed answer."""
    with lab.daemon(laboratory) as daemon:
        client = daemon.client()
        body = lab.completion_request(f"{lab.marker()} [simulate tokens=100]")
        answer = client.post("/v1/chat/completions", body).read()
        if b"[DONE]" not in answer:
            raise lab.Trouble(f"no whole answer: {answer[:500]!r}")
        time.sleep(1.0)
        figures.settle()
        return figures.memory(daemon.pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--starts", type=int, default=10, help="how often it is started (10)")
    starts = parser.parse_args().starts
    figures.machine()
    with lab.laboratory() as laboratory:
        start_seconds(laboratory)  # fills the page cache
        times = [start_seconds(laboratory) for _ in range(starts)]
        memory = resting_memory(laboratory)
    median = figures.median(times)
    figures.table(
        ("daemon alone", "figure"),
        (
            ("start to first /health, median", f"{median:.3f} s"),
            ("start to first /health, slowest", f"{max(times):.3f} s"),
            ("RSS after one answer", f"{memory['Rss']:.1f} MB"),
            ("PSS after one answer", f"{memory['Pss']:.1f} MB"),
        ),
    )
    print()
    figures.aim("start", f"{median:.3f} s", "< 0.5 s", met=median < 0.5)
    figures.aim("memory", f"{memory['Rss']:.1f} MB RSS", "< 45 MB", met=memory["Rss"] < 45)


if __name__ == "__main__":
    main()
