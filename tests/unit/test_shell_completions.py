"""What completes the command line, in the real shells."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from claude_proxy.claude.models import ALWAYS
from claude_proxy.client_settings import CLIENTS
from claude_proxy.command_line import COMMANDS, PLAIN, Invocation
from claude_proxy.commands.completions import run, text
from claude_proxy.settings import CHOICES, OPTIONS, Settings, UsageError
from claude_proxy.shell_completions import SHELLS
from tests.terminal import Terminal

FLAGS = {plain.flag for plain in PLAIN} | {option.flag for option in OPTIONS.values()}
SHORT = {"-h", "-m"}
# What a person has typed, and all that there is to go on with.
OFFERS = {
    "claude-proxy ": {*COMMANDS},
    "claude-proxy --port 80 ": {*COMMANDS},
    "claude-proxy in": {"install"},
    "claude-proxy config ": {*CLIENTS},
    "claude-proxy config openai ": set(),
    "claude-proxy -m opus completions ": {*SHELLS},
    "claude-proxy key ": set(),
    "claude-proxy --log-level ": {*CHOICES["log_level"]},
    "claude-proxy --log-format js": {"json"},
    "claude-proxy --model ": {*ALWAYS},
    "claude-proxy -m ": {*ALWAYS},
    "claude-proxy --port ": set(),
    "claude-proxy --api-key ": set(),
    "claude-proxy --config ": {"a b", "folder"},
    "claude-proxy --claude fo": {"folder"},
    "claude-proxy install --dr": {"--dry-run", "--drain-timeout"},
    "claude-proxy --": FLAGS,
}
# What is typed, with a tabulator after it, and the words that the program then gets.
TYPED = {
    "inst": ["install"],
    "--log-level deb": ["--log-level", "debug"],
    "--log-level=deb": ["--log-level=debug"],
    "-m op": ["-m", "opus"],
    "config openai --dry": ["config", "openai", "--dry-run"],
    "--config fol": ["--config", "folder"],
    "--config=a": ["--config=a b"],
    "completions fi": ["completions", "fish"],
}
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
PREPARE = {
    "bash": "PS1='ready> '; bind 'set enable-bracketed-paste off'",
    "zsh": "PS1='ready> '; unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -D",
}
OF_BASH = """\
compopt() { :; } # which works only below a key
source completions
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_claude_proxy
((${#COMPREPLY[@]} == 0)) || printf '%s\\n' "${COMPREPLY[@]}"
"""


def needs(shell: str):
    reason = f"needs {shell}"
    return pytest.mark.skipif(shutil.which(shell) is None, reason=reason)


@pytest.fixture
def place(tmp_path):
    """A directory with two entries and nothing else of its own to offer."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "a b").touch()
    (here / "folder").mkdir()
    return here


def environment(place) -> dict[str, str]:
    home = place.parent
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8"}


def asked(place, *words: str) -> list[str]:
    done = subprocess.run(
        words, cwd=place, env=environment(place), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@needs("bash")
def test_bash_offers_what_there_is(place):
    script = place.parent / "script"
    script.write_text(OF_BASH.replace("source completions", f"source '{place.parent}/c'"))
    (place.parent / "c").write_text(text("bash"))
    for line, offers in OFFERS.items():
        got = asked(place, "bash", str(script), *line.split(" "))
        assert set(got) - SHORT == offers, line
        assert len(got) == len(set(got)), line


@needs("fish")
def test_fish_offers_what_there_is(place):
    script = place.parent / "c.fish"
    script.write_text(text("fish"))
    lines = "; ".join(f"echo '# {line}'; complete -C '{line}'" for line in OFFERS)
    got: dict[str, set[str]] = {}
    for said in asked(place, "fish", "--no-config", "-c", f"source {script}; {lines}"):
        if said.startswith("# "):
            offered = got.setdefault(said[2:], set())
        else:
            offered.add(said.split("\t")[0].rstrip("/"))
    assert got == OFFERS


@pytest.mark.parametrize("shell", [pytest.param(shell, marks=needs(shell)) for shell in START])
def test_a_tabulator_finishes_a_word(place, shell):
    (place.parent / "c").write_text(text(shell))
    terminal = Terminal(START[shell], environment(place), cwd=place)
    try:
        terminal.type(f"{PREPARE[shell]}; source ../c\n")
        terminal.type("claude-proxy() { printf '<%s>' \"$@\"; echo; }; echo that was all\n")
        terminal.wait_for(r"\nthat was all\r\n")
        for typed, words in TYPED.items():
            terminal.wait_for("ready> ")
            terminal.type(f"claude-proxy {typed}\t\n")
            # zsh takes the slash of a directory away again.
            got = terminal.wait_for(r"\n(<.*>)\r\n")[1].replace("/>", ">")
            assert got == "".join(f"<{word}>" for word in words), typed
        terminal.type("exit\n")
        assert terminal.finish() == 0
    finally:
        terminal.close()


@needs("zsh")
def test_zsh_knows_every_flag(place):
    """As a file of ``fpath``, where the shell's own function looks the flags up."""
    (place.parent / "_claude-proxy").write_text(text("zsh"))
    terminal = Terminal(START["zsh"], environment(place), cwd=place)
    try:
        terminal.type("PS1='ready> '; LISTMAX=9999; setopt nolistpacked; fpath=(.. $fpath)\n")
        terminal.type("autoload -Uz compinit; compinit -u -D; echo that was all\n")
        terminal.wait_for(r"\nthat was all\r\n")
        terminal.wait_for("ready> ")
        terminal.type("claude-proxy --\t")
        left = {f"{flag} " for flag in FLAGS}
        while left:
            left.discard(terminal.wait_for("(" + "|".join(left) + ")")[1])
    finally:
        terminal.close()


@pytest.mark.parametrize("words", [(), ("tcsh",)])
def test_without_a_shell_that_it_knows_it_says_which_there_are(words):
    with pytest.raises(UsageError, match="one of bash, zsh, fish"):
        run(Invocation(Settings(), "completions", words=words), {})
