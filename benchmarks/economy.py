"""What a long tool loop costs, by the simulator's model of the prompt cache, in six ways.

    python benchmarks/economy.py [--steps 20] [--json]

An agent with a system prompt and tools of some 20,000 tokens makes 20 rounds of a tool call and its
result, then answers with text. Every way has the same task and a simulator, so a cache, of its own:
one conversation posted straight to the API, with marks behind the system prompt and at its end;
claude-proxy as it is; the same posts as those straight ones, but to claude-proxy; claude-proxy
replaying every turn; the whole history as one text for a fresh CLI each turn, as most programs do
it (system prompt and tools, also as text, in --system-prompt, so that at least these are cached);
and the first way's tokens without any cache.

The bill is what the answers say, and the simulator must have had exactly as many requests. Prices
are those of Sonnet. Exit code 1 when an aim is missed: these are counts, the same each time.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from functools import partial
from typing import Any

import figures
import lab
from lab import Json, Lab

MODEL = {"model": "claude-sonnet-4-6", "max_tokens": 8_192}
MARK = {"cache_control": {"type": "ephemeral"}}
UNCACHED, WRITTEN, READ, OUTPUT = 3.0, 3.75, 0.3, 15.0  # dollars per million tokens
WAYS = {
    "ideal": "(a) one conversation, straight",
    "living": "(b) claude-proxy",
    "messages": "(b') the same, POST /v1/messages",
    "replayed": "(c) claude-proxy --keep-alive 0",
    "flattened": "(d) history as text, fresh CLI",
    "uncached": "(e) (a) without a cache",
}
AIMS = {"living": 1.1, "messages": 1.1, "replayed": 1.6}  # input cost as a multiple of (a)'s
SYSTEM_TOKENS, DESCRIPTION_TOKENS, RESULT_TOKENS = 8_000, 500, (200, 1_500)
TOOLS = [f"{verb}_{noun}" for verb in ("read", "find", "edit", "move") for noun in "abcde"]
CALLING = 'To call a tool, end with a line {"tool": NAME, "input": INPUT}.'


@dataclass(frozen=True, slots=True)
class Bill:
    """Requests, and their tokens by price."""

    requests: int = 0
    uncached: int = 0
    written: int = 0
    read: int = 0
    output: int = 0

    def __add__(self, other: Bill) -> Bill:
        return Bill(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def input_cost(self) -> float:
        return (self.uncached * UNCACHED + self.written * WRITTEN + self.read * READ) / 1e6

    @property
    def cost(self) -> float:
        return self.input_cost + self.output * OUTPUT / 1e6


@dataclass(frozen=True, slots=True)
class Turn:
    """What the agent gives to the model: ``words``, and a directive for the answer in ``says``.

    ``call`` is the tool that the model shall then call and its input; the last turn has none.
    """

    words: str
    says: str
    call: tuple[str, Json] | None

    @property
    def text(self) -> str:
        called = f" tool={self.call[0]} input='{json.dumps(self.call[1])}'" if self.call else ""
        return f'{self.words}\n[simulate text="{self.says}"{called}]'

    @property
    def answer(self) -> str:
        """As a model writes it that has no native tools."""
        if self.call is None:
            return self.says
        return f"{self.says}\n{json.dumps({'tool': self.call[0], 'input': self.call[1]})}"


@dataclass(frozen=True, slots=True)
class Task:
    """``functions`` as Chat Completions has them."""

    system: str
    functions: list[Json]
    turns: list[Turn]


def make_task(steps: int) -> Task:
    """The same every time."""
    source = random.Random(steps)
    words = ["".join(source.choices("abcdefghijklmnoprstuvwy", k=n % 9 + 2)) for n in range(900)]

    def text(tokens: int) -> str:
        """Of four bytes a token, as the simulator counts."""
        lines = [" ".join(source.choices(words, k=9)) for _ in range(tokens // 6 + 1)]
        return "\n".join(lines)[: tokens * 4]

    functions = [function(name, text) for name in TOOLS]
    turns = []
    given = text(60)
    for step in range(steps):
        call = TOOLS[step % len(TOOLS)], {"path": f"src/package/module_{step}.py"}
        turns.append(Turn(given, f"Now I look at module {step}.", call))
        given = text(source.randint(*RESULT_TOKENS))
    turns.append(Turn(given, "It is done: all modules are read, and the tests pass.", None))
    return Task(f"You are a coding agent.\n{text(SYSTEM_TOKENS)}", functions, turns)


def function(name: str, text: Callable[[int], str]) -> Json:
    path = {"type": "string", "description": text(25)}
    properties = {"path": path, "others": {"type": "array", "items": path}}
    schema = {"type": "object", "properties": properties, "required": ["path"]}
    return {"name": name, "description": text(DESCRIPTION_TOKENS), "parameters": schema}


def ideal(laboratory: Lab, task: Task) -> list[Bill]:
    with closing(laboratory.upstream()) as client:
        return posted(client, task, MODEL["model"])


def through_messages(laboratory: Lab, task: Task) -> list[Bill]:
    with lab.daemon(laboratory) as daemon, closing(daemon.client()) as client:
        bills = posted(client, task, lab.MODEL)
    expect_processes(daemon, bills, living=True)
    return bills


def posted(client: lab.Client, task: Task, model: str) -> list[Bill]:
    """To Anthropic's API, or what speaks like it, with marks that move."""
    names = {"name": "name", "description": "description", "parameters": "input_schema"}
    tools = [{names[key]: value for key, value in f.items()} for f in task.functions]
    system = [{"type": "text", "text": task.system} | MARK]
    fixed = MODEL | {"model": model, "system": system, "tools": tools}
    messages: list[Json] = []
    bills = []
    call = None
    for turn in task.turns:
        block: Json = {"type": "text", "text": turn.text}
        if call is not None:
            block = {"type": "tool_result", "tool_use_id": call, "content": [block]}
        last = {"role": "user", "content": [block | MARK]}
        answer = post(client, "/v1/messages", fixed | {"messages": [*messages, last]})
        said = {"role": "assistant", "content": answer["content"]}
        messages += [{"role": "user", "content": [block]}, said]
        call = answer["content"][-1].get("id")
        bills.append(bill_of(answer["usage"]))
    return bills


