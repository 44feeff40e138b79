"""One turn with a child that speaks the CLI's lines, where the real CLI would need minutes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from claude_proxy.claude.cli import Cli
from claude_proxy.claude.prompt import Prompt
from claude_proxy.claude.session import Session
from claude_proxy.conversation import (
    ArgumentsDelta,
    Conversation,
    Event,
    Finished,
    FinishReason,
    Message,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallStarted,
    ToolResult,
    Usage,
)
from claude_proxy.daemon import watch_children_without_threads
from claude_proxy.errors import UpstreamTimeout

SILENCE = 1.5

# Takes the configuration and the one user line, then prints what it is told at a slow pace.
SCRIPT = """\
#!{python}
import json, sys, time

for line in sys.stdin:
    if json.loads(line)["type"] == "user":
        break
for line in {lines}:
    time.sleep({pause})
    print(line, flush=True)
sys.stdin.read()
"""
THINKS = '{"type":"system","subtype":"thinking_tokens","estimated_tokens":50}'
TOOLS = '{"type":"tool_progress","elapsed_time_seconds":1}'
ANSWER = [
    '{"type":"stream_event","event":{"type":"message_start","message":{"model":"m"}}}',
    (
        '{"type":"stream_event","event":{"type":"content_block_delta",'
        '"delta":{"type":"text_delta","text":"at last"}}}'
    ),
    '{"type":"stream_event","event":{"type":"message_delta","delta":{"stop_reason":"end_turn"}}}',
    '{"type":"result","subtype":"success","num_turns":1}',
]


CUT = ANSWER[2].replace("end_turn", "max_tokens")
CALL = [
    ANSWER[0],
    (
        '{"type":"stream_event","event":{"type":"content_block_start",'
        '"content_block":{"type":"tool_use","id":"t1","name":"look"}}}'
    ),
    (
        '{"type":"stream_event","event":{"type":"content_block_delta",'
        '"delta":{"type":"input_json_delta","partial_json":ARGUMENTS}}}'
    ),
    '{"type":"stream_event","event":{"type":"content_block_stop"}}',
    (
        '{"type":"control_request","request_id":"r1","request":{"subtype":"mcp_message",'
        '"message":{"id":7,"method":"tools/call",'
        '"params":{"_meta":{"claudecode/toolUseId":"t1"}}}}}'
    ),
    ANSWER[2].replace("end_turn", "tool_use"),
]
THINK = Conversation("m", "", (Message("user", (Text("think"),)),), tools=(Tool("look", "{}"),))


@pytest.fixture
def answer(tmp_path):
    def answer(
        lines: list[str], pause: float = 0, look: Callable[[Session], object] | None = None
    ) -> list[Event]:
        """The events of a turn; ``look`` is called after each batch and at the end."""
        path = tmp_path / "claude"
        path.write_text(SCRIPT.format(python=sys.executable, lines=lines, pause=pause))
        path.chmod(0o755)
        return asyncio.run(run(path, look or (lambda _: None)))

    async def run(path: Path, look: Callable[[Session], object]) -> list[Event]:
        watch_children_without_threads()
        environment = {"PATH": os.environ["PATH"]}
        session = await Session.spawn(Cli(path, "2.1.330"), environment, tmp_path)
        events: list[Event] = []
        try:
            async with asyncio.timeout(30):
                async for batch in session.run(Prompt.of(THINK), SILENCE):
                    events += batch
                    look(session)
                look(session)
        finally:
            await session.close()
        return events

    return answer


@pytest.mark.parametrize("line", [THINKS, TOOLS], ids=["system", "unknown"])
def test_a_cli_that_sends_lines_is_not_silent_whatever_the_lines_are(answer, line):
    """The limit is on silence: a model that thinks long sends nothing but such lines."""
    events = answer([line] * 10 + ANSWER, pause=SILENCE / 6)
    assert TextDelta("at last") in events


def test_a_silent_cli_is_given_up(answer):
    with pytest.raises(UpstreamTimeout, match=r"silent for 1\.5 seconds"):
        answer(ANSWER, pause=60)


def test_what_would_go_on_by_itself_is_ended_before_the_client_is_told(answer):
    """However slowly the client takes it: the CLI would ask the API again within milliseconds."""
    ended: list[bool] = []
    events = answer([*ANSWER[:2], CUT], look=lambda session: ended.append(not session.alive))
    assert events[-1] == Finished(FinishReason.LENGTH, Usage())
    assert ended[-2:] == [True, True]


@pytest.mark.parametrize(("arguments", "lives_on"), [('{"a":1}', True), ('{"a":', False)])
def test_a_process_lives_on_only_after_calls_that_can_be_read(answer, arguments, lives_on):
    lines = [line.replace("ARGUMENTS", json.dumps(arguments)) for line in CALL]
    seen: list[bool] = []
    events = answer(lines, look=lambda session: seen.append(session.lives_on))
    assert [event.text for event in events if isinstance(event, ArgumentsDelta)] == [arguments]
    assert isinstance(events[-1], Finished)
    assert seen[-1] is lives_on


def test_a_client_that_leaves_with_the_last_event_leaves_the_calls_held(tmp_path):
    """Its results may come in another connection."""
    path = tmp_path / "claude"
    lines = [line.replace("ARGUMENTS", json.dumps("{}")) for line in CALL]
    path.write_text(SCRIPT.format(python=sys.executable, lines=lines, pause=0))
    path.chmod(0o755)

    async def leave() -> tuple[bool, bool]:
        watch_children_without_threads()
        session = await Session.spawn(Cli(path, "2"), {"PATH": os.environ["PATH"]}, tmp_path)
        try:
            seen: list[Event] = []
            async with aclosing(session.run(Prompt.of(THINK), SILENCE)) as batches:
                async for batch in batches:
                    seen += batch
                    if any(isinstance(event, Finished) for event in batch):
                        break
            (call,) = (event for event in seen if isinstance(event, ToolCallStarted))
            made = Message("assistant", (ToolCall(call.id, "look", "{}"),))
            result = Message("user", (ToolResult(call.id, (Text("seen"),)),))
            answered = replace(THINK, messages=(*THINK.messages, made, result))
            unanswered = replace(
                THINK, messages=(*THINK.messages, made, Message("user", (Text("so?"),)))
            )
            return session.continues(Prompt.of(answered)), session.continues(Prompt.of(unanswered))
        finally:
            await session.close()

    assert asyncio.run(leave()) == (True, False)
