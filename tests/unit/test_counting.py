"""The tokens of a conversation, told by a child that speaks the CLI's lines."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from claude_proxy.claude.pool import Pool
from claude_proxy.conversation import Conversation, Message, Text, Tool, ToolCall, ToolResult
from claude_proxy.errors import BadUpstream, ModelNotFound, ProxyError, ShuttingDown
from claude_proxy.settings import Settings
from tests.unit.fake_cli import installation, run, running, until
from tests.unit.service import serving, whole

# Writes down what it is told; answers to get_context_usage what ANSWER is, or nothing to SILENT.
CLI = """\
#!{python} -IS
import json, sys

def say(**line):
    print(json.dumps(line), flush=True)

answers = {answers!r}
with open({heard!r}, "a") as heard:
    for line in sys.stdin:
        print(line.strip(), file=heard, flush=True)
        message = json.loads(line)
        if message["type"] == "user":
            say(type="result", subtype="success", is_error=False, num_turns=0)
        elif message["type"] == "control_request":
            answer = answers.get(message["request"]["subtype"], {{"subtype": "success"}})
            if answer == "exit":
                sys.exit(3)
            if answer == "garbage":
                print('{{"type": "control_response", "response": []}}', flush=True)
            elif answer != "silent":
                response = {{"request_id": message["request_id"], **answer}}
                say(type="control_response", response=response)
"""
USED = [
    {"name": "System prompt", "tokens": 40, "kind": "used"},
    {"name": "Messages", "tokens": 2, "kind": "used"},
    {"name": "Free space", "tokens": 199_000, "kind": "free"},
    {"name": "Buffer", "tokens": 900},
]
CALL = ToolCall("call_1", "look", '{"a": 1}')
ASKED = Conversation(
    "sonnet",
    "Be brief.",
    (
        Message("user", (Text("a"),)),
        Message("assistant", (Text("b"), CALL)),
        Message("user", (ToolResult("call_1", (Text("c"),)),)),
    ),
    tools=(Tool("look", '{"type":"object"}'),),
)


def success(response: Any) -> dict[str, Any]:
    return {"subtype": "success", "response": response}


@pytest.fixture
def cli(tmp_path):
    """Makes the child's program; its path, and what it was told."""
    heard = tmp_path / "heard"

    def make(usage: Any, **answers: Any) -> Path:
        path = tmp_path / "claude"
        given = {"get_context_usage": usage, **answers}
        path.write_text(CLI.format(python=sys.executable, answers=given, heard=str(heard)))
        path.chmod(0o700)
        return path

    make.heard = lambda: [json.loads(line) for line in heard.read_text().splitlines()]
    return make


def counted(place: Path, path: Path) -> int:
    async def work() -> int:
        async with Pool(installation(place, path), Settings(spares=0)) as pool:
            tokens = await pool.count(ASKED)
            assert pool.stats.running == 0
            return tokens

    try:
        return run(work)
    finally:
        assert not running(str(path))


def test_what_is_in_the_window_is_counted_and_nothing_is_asked(cli, tmp_path):
    assert counted(tmp_path, cli(success({"categories": USED}))) == 42
    first, model, *turns, last = cli.heard()
    system, tools = first["request"]["systemPrompt"]
    assert system == "Be brief."
    assert json.loads(tools) == [{"name": "look", "input_schema": {"type": "object"}}]
    assert model["request"] == {"subtype": "set_model", "model": "sonnet"}
    assert [turn["message"]["role"] for turn in turns] == ["user", "assistant", "user"]
    assert [turn["shouldQuery"] for turn in turns if turn["type"] == "user"] == [False, False]
    assert last["request"] == {"subtype": "get_context_usage", "detail": "full"}


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ({"usage": success({})}, BadUpstream, "cannot be read"),
        ({"usage": success(None)}, BadUpstream, "cannot be read"),
        ({"usage": success({"categories": [{"tokens": "many"}]})}, BadUpstream, "cannot be read"),
        ({"usage": {"subtype": "error", "error": "no"}}, BadUpstream, "get_context_usage: no"),
        ({"usage": "exit"}, BadUpstream, "could not count"),
        ({"usage": "garbage"}, BadUpstream, "could not count"),
        (
            {"usage": "silent", "set_model": {"subtype": "error", "error": "no"}},
            ModelNotFound,
            "refuses the model: no",
        ),
    ],
)
def test_what_goes_wrong_is_said_and_leaves_no_process(cli, tmp_path, answers, error, words):
    with pytest.raises(error, match=words):
        counted(tmp_path, cli(**answers))


@pytest.mark.parametrize("end", ["it stops", "nobody waits any more"])
def test_a_count_ends_with_whoever_wants_it(cli, tmp_path, end):
    """Its process and its slot are free again."""
    path = cli("silent")

    async def work() -> None:
        settings = Settings(spares=0, max_concurrency=1)
        async with Pool(installation(tmp_path, path), settings) as pool:
            count = asyncio.create_task(pool.count(ASKED))
            await until(lambda: "get_context_usage" in (tmp_path / "heard").read_text())
            if end == "it stops":
                pool.stop(ShuttingDown("over"))
                with pytest.raises(ShuttingDown):
                    await count
            else:
                count.cancel()
                with suppress(asyncio.CancelledError):
                    await count
            assert not running(str(path))
            assert pool.stats.running == 0

    (tmp_path / "heard").touch()
    run(work)


def test_at_most_as_many_are_counted_at_once_as_there_are_slots(cli, tmp_path):
    path = cli("silent")

    async def work() -> None:
        settings = Settings(spares=0, max_concurrency=2, queue=1)
        async with Pool(installation(tmp_path, path), settings) as pool:
            counts = [asyncio.create_task(pool.count(ASKED)) for _ in range(4)]
            await until(lambda: (tmp_path / "heard").read_text().count("get_context_usage") == 2)
            assert (pool.stats.running, pool.stats.queued) == (2, 1)
            assert len(running(str(path))) == 2
            pool.stop(ShuttingDown("over"))
            ends = await asyncio.gather(*counts, return_exceptions=True)
            assert sorted(type(end).__name__ for end in ends) == [
                "RateLimited",
                *["ShuttingDown"] * 3,
            ]
            assert all(isinstance(end, ProxyError) for end in ends)

    (tmp_path / "heard").touch()
    run(work)


def test_a_client_that_leaves_ends_its_count(cli, tmp_path):
    path = cli("silent")

    async def work() -> None:
        settings = Settings(spares=0)
        async with (
            Pool(installation(tmp_path, path), settings) as pool,
            serving(whole(settings, pool), pool) as service,
        ):
            body = b'{"model":"sonnet","messages":[{"role":"user","content":"a"}]}'
            head = (
                "POST /v1/messages/count_tokens HTTP/1.1\r\nhost: localhost\r\nx-api-key: sk-x\r\n"
            )
            place = service.listener.getsockname()[:2]
            _, writer = await asyncio.open_connection(*place)
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            await until(lambda: "get_context_usage" in (tmp_path / "heard").read_text())
            assert pool.stats.running == 1
            writer.close()
            await writer.wait_closed()
            await until(lambda: not running(str(path)))
            await until(lambda: pool.stats.running == 0)

    (tmp_path / "heard").touch()
    with capture_logs() as told:
        run(work)
    (done,) = [record for record in told if record["event"] == "request.done"]
    assert (done["status"], done["client_gone"]) == (499, True)
