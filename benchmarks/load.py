"""Many clients for few slots: is everybody answered, in turn and fairly, and what does it cost.

    python benchmarks/load.py [--minutes 3] [--clients 200] [--slots 4] [--keys 4] [--fake]

Each client asks for a short stream, takes it whole and asks again; sent away with 429 or 503, it
comes back after the ``retry-after``. With several keys (where the daemon knows --api-keys-file)
their clients are as 4 to 3 to 2 to 1, so that without fairness the first would get most.

An answer counts as overtaken by those of the same key that were asked for later and began earlier;
up to 3 times the slots are let go, since a CLI may start slowly while the other slots go on.
Exit code 1 when an aim is missed that is no timing.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import threading
import time
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Self

import census
import figures
import lab
import wire
from census import Census
from lab import Daemon, Lab

PROMPT = "[simulate tokens=20 delay_ms=20]"
FAKE = Path(__file__).parents[1] / "tests" / "fakes" / "claude"
HEALTH_INTERVAL, CENSUS_INTERVAL = 0.05, 2.0  # seconds
FAIR, LONGEST_STALL = 1.5, 0.25


@dataclass(slots=True)
class Load:
    """``answers``: by key, when each was asked for and how much later it began."""

    daemon: Daemon
    until: float
    fake: bool
    answers: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    async def client(self, key: str) -> None:
        while (asked := time.perf_counter()) < self.until:
            prompt = f"{lab.marker()} {'fine' if self.fake else PROMPT}"
            body = {
                "model": lab.MODEL,
                "stream": True,
                "messages": [{"role": "user", "content": prompt}],
            }
            port = self.daemon.port
            answer = await wire.ask(port, "POST", "/v1/chat/completions", body, key=key)
            if answer.status == 200 and answer.body.endswith(b"data: [DONE]\n\n"):
                self.answers.setdefault(key, []).append((asked, answer.begun))
                self.seconds.append(answer.seconds)
            elif answer.may_retry:
                self.refused[answer.status] += 1
                pause = float(answer.headers["retry-after"])
                await asyncio.sleep(max(0.0, min(pause, self.until - time.perf_counter())))
            else:
                self.wrong[f"{answer.status}: {answer.body[-200:]!r}"] += 1

    async def run(self, keys: Sequence[str]) -> None:
        """One client for each of ``keys``."""
        await asyncio.gather(*(self.client(key) for key in keys))


class Watch:
    """Beside the load, in threads of its own: the daemon's answers to /health, and censuses.

    ``late``: how much too late this thread itself was woken up, which the daemon cannot help.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.stalls: list[float] = []
        self.late: list[float] = []
        self.censuses: list[Census] = []
        self._daemon = daemon
        self._over = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._poll, self._count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _poll(self) -> None:
        while True:
            due = time.perf_counter() + HEALTH_INTERVAL
            if self._over.wait(HEALTH_INTERVAL):
                return
            start = time.perf_counter()
            self.late.append(start - due)
            if not lab.answers(self._daemon.port):
                self.stalls.append(float("inf"))
                return
            self.stalls.append(time.perf_counter() - start)

    def _count(self) -> None:
        while not self._over.wait(CENSUS_INTERVAL):
            with suppress(FileNotFoundError):  # the daemon has ended, as the answers will show
                self.censuses.append(census.take(self._daemon.pid))

    @property
    def zombies(self) -> int:
        """Those that were there twice in a row: each child is one for a moment."""
        pairs = zip(self.censuses, self.censuses[1:], strict=False)
        return len({pid for one, next_ in pairs for pid in one.zombies & next_.zombies})


def overtaken(answers: Sequence[tuple[float, float]]) -> list[int]:
    """Of each answer, how many were asked for later and began earlier."""
    begun: list[float] = []
    counts = []
    for asked, waited in sorted(answers, reverse=True):
        counts.append(bisect_left(begun, asked + waited))
        insort(begun, asked + waited)
    return counts


def knows_several_keys() -> bool:
    text = subprocess.run(
        (sys.executable, "-m", "claude_proxy", "--help"), capture_output=True, text=True, check=True
    ).stdout
    return "--api-keys-file" in text


def with_keys(laboratory: Lab, count: int) -> tuple[list[str], list[str]]:
    """The keys, and the flags that make the daemon know them."""
    if count < 2 or not knows_several_keys():
        return [lab.KEY], []
    keys = {f"client-{number}": f"{lab.KEY}-{number}" for number in range(count)}
    path = laboratory.home / "keys"
    path.touch(0o600)
    path.write_text("".join(f"{name} {key}\n" for name, key in keys.items()))
    return list(keys.values()), ["--api-keys-file", str(path)]