def proxied(laboratory: Lab, task: Task, *, living: bool) -> list[Bill]:
    """``living``: every turn but the first must go on in the process of the one before, or none."""
    flags = () if living else ("--keep-alive", "0")
    tools = [{"type": "function", "function": function} for function in task.functions]
    messages: list[Json] = [{"role": "system", "content": task.system}]
    bills = []
    call = None
    with lab.daemon(laboratory, *flags) as daemon, closing(daemon.client()) as client:
        for turn in task.turns:
            role = {"role": "tool", "tool_call_id": call} if call is not None else {"role": "user"}
            messages.append({**role, "content": turn.text})
            body = {"model": lab.MODEL, "messages": messages, "tools": tools}
            answer = post(client, "/v1/chat/completions", body)
            messages.append(answer["choices"][0]["message"])
            call = next((call["id"] for call in messages[-1].get("tool_calls", ())), None)
            bills.append(bill_of_completion(answer["usage"]))
    expect_processes(daemon, bills, living=living)
    return bills


def expect_processes(daemon: lab.Daemon, bills: list[Bill], *, living: bool) -> None:
    lines = daemon.log.read_text().splitlines()
    records = [json.loads(line) for line in lines if '"request.done"' in line]
    used = [record["process"] for record in records if "process" in record]
    if len(used) != len(bills) or any((one == "continued") != living for one in used[1:]):
        raise lab.Trouble(f"the turns' processes were {used}")


def flattened(laboratory: Lab, task: Task) -> list[Bill]:
    tools = map(json.dumps, task.functions)
    system = "\n\n".join((task.system, "# Tools", CALLING, *tools))
    history = ""
    bills = []
    for turn in task.turns:
        # Directives of the past, as long as they were, must not be followed again.
        history += f"\n\nUser: {turn.text.replace('[simulate ', '[simulate_')}"
        prompt = f"{history}\n\nAssistant: [simulate text={json.dumps(turn.answer)}]"
        answer = one_shot(laboratory, system, prompt)
        if answer["result"] != turn.answer:
            raise lab.Trouble(f"the CLI said {answer['result'][:500]!r}, not {turn.answer!r}")
        history += f"\n\nAssistant: {turn.answer}"
        bills.append(bill_of(answer["usage"]))
    return bills


