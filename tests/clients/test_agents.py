"""Agents and tools of the terminal, each with the files that `config --write` makes for it."""

from __future__ import annotations

import json

from tests.clients.desk import quoted


def test_codex(desk, installed):
    codex = installed("codex")
    start = desk.take("codex")
    words = ["exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", desk.prompt]
    assert desk.answer in desk.sh(start + quoted(*words), codex)
    desk.was_clean()


def test_opencode(desk, installed):
    opencode = installed("opencode")
    start = desk.take("opencode")
    (desk.work / "prompt").write_text(desk.prompt)
    said = desk.sh(f"{start} run --format json < prompt", opencode, PWD=str(desk.work))
    assert desk.answer in said
    desk.was_clean()


def test_continue(desk, installed):
    cn, node = installed("cn"), installed("node")
    start = desk.take("continue")
    assert desk.answer in desk.sh(start + quoted("-p", desk.prompt), cn, node)
    desk.was_clean()


def test_cline(desk, installed):
    cline = installed("cline")
    start = desk.take("cline")
    ask = "cline --json -P openai-compatible" + quoted(desk.prompt)
    assert desk.answer in desk.sh(f"{start}\n{ask}", cline)
    desk.was_clean()


def test_llm(desk, installed):
    llm = installed("llm")
    start = desk.take("llm")
    assert "Hello!" in desk.sh(start, llm)
    desk.was_clean()


def test_aider(desk, installed):
    aider = installed("aider")
    start = desk.take("aider")
    words = ["--message", desk.prompt, "--yes-always", "--no-git", "--no-check-update"]
    said = desk.sh(
        start + quoted(*words, "--analytics-disable", "--no-show-release-notes"),
        aider,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    assert desk.answer in said
    desk.was_clean()


def test_openclaw(desk, installed):
    openclaw, node = installed("openclaw"), installed("node")
    start = desk.take("openclaw")
    ask = "openclaw agent exec --json" + quoted("--cwd", str(desk.work), desk.prompt)
    said = desk.sh(f"{start} >&2\n{ask}", openclaw, node)
    assert desk.answer in json.dumps(json.loads(said))
    desk.was_clean()


def test_litellm(desk, installed):
    """The program, and the gateway's file by the router, which takes the same list: the gateway
    itself is a large installation.
    """
    python = installed("litellm")
    printed = desk.printed("litellm")
    desk.config("litellm", "--write")
    export, run = printed["in a shell, for its gateway"].strip().splitlines()
    (desk.work / "program.py").write_text(printed["your program"])
    (desk.work / "both.py").write_text(
        f"""
import runpy, yaml, litellm
runpy.run_path("program.py")
router = litellm.Router(yaml.safe_load(open({run.split()[-1]!r}))["model_list"])
answer = router.completion("opus", [{{"role": "user", "content": {desk.prompt!r}}}])
print(answer.choices[0].message.content)
"""
    )
    said = desk.sh(f"{export}\n{python} both.py", LITELLM_LOCAL_MODEL_COST_MAP="True")
    assert "Hello!" in said
    assert desk.answer in said
    desk.was_clean()
