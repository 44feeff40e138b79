"""One turn with a child that speaks the CLI's lines, where the real CLI would need minutes."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from claude_proxy.claude.cli import Cli
from claude_proxy.claude.prompt import Prompt
from claude_proxy.claude.session import Session
from claude_proxy.conversation import Conversation, Event, Message, Text, TextDelta
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


@pytest.fixture
def answer(tmp_path):
    def answer(lines: list[str], pause: float) -> list[Event]:
        path = tmp_path / "claude"
        path.write_text(SCRIPT.format(python=sys.executable, lines=lines, pause=pause))
        path.chmod(0o755)
        return asyncio.run(run(path))

    async def run(path: Path) -> list[Event]:
        watch_children_without_threads()
        environment = {"PATH": os.environ["PATH"]}
        session = await Session.spawn(Cli(path, "2.1.330"), environment, tmp_path)
        prompt = Prompt.of(Conversation("m", "", (Message("user", (Text("think"),)),)))
        try:
            async with asyncio.timeout(30):
                batches = [batch async for batch in session.run(prompt, SILENCE)]
        finally:
            await session.close()
        return [event for batch in batches for event in batch]

    return answer


@pytest.mark.parametrize("line", [THINKS, TOOLS], ids=["system", "unknown"])
def test_a_cli_that_sends_lines_is_not_silent_whatever_the_lines_are(answer, line):
    """The limit is on silence: a model that thinks long sends nothing but such lines."""
    events = answer([line] * 10 + ANSWER, pause=SILENCE / 6)
    assert TextDelta("at last") in events


def test_a_silent_cli_is_given_up(answer):
    with pytest.raises(UpstreamTimeout, match=r"silent for 1\.5 seconds"):
        answer(ANSWER, pause=60)