def shares(keys: Sequence[str], clients: int) -> list[str]:
    """A key for each client: of four keys, 4 to 3 to 2 to 1."""
    weighted = [key for n, key in enumerate(keys) for _ in range(len(keys) - n)]
    return list(islice(cycle(weighted), clients))


def report(load: Load, watch: Watch, before: Census, after: Census) -> None:
    answered = sorted(load.seconds) or [0.0]
    begun = [waited for each in load.answers.values() for _, waited in each] or [0.0]
    memory = [each.memory for each in watch.censuses]
    rows = [
        ("answers", f"{len(load.seconds)}"),
        ("sent away, 429 and 503", f"{load.refused[429]} and {load.refused[503]}"),
        ("first byte, p50 and p99, s", seconds(begun)),
        ("whole answer, p50 and p99, s", seconds(answered)),
        ("/health, p50 and p99, s", seconds(watch.stalls)),
        ("this client's own delays, p50 and p99, s", seconds(watch.late)),
        *(
            (f"daemon's {name.upper()} before, most, after, MB", three(before, memory, after, name))
            for name in ("Rss", "Pss", "Uss")
        ),
        ("its processes' PSS, most, MB", f"{max(each.below for each in watch.censuses):.0f}"),
        ("its processes, most", f"{max(len(each.processes) for each in watch.censuses)}"),
        ("descriptors, most", f"{max(each.descriptors for each in watch.censuses)}"),
    ]
    for key, answers in load.answers.items():
        rows.append((f"answers of {key}", str(len(answers))))
    figures.table(("load", "figure"), rows)
    print()


def seconds(values: Sequence[float]) -> str:
    return f"{figures.median(values):.3f} and {figures.percentile(values, 0.99):.3f}"


def three(before: Census, memory: Sequence[dict[str, float]], after: Census, name: str) -> str:
    most = max(each[name] for each in memory)
    return f"{before.memory[name]:.1f}, {most:.1f}, {after.memory[name]:.1f}"


def judge(load: Load, watch: Watch, grown: int, slots: int, keys: Sequence[str]) -> bool:
    """Whether all is met that is no timing; ``grown`` in descriptors."""
    wrong = sum(load.wrong.values())
    late = max((max(overtaken(each)) for each in load.answers.values()), default=0)
    aims = [
        ("neither answered nor told when to come back", f"{wrong}", "0", wrong == 0),
        ("overtaken by later ones of its key", f"{late}", f"<= {3 * slots}", late <= 3 * slots),
        ("zombies", f"{watch.zombies}", "0", watch.zombies == 0),
        ("descriptors more than before", f"{grown}", "<= 0", grown <= 0),
    ]
    if len(keys) > 1:
        counts = [len(load.answers.get(key, ())) for key in keys]
        ratio = max(counts) / min(counts) if min(counts) else float("inf")
        aims.append(("most to least answers of a key", f"{ratio:.2f}", f"<= {FAIR}", ratio <= FAIR))
    for what, figure, aimed, met in aims:
        figures.aim(what, figure, aimed, met=met)
    stall = max(watch.stalls)
    aimed = f"< {LONGEST_STALL:g} s"
    figures.aim("slowest /health", f"{stall:.3f} s", aimed, met=stall < LONGEST_STALL)
    for what, count in load.wrong.most_common(5):
        print(f"{count} times {what}")
    return all(met for *_, met in aims)


async def measure(laboratory: Lab, options: argparse.Namespace) -> bool:
    keys, flags = with_keys(laboratory, options.keys)
    flags += ["--max-concurrency", str(options.slots), "--keep-alive", "0"]
    flags += ["--claude", str(FAKE)] if options.fake else []
    with lab.daemon(laboratory, *flags) as daemon:
        warm = Load(daemon, time.perf_counter() + 5, options.fake)
        await warm.run(keys[:1] * options.slots)
        before = (await census.quiet(daemon)).census
        load = Load(daemon, time.perf_counter() + 60 * options.minutes, options.fake)
        with Watch(daemon) as watch:
            await load.run(shares(keys, options.clients))
        after = (await census.quiet(daemon)).census
    report(load, watch, before, after)
    grown = after.descriptors - before.descriptors
    return judge(load, watch, grown, options.slots, keys)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="how long (3)")
    parser.add_argument("--clients", type=int, default=200, help="at the same time (200)")
    parser.add_argument("--slots", type=int, default=4, help="turns at the same time (4)")
    parser.add_argument("--keys", type=int, default=4, help="that the clients have (4)")
    parser.add_argument("--fake", action="store_true", help="tests/fakes/claude, not the real CLI")
    options = parser.parse_args()
    figures.machine()
    with lab.laboratory() as laboratory:
        return 0 if asyncio.run(measure(laboratory, options)) else 1


if __name__ == "__main__":
    sys.exit(main())
