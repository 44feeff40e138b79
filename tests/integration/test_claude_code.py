"""Claude Code as the client of a proxy that has Claude Code behind it: as demanding as any."""

from __future__ import annotations

import os
import subprocess

from claude_proxy.claude.cli import find
from tests.lab import KEY, WAIT, Daemon, turns_upstream, wait_until


def ask(daemon: Daemon, place, prompt: str, *flags: str) -> str:
    """What it prints."""
    done = subprocess.run(
        [find(None, os.environ), "-p", prompt, *flags],
        cwd=place,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(place),
            "ANTHROPIC_BASE_URL": daemon.url,
            "ANTHROPIC_API_KEY": KEY,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_TELEMETRY": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_loop_of_tools_goes_on_in_one_process(daemon, simulator, tag, tmp_path):
    """It asks for tools to be deferred, and goes on without when that is refused."""
    before = len(daemon.log.records("request.done"))
    command = f'{{"command":"echo {tag} seen","description":"x"}}'
    prompt = f"{tag} [simulate thinking=1 text=hm tool=Bash input='{command}']"
    said = ask(daemon, tmp_path, prompt, "--model", "sonnet", "--allowedTools", "Bash")
    assert f'The tool said: "{tag} seen"' in said

    def answered():
        records = daemon.log.records("request.done")[before:]
        return [one for one in records if one["route"] == "/messages" and one["status"] == 200]

    assert wait_until(lambda: len(answered()) == 2)
    assert answered()[1]["process"] == "continued"
    first, second = (turns_upstream(one["body"]) for one in simulator.requests(tag))
    assert second[: len(first)] == first
    assert [role for role, _ in second] == ["user", "assistant", "user"]
    assert [block["type"] for block in second[1][1]] == ["thinking", "text", "tool_use"]
