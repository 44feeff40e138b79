"""The programs that `claude-proxy config` prints run as they stand, and get their answer."""

from __future__ import annotations

import pytest

GREETING = "Hello!"


@pytest.mark.parametrize(
    ("client", "interpreter"),
    [
        ("openai", "python"),
        ("langchain", "python"),
        ("pydantic-ai", "python"),
        ("openai-agents", "python"),
        ("litellm", "litellm"),
    ],
)
def test_a_program_in_python_runs_as_it_is_printed(desk, installed, client, interpreter):
    python = installed(interpreter)
    (desk.work / "program.py").write_text(desk.printed(client)["your program"])
    said = desk.sh(f"{python} program.py", LITELLM_LOCAL_MODEL_COST_MAP="True")
    assert GREETING in said
    desk.was_clean()


@pytest.mark.parametrize("client", ["openai-node", "vercel"])
def test_a_program_in_javascript_runs_as_it_is_printed(desk, installed, client):
    packages, node = installed("javascript").parents[1], installed("node")
    (desk.work / "node_modules").symlink_to(packages)
    (desk.work / "program.mjs").write_text(desk.printed(client)["your program, an ES module"])
    said = desk.sh("node program.mjs", node)
    assert GREETING in said
    desk.was_clean()
