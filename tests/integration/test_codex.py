"""The real Codex CLI as a client: what it shows of a turn, and what of it reaches Anthropic.

Its binary is $CODEX_BIN, or `codex` in the PATH; `npm install @openai/codex` brings one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.lab import KEY, WAIT, system_upstream, text_block, turns_upstream

FAKE = str(Path(__file__).parent.parent / "fakes" / "claude")
CODEX = os.environ.get("CODEX_BIN") or shutil.which("codex")
pytestmark = pytest.mark.skipif(
    CODEX is None,
    reason="no Codex CLI: neither $CODEX_BIN nor `codex` in the PATH (npm: @openai/codex)",
)
CONFIG = """
model = "sonnet"
model_provider = "lab"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.lab]
name = "lab"
base_url = "{url}/v1"
env_key = "LAB_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = {retries}
"""


@pytest.fixture
def codex(tmp_path):
    """Runs Codex once, in an empty directory and with a home of its own; gives its events."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()

    def run(
        url: str, prompt: str, retries: int = 0, *, succeeds: bool = True
    ) -> list[dict[str, Any]]:
        (home / "config.toml").write_text(CONFIG.format(url=url, retries=retries))
        command = [CODEX, "exec", "--json", "--skip-git-repo-check"]
        process = subprocess.Popen(
            [*command, "--sandbox", "danger-full-access", prompt],
            cwd=work,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "CODEX_HOME": str(home),
                "LAB_KEY": KEY,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                printed, complaints = process.communicate(timeout=WAIT)
            finally:  # npm's `codex` is a script that starts the binary: both go
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        assert (process.returncode == 0) is succeeds, printed + complaints
        return [json.loads(line) for line in printed.splitlines()]

    run.work = work
    return run


def items(events, kind):
    """The finished ones of that type."""
    finished = [event["item"] for event in events if event["type"] == "item.completed"]
    return [item for item in finished if item["type"] == kind]


def test_a_turn_of_text(daemon, simulator, codex, tag):
    prompt = f"{tag} [simulate text='It was the north wind, \"said\" she.']"
    events = codex(daemon.url, prompt)
    (message,) = items(events, "agent_message")
    assert message["text"] == 'It was the north wind, "said" she.'
    assert events[-1]["type"] == "turn.completed"
    assert events[-1]["usage"]["input_tokens"] > 1000
    assert events[-1]["usage"]["output_tokens"] > 0

    (request,) = simulator.requests(tag)
    assert "running in the Codex CLI" in "\n".join(system_upstream(request["body"]))
    offered = [tool["name"] for tool in request["body"]["tools"]]
    assert {"exec_command", "write_stdin", "view_image"} <= set(offered)
    assert "web_search" not in offered
    ((role, blocks),) = turns_upstream(request["body"])
    assert role == "user"
    assert "<environment_context>" in blocks[0]["text"]
    assert blocks[-1] == text_block(prompt)


def test_it_runs_a_command_and_says_what_came_of_it(start, simulator, codex, tag):
    daemon = start()
    # the output is not in the command: whoever has it has run the command
    arguments = {"cmd": f"echo $((6*7))-{tag} > made.txt; cat made.txt"}
    told = f"text='Let me see.' tool=exec_command input='{json.dumps(arguments)}'"
    events = codex(daemon.url, f"{tag} [simulate {told}]")
    output = f"42-{tag}"
    assert (codex.work / "made.txt").read_text() == f"{output}\n"
    (command,) = items(events, "command_execution")
    assert command["aggregated_output"] == f"{output}\n"
    assert (command["exit_code"], command["status"]) == (0, "completed")
    before, after = items(events, "agent_message")
    assert before["text"] == "Let me see."
    assert "The tool said" in after["text"]
    assert output in after["text"]
    assert events[-1]["type"] == "turn.completed"

    daemon.log.wait_for("request.done", process="continued")
    _, request = simulator.requests(tag)
    asked, called, answered = turns_upstream(request["body"])
    assert [role for role, _ in (asked, called, answered)] == ["user", "assistant", "user"]
    said, use = called[1]
    assert said == text_block("Let me see.")
    assert (use["type"], use["name"], use["input"]) == ("tool_use", "exec_command", arguments)
    (result,) = answered[1]
    assert (result["type"], result["tool_use_id"]) == ("tool_result", use["id"])
    assert output in result["content"][0]["text"]


def test_a_plans_limit_ends_it_at_once(start, codex):
    daemon = start("--claude", FAKE, upstream=None)
    *_, last = codex(daemon.url, "limit", retries=5, succeeds=False)
    assert last["type"] == "turn.failed"
    assert "hit your usage limit" in last["error"]["message"]
    daemon.log.wait_for("request.done")
    assert len(daemon.log.records("request.done")) == 1


@pytest.mark.parametrize(
    "what",
    [
        "text='a b c d e' stream_error=3",
        "text='a b c d e' tool=exec_command input='{\"cmd\":\"true\"}' stream_error=7",
    ],
)
def test_it_asks_again_for_an_answer_that_broke_off(daemon, simulator, codex, tag, what):
    """What was whole of it comes back as history that nobody has answered."""
    events = codex(daemon.url, f"{tag} [simulate {what} times=1]", retries=2)
    assert events[-1]["type"] == "turn.completed"
    assert items(events, "agent_message")[-1]["text"].startswith(("a b c d e", "This is"))
    first, *_, last = simulator.requests(tag)
    assert turns_upstream(last["body"])[0] == turns_upstream(first["body"])[0]
