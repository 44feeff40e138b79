"""``man claude-proxy``: all that ``--help`` has, in a form that both of the formatters take."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess

import pytest

from claude_proxy import manual
from claude_proxy.command_line import COMMANDS, PLAIN, SERVE, build_parser, load
from claude_proxy.exit_codes import MEANING
from claude_proxy.settings import OPTIONS
from tests.documents import ROOT

SECTIONS = [
    *("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS", "ENVIRONMENT", "FILES"),
    *("EXIT STATUS", "EXAMPLES", "SEE ALSO"),
]
# A day of its own is not in it, which mandoc would like.
LIKED = 'WARNING: missing date, using "": TH'


def sections() -> dict[str, str]:
    """The text of each, without the marks of roff."""
    plain = re.sub(r"\\f[BIR]|\\&", "", manual.page()).replace("\\-", "-").replace("\\(ti", "~")
    parts = re.split(r"^\.SH (.+)\n", plain, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_it_has_the_sections_that_a_manual_page_has():
    assert list(sections()) == SECTIONS


def test_every_command_flag_variable_and_exit_code_is_in_it():
    page = sections()
    for name in COMMANDS:
        assert re.search(rf"^\.TP\n{name}( [A-Z]+)?$", page["COMMANDS"], re.MULTILINE), name
    for flag in [*OPTIONS.values(), *PLAIN]:
        assert re.search(rf"^\.TP\n(-\w, )?{flag.flag}\b", page["OPTIONS"], re.MULTILINE), flag
    for option in OPTIONS.values():
        assert f".TP\n{option.variable}\n" in page["ENVIRONMENT"]
    for code in MEANING:
        assert f".TP\n{code}\n" in page["EXIT STATUS"]


def test_what_it_says_of_a_flag_is_what_help_says():
    def folded(text: str) -> str:
        """Lines break where the formatter breaks them, also within a word."""
        return re.sub(r"[\s`]", "", text)

    helped, page = folded(build_parser().format_help()), folded(sections()["OPTIONS"])
    for flag in [*OPTIONS.values(), *PLAIN]:
        assert folded(flag.help) in helped
        assert folded(flag.help) in page


@pytest.mark.parametrize("words", [words for _, words in manual.EXAMPLES])
def test_the_examples_are_command_lines(words):
    program, *argv = shlex.split(words)
    assert program == "claude-proxy"
    assert load(argv, {}).command in {SERVE, *COMMANDS}


def test_the_exit_codes_of_the_page_on_operations_are_these():
    line = re.search(
        r"^- \*\*Exit codes\*\*: (.+)$",
        (ROOT / "docs" / "operations.md").read_text(),
        re.MULTILINE,
    )
    assert {int(code) for code in re.findall(r"(?:^|; )(\d+)\b", line[1])} == set(MEANING)


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="needs mandoc")
def test_mandoc_has_nothing_else_to_say():
    done = subprocess.run(
        ["mandoc", "-T", "lint"], input=manual.page(), capture_output=True, text=True, check=False
    )
    assert [line for line in done.stdout.splitlines() if LIKED not in line] == []


@pytest.mark.skipif(shutil.which("man") is None, reason="needs man, with groff below it")
def test_man_shows_it_without_a_warning(tmp_path):
    done = subprocess.run(
        ["man", "--warnings", "--encoding=UTF-8", "--local-file", "-"],
        input=manual.page(),
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MANPAGER": "cat"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "claude-proxy --demo" in done.stdout