def one_shot(laboratory: Lab, system: str, prompt: str) -> Any:
    mode = ("--print", "--output-format", "json", "--tools", "", "--setting-sources", "")
    done = subprocess.run(
        (lab.claude_path(), *mode, "--model", lab.MODEL, "--system-prompt", system),
        input=prompt.encode(),
        env=laboratory.child_environment,
        cwd=laboratory.empty_directory,
        capture_output=True,
        timeout=lab.TURN_LIMIT,
        check=False,
    )
    if done.returncode:
        raise lab.Trouble(f"the CLI ended with {done.returncode}: {done.stdout[-500:]!r}")
    return json.loads(done.stdout)


def post(client: lab.Client, path: str, body: Json) -> Any:
    return json.loads(client.post(path, json.dumps(body).encode()).read())


def bill_of(usage: Json) -> Bill:
    written, read = usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]
    return Bill(1, usage["input_tokens"], written, read, usage["output_tokens"])


def bill_of_completion(usage: Json) -> Bill:
    details = usage["prompt_tokens_details"]
    written, read = details["cache_write_tokens"], details["cached_tokens"]
    uncached = usage["prompt_tokens"] - written - read
    return Bill(1, uncached, written, read, usage["completion_tokens"])


def measure(way: Callable[[Lab, Task], list[Bill]], task: Task) -> Bill:
    with lab.laboratory() as laboratory, closing(laboratory.upstream()) as api:
        bills = way(laboratory, task)
        asked = api.get_json("/simulator/requests")
    if len(asked) != len(bills):
        raise lab.Trouble(f"{len(bills)} answers, but {len(asked)} requests to the API")
    return sum(bills, Bill())


def measure_all(task: Task) -> dict[str, Bill]:
    ways: dict[str, Callable[[Lab, Task], list[Bill]]] = {
        "ideal": ideal,
        "living": partial(proxied, living=True),
        "messages": through_messages,
        "replayed": partial(proxied, living=False),
        "flattened": flattened,
    }
    bills = {name: measure(way, task) for name, way in ways.items()}
    least = bills["ideal"]
    tokens = least.uncached + least.written + least.read
    return bills | {"uncached": Bill(least.requests, uncached=tokens, output=least.output)}


def compared(bill: Bill, least: Bill) -> Json:
    times = {"input": bill.input_cost / least.input_cost, "total": bill.cost / least.cost}
    return {**asdict(bill), "usd": bill.cost, **times}


def report(ways: dict[str, Json]) -> None:
    shown = dict.fromkeys(("requests", "uncached", "written", "read", "output"), ",")
    shown |= {"usd": ".4f", "input": ".2f", "total": ".2f"}
    rows = [
        (title, *(format(ways[name][column], how) for column, how in shown.items()))
        for name, title in WAYS.items()
    ]
    figures.table(("way", *shown), rows)
    print("input, total: its cost and that of all as a multiple of (a)'s; usd at Sonnet's prices\n")
    for name, most in AIMS.items():
        times, total = ways[name]["input"], ways[name]["total"]
        figure = f"{times:.3f} of (a)'s; with the output {total:.3f}"
        figures.aim(f"input cost of {WAYS[name]}", figure, f"<= {most}", met=times <= most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20, help="rounds of tool calls (20)")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    options = parser.parse_args()
    if not options.json:
        figures.machine()
    bills = measure_all(make_task(options.steps))
    ways = {name: compared(bill, bills["ideal"]) for name, bill in bills.items()}
    met = {name: ways[name]["input"] <= most for name, most in AIMS.items()}
    if options.json:
        print(json.dumps({"ways": ways, "aims": AIMS, "met": met}, indent=2))
    else:
        report(ways)
    sys.exit(not all(met.values()))


if __name__ == "__main__":
    main()
