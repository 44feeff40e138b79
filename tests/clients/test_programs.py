"""The programs that `claude-proxy config` prints run as they stand, and get their answer."""

from __future__ import annotations

import pytest

GREETING = "Hello!"


@pytest.mark.parametrize(
    "client", ["openai", "anthropic", "langchain", "pydantic-ai", "openai-agents"]
)
def test_a_program_in_python_runs_as_it_is_printed(desk, installed, client):
    python = installed("python")
    (desk.work / "program.py").write_text(desk.printed(client)["your program"])
    said = desk.sh(f"{python} program.py")
    assert GREETING in said
    desk.was_clean()


@pytest.mark.parametrize("client", ["openai-node", "anthropic-node", "vercel"])
def test_a_program_in_javascript_runs_as_it_is_printed(desk, installed, client):
    packages, node = installed("javascript").parents[1], installed("node")
    (desk.work / "node_modules").symlink_to(packages)
    (desk.work / "program.mjs").write_text(desk.printed(client)["your program, an ES module"])
    said = desk.sh("node program.mjs", node)
    assert GREETING in said
    desk.was_clean()


def test_python_asks_for_a_key_that_is_in_no_file_of_its_own(desk, installed):
    python = installed("python")
    desk.note_on_key()
    (desk.work / "program.py").write_text(program := desk.printed("openai")["your program"])
    assert "check_output" in program
    assert GREETING in desk.sh(f"{python} program.py")
    desk.was_clean()


def test_javascript_asks_for_a_key_that_is_in_no_file_of_its_own(desk, installed):
    packages, node = installed("javascript").parents[1], installed("node")
    desk.note_on_key()
    (desk.work / "node_modules").symlink_to(packages)
    program = desk.printed("openai-node")["your program, an ES module"]
    (desk.work / "program.mjs").write_text(program)
    assert "execFileSync" in program
    assert GREETING in desk.sh("node program.mjs", node)
    desk.was_clean()
