"""Thousands of requests in a row: what does the daemon not give back?

    python benchmarks/soak.py [--requests 5000] [--warm-up 400] [--minutes 90] [--fake]

One after another, in an order that is the same each time: Chat Completions and Responses, streaming
and not, new conversations and continued ones, tool loops, kept responses fetched and deleted,
requests that are refused, upstreams that fail, clients that leave. Every answer must be the one
that is due. Eight times on the way, and after the warm-up, the daemon is left to come to rest and
is measured: memory (the median of 5 readings), descriptors, processes, files. Before all that the
store is filled, of which SQLite keeps a part in memory: what grows there would hide the rest.

Exit code 1 when an aim is missed: memory within 5 % of what it was after the warm-up, no descriptor
and no process more, no zombie, responses.db within its size.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import census
import figures
import lab
import wire
from census import Quiet
from lab import Daemon, Json, Lab

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
FAKE = Path(__file__).parents[1] / "tests" / "fakes" / "claude"
MEASUREMENTS, READINGS, READING_INTERVAL = 8, 5, 0.2
STORE_MB, FILLING, FILLING_SIZE = 1, 12, 100_000
MOST_GROWTH = 0.05
LONGEST_CONVERSATION = 12
TOOL = {"type": "object", "properties": {"path": {"type": "string"}}}


@dataclass(frozen=True, slots=True)
class Words:
    """What makes the upstream answer, fail before and in mid-answer, and stop in mid-answer.

    ``fails_with``: the status that the client gets. ``calls``: for a call of the tool ``look``.
    """

    answers: str
    fails: str
    fails_with: int
    breaks: str
    stops: str
    begun: bytes
    calls: str | None


SIMULATOR = Words(
    answers="[simulate tokens=30]",
    fails="[simulate error=400 message=no]",
    fails_with=400,
    breaks="[simulate tokens=9 stream_error=4]",
    stops="[simulate tokens=9 hold={marker} hold_after=3]",
    begun=b"w2",
    calls="""[simulate tool=look input='{{"path": "{marker}"}}']""",
)
BY_FAKE = Words("fine", "limit", 429, "crash-amid", "silent-amid", b"one", None)


@dataclass(slots=True)
class Client:
    """Asks, and remembers a conversation of either dialect to go on from."""

    port: int
    words: Words
    unexpected: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    messages: list[Json] = field(default_factory=list)
    response_id: str | None = None
    turns: int = 0
    requests: int = 0

    def prompt(self, word: str) -> str:
        marker = lab.marker()
        return f"{marker} {word.format(marker=marker)}"

    async def ask(
        self, status: int, method: str, path: str, body: Any = None, key: str = lab.KEY
    ) -> wire.Answer:
        """Raises Unexpected for any other status."""
        self.requests += 1
        answer = await wire.ask(self.port, method, path, body, key=key)
        if answer.status != status:
            raise Unexpected(f"{answer.status} for {status}: {answer.body[:200]!r}")
        return answer

    async def do(self, kind: str) -> None:
        self.kinds[kind] += 1
        try:
            await KINDS[kind](self)
        except (Unexpected, OSError, LookupError, ValueError, TimeoutError) as error:
            self.unexpected[f"{kind}: {error!r}"[:300]] += 1

    async def chat(self, messages: list[Json], *, stream: bool, **more: Any) -> wire.Answer:
        body = {"model": lab.MODEL, "stream": stream, "messages": messages, **more}
        answer = await self.ask(200, "POST", CHAT, body)
        if stream and not answer.body.endswith(b"data: [DONE]\n\n"):
            raise Unexpected(f"no end: {answer.body[-200:]!r}")
        return answer

    async def respond(self, given: Any, *, stream: bool, **more: Any) -> Json:
        """The response as it stands at the end."""
        body = {"model": lab.MODEL, "stream": stream, "input": given, **more}
        answer = await self.ask(200, "POST", RESPONSES, body)
        response: Json = answer.last_event["response"] if stream else answer.json
        if response["status"] != "completed":
            raise Unexpected(f"{response['status']}: {response['error']}")
        return response

    async def fill_store(self) -> None:
        """SQLite has as much of a file in memory as it has seen of it, up to 2 MB."""
        for _ in range(FILLING):
            await self.respond("x" * FILLING_SIZE + self.prompt(self.words.answers), stream=False)


class Unexpected(Exception):
    """Another answer than the one that was due."""


async def new_chat(client: Client) -> None:
    user = {"role": "user", "content": client.prompt(client.words.answers)}
    messages = [{"role": "system", "content": lab.SYSTEM}, user]
    answer = await client.chat(messages, stream=False)
    client.messages = [*messages, answer.json["choices"][0]["message"]]


async def streamed_chat(client: Client) -> None:
    user = {"role": "user", "content": client.prompt(client.words.answers)}
    await client.chat([user], stream=True, stream_options={"include_usage": True})


async def continued_chat(client: Client) -> None:
    if not client.messages or len(client.messages) > LONGEST_CONVERSATION:
        await new_chat(client)
        return
    user = {"role": "user", "content": client.prompt(client.words.answers)}
    answer = await client.chat([*client.messages, user], stream=False)
    client.messages += [user, answer.json["choices"][0]["message"]]


async def new_response(client: Client) -> None:
    response = await client.respond(client.prompt(client.words.answers), stream=False)
    client.response_id, client.turns = response["id"], 1


async def streamed_response(client: Client) -> None:
    prompt = client.prompt(client.words.answers)
    await client.respond(prompt, stream=True, store=False)


async def continued_response(client: Client) -> None:
    if client.response_id is None or client.turns > LONGEST_CONVERSATION:
        await new_response(client)
        return
    prompt = client.prompt(client.words.answers)
    before, client.response_id = client.response_id, None
    response = await client.respond(prompt, stream=True, previous_response_id=before)
    client.response_id = response["id"]
    client.turns += 1


async def chat_with_tool(client: Client) -> None:
    if client.words.calls is None:
        await new_chat(client)
        return
    tools = [{"type": "function", "function": {"name": "look", "parameters": TOOL}}]
    messages: list[Json] = [{"role": "user", "content": client.prompt(client.words.calls)}]
    answer = await client.chat(messages, stream=False, tools=tools)
    called = answer.json["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"]}
    result["content"] = client.prompt(client.words.answers)
    await client.chat([*messages, called, result], stream=True, tools=tools)


async def response_with_tool(client: Client) -> None:
    if client.words.calls is None:
        await new_response(client)
        return
    tools = [{"type": "function", "name": "look", "parameters": TOOL}]
    prompt = client.prompt(client.words.calls)
    first = await client.respond(prompt, stream=True, tools=tools)
    (call,) = (item for item in first["output"] if item["type"] == "function_call")
    output = {"type": "function_call_output", "call_id": call["call_id"]}
    output["output"] = client.prompt(client.words.answers)
    more = {"previous_response_id": first["id"], "tools": tools}
    await client.respond([output], stream=False, **more)


async def kept_response(client: Client) -> None:
    response = await client.respond(client.prompt(client.words.answers), stream=False)
    place = f"{RESPONSES}/{response['id']}"
    await client.ask(200, "GET", place)
    await client.ask(200, "GET", f"{place}/input_items")
    await client.ask(200, "DELETE", place)
    await client.ask(404, "GET", place)


async def refused(client: Client) -> None:
    hi = [{"role": "user", "content": "hi"}]
    await client.ask(400, "POST", CHAT, {"model": lab.MODEL, "messages": []})
    await client.ask(400, "POST", RESPONSES, {"model": lab.MODEL, "input": 1})
    await client.ask(404, "POST", CHAT, {"model": "gpt-nothing", "messages": hi})
    await client.ask(404, "GET", "/v1/nothing")
    await client.ask(401, "POST", CHAT, {"model": lab.MODEL, "messages": hi}, key="wrong")


async def failed(client: Client) -> None:
    body: Json = {"model": lab.MODEL, "stream": True}
    user = [{"role": "user", "content": client.prompt(client.words.fails)}]
    await client.ask(client.words.fails_with, "POST", CHAT, body | {"messages": user})


async def broken_off(client: Client) -> None:
    body = {"model": lab.MODEL, "stream": True, "input": client.prompt(client.words.breaks)}
    answer = await client.ask(200, "POST", RESPONSES, body)
    if answer.last_event["type"] != "response.failed":
        raise Unexpected(f"no failure: {answer.body[-200:]!r}")


async def left(client: Client) -> None:
    body: Json = {"model": lab.MODEL, "stream": True}
    user = [{"role": "user", "content": client.prompt(client.words.stops)}]
    begun = {"key": lab.KEY, "after": client.words.begun}
    client.requests += 1
    if not await wire.leave(client.port, CHAT, body | {"messages": user}, **begun):
        raise Unexpected("the answer ended")


async def asked_for_facts(client: Client) -> None:
    await client.ask(200, "GET", "/v1/models")
    await client.ask(200, "GET", "/health")


KINDS: dict[str, Callable[[Client], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        *(new_chat, streamed_chat, continued_chat, chat_with_tool),
        *(new_response, streamed_response, continued_response, response_with_tool, kept_response),
        *(refused, failed, broken_off, left, asked_for_facts),
    )
}
# Continued ones are many: a client's conversation has more than one turn.
ORDER = [*KINDS, *("continued_chat", "continued_response") * 3]


@dataclass(frozen=True, slots=True)
class Measurement:
    requests: int
    at: Quiet
    memory: dict[str, float]
    database: float
    files: int

    @property
    def row(self) -> list[str]:
        there = self.at.census
        return [
            str(self.requests),
            *(f"{self.memory[name]:.2f}" for name in ("Rss", "Pss", "Uss")),
            str(there.descriptors),
            f"{len(there.processes)} of {'?' if self.at.places is None else self.at.places}",
            str(len(there.zombies)),
            f"{self.database:.2f}",
            str(self.files),
        ]


async def measured(laboratory: Lab, daemon: Daemon, requests: int) -> Measurement:
    at = await census.quiet(daemon)
    readings = []
    for _ in range(READINGS):
        readings.append(figures.memory(daemon.pid))
        await asyncio.sleep(READING_INTERVAL)
    memory = {name: figures.median([each[name] for each in readings]) for name in readings[0]}
    kept = laboratory.home / "STATE" / "claude-proxy" / "responses.db"
    files = census.files_below(laboratory.home)
    return Measurement(requests, at, memory, census.megabytes(kept), files)


async def soak(laboratory: Lab, daemon: Daemon, options: argparse.Namespace) -> bool:
    client = Client(daemon.port, BY_FAKE if options.fake else SIMULATOR)
    source = random.Random(1)
    until = time.monotonic() + 60 * options.minutes
    steps = range(0, options.requests, max(1, options.requests // MEASUREMENTS))
    due = [options.warm_up + step for step in (*steps, options.requests)]
    taken: list[Measurement] = []
    await client.fill_store()
    while len(taken) < len(due) and (not taken or time.monotonic() < until):
        if client.requests >= due[len(taken)]:
            taken.append(await measured(laboratory, daemon, client.requests))
            print(f"{client.requests} of {due[-1]}", file=sys.stderr)
        await client.do(source.choice(ORDER))
    if len(taken) < len(due):
        taken.append(await measured(laboratory, daemon, client.requests))
    return judge(client, taken)


def judge(client: Client, taken: list[Measurement]) -> bool:
    head = ("after", "RSS, MB", "PSS", "USS", "descriptors", "processes", "zombies", "db, MB")
    figures.table((*head, "files"), [each.row for each in taken])
    print(", ".join(f"{kind} {count}" for kind, count in sorted(client.kinds.items())), "\n")
    first, last = taken[0], taken[-1]
    aims = []
    for name in ("Rss", "Pss", "Uss"):
        growth = last.memory[name] / first.memory[name] - 1
        aims.append((f"{name.upper()} grown by", f"{growth:.1%}", "< 5 %", growth < MOST_GROWTH))
    more = last.at.census.descriptors - first.at.census.descriptors
    restless = sum(each.at.places is None for each in taken)
    zombies = sum(len(each.at.census.zombies) for each in taken)
    size = max(each.database for each in taken)
    aims += [
        (
            "other answers than the one due",
            f"{client.unexpected.total()}",
            "0",
            not client.unexpected,
        ),
        ("descriptors more", f"{more}", "<= 0", more <= 0),
        ("measured with other processes than it has", f"{restless}", "0", not restless),
        ("zombies", f"{zombies}", "0", not zombies),
        ("responses.db", f"{size:.2f} MB", f"<= {STORE_MB} MiB", size <= STORE_MB * 1.048576),
    ]
    for what, figure, aimed, met in aims:
        figures.aim(what, figure, aimed, met=met)
    for what, count in client.unexpected.most_common(5):
        print(f"{count} times {what}")
    return all(met for *_, met in aims)


async def measure(laboratory: Lab, options: argparse.Namespace) -> bool:
    flags = ["--store-size", f"{STORE_MB}M", "--retries", "0", "--idle-exit", "0"]
    flags += ["--claude", str(FAKE)] if options.fake else []
    with lab.daemon(laboratory, *flags) as daemon:
        return await soak(laboratory, daemon, options)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=5_000, help="after the warm-up (5000)")
    parser.add_argument("--warm-up", type=int, default=400, help="requests before (400)")
    parser.add_argument("--minutes", type=float, default=90.0, help="it ends then anyway (90)")
    parser.add_argument("--fake", action="store_true", help="tests/fakes/claude, not the real CLI")
    options = parser.parse_args()
    figures.machine()
    with lab.laboratory() as laboratory:
        return 0 if asyncio.run(measure(laboratory, options)) else 1


if __name__ == "__main__":
    sys.exit(main())
