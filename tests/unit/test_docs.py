"""README.md and docs/: tables are the program's, each block says how it is run, no link is dead."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import shlex
import subprocess

import pytest

from claude_proxy import __version__
from claude_proxy.command_line import COMMANDS, SERVE, load
from claude_proxy.settings import GROUPS, shown_default
from tests.documents import HOW, PAGES, ROOT, blocks, inline

# What else is shown within sentences: the test that runs it, or why none does.
ELSEWHERE = {
    "claude --print": "tests/integration/test_processes.py",
    "claude auth login": "tests/integration/test_docs.py",
    "claude setup-token": "tests/integration/test_docs.py",
    "claude update": "tests/integration/test_docs.py",
    "systemd-socket-activate -l 127.0.0.1:8080 claude-proxy": "tests/systemd/test_activate.py",
    "systemd-analyze security": "tests/systemd/test_trust.py",
    "man claude-proxy": "tests/unit/test_manual.py",
    "loginctl enable-linger": "needs logind, which the lab has not",
    "nix flake check": "needs a Nix that builds; docs/development.md says that it has not run",
    "nix flake check --no-build": "likewise",
    "ssh -L": "a mention",
    "pipx install": "a mention; the README has it whole",
    "pipx run --spec": "tried by hand, as docs/releasing.md says",
    "uv tool install": "a mention; the README has it whole",
    "uvx --from": "tried by hand, as docs/releasing.md says",
    "uvx 'claude-proxy[cli]' --demo": "it is not on PyPI yet",
    "twine upload": "whoever publishes it decides on that",
}
PROGRAMS = {text.split()[0] for text in ELSEWHERE} | {"sudo", "pip", "python", "npm", "curl"}


def settings_table() -> str:
    rows = ["| flag | variable | default | what it sets |", "|---|---|---|---|"]
    for option in (option for group in GROUPS.values() for option in group):
        default = shown_default(option.name).removeprefix("; default ")
        flags = f"`{option.short}`, `{option.flag}`" if option.short else f"`{option.flag}`"
        shown = f"`{default}`" if default else ""
        text = option.help.replace("|", "\\|")
        rows.append(f"| {flags} | `{option.variable}` | {shown} | {text} |")
    return "\n".join(rows) + "\n"


def test_the_settings_table_is_true():
    table = settings_table()
    page = ROOT / "docs" / "settings.md"
    assert table in page.read_text(), f"the table should be:\n{table}"


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_how_a_test_runs_it(page):
    found = blocks(page)
    assert len(found) * 2 == len(re.findall(r"^\s*```", (ROOT / page).read_text(), re.MULTILINE))
    for block in found:
        assert block.how in HOW, f"{page}:{block.line}: no mark of docs/development.md"
        assert block.language in HOW[block.how], f"{page}:{block.line}: {block.language}"


def test_the_marks_are_explained_at_one_place():
    text = (ROOT / "docs" / "development.md").read_text()
    assert re.findall(r"^\| `([a-z -]+)` \|", text, re.MULTILINE) == list(HOW)


def test_a_command_within_a_sentence_is_one():
    """What is shown with a value in capitals is taken with that as its value."""
    for text in inline("claude-proxy"):
        assert load(shlex.split(text)[1:], {}).command in {SERVE, *COMMANDS}, text


def test_other_commands_within_sentences_are_known():
    """Those of systemctl and journalctl run in tests/systemd/test_docs.py."""
    for program in PROGRAMS:
        for text in inline(program):
            assert text in ELSEWHERE, text
    for where in ELSEWHERE.values():
        assert not where.startswith("tests/") or (ROOT / where).exists()


def test_a_key_is_hashed_as_the_page_says():
    (line,) = inline("printf")
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == hashlib.sha256(b"KEY").hexdigest()


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^):#]+)\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_changelog_has_this_version_above_all_others():
    """In the form of Keep a Changelog; what is not released yet may stand before it."""
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading for heading in headings if heading != "[Unreleased]"]
    assert headings in (released, ["[Unreleased]", *released])
    found = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", each) for each in released]
    assert found[0][1] == __version__
    days = [dt.date.fromisoformat(each[2]) for each in found]
    assert days == sorted(days, reverse=True)


def test_the_changelog_has_the_kinds_of_change_that_its_form_has():
    kinds = re.findall(r"^### (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
