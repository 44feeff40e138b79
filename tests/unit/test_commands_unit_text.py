"""What is read from a unit's text is what systemd would make of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_proxy.commands import unit_text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/a b", ["/a", "b"]),
        ("-/a b", ["/a", "b"]),
        ("@-/a b", ["/a", "b"]),
        (":/a '%h/b' %%c $$d", ["/a", "/home/me/b", "%c", "$d"]),
        ("/a \\\n  --port=1 \\\n# in between\n  --demo", ["/a", "--port=1", "--demo"]),
        ('/a "open', []),
    ],
)
def test_the_words_of_a_command(line, words):
    text = f"[Service]\nExecStart = {line}\nType=notify\n"
    assert unit_text.words_of(text, "/home/me") == words


def test_the_last_command_counts_and_an_empty_one_forgets():
    text = "ExecStart=/a\nExecStart=\nExecStart=/b c\n"
    assert unit_text.words_of(text) == ["/b", "c"]
    assert unit_text.words_of("ExecStart=/a\nExecStart=\n") == []


def test_a_credential_is_a_file_or_the_key_itself():
    text = "LoadCredential=other:/x\nLoadCredential=api-key:%h/a b%%\nLoadCredential=last:/y\n"
    assert unit_text.credential_of(text, "/home/me") == "/home/me/a b%"
    assert unit_text.credential_of(f"{text}LoadCredential=\n") is None
    runtime = unit_text.credential_of("LoadCredential=api-key:%t/agenix/a\n")
    assert runtime == f"/run/user/{os.getuid()}/agenix/a"
    assert unit_text.key_in("SetCredential=api-key:sk-100%%\n") == "sk-100%"
    assert unit_text.key_in("SetCredential=api-key:no file\n") is None
    assert unit_text.key_in(text) is None


def test_variables_are_quoted_as_in_a_unit():
    text = "Environment=A=1 \"B=two words\" 'C=%h'\nEnvironment=D= nonsense\n"
    found = unit_text.variables_of(text, "/home/me")
    assert found == {"A": "1", "B": "two words", "C": "/home/me", "D": ""}


def test_variables_that_are_taken_away():
    assert unit_text.unset("UnsetEnvironment=A B\nUnsetEnvironment=C\n") == {"A", "B", "C"}
    assert unit_text.unset("UnsetEnvironment=A\nUnsetEnvironment=\n") == set()


def test_files_of_variables():
    text = "EnvironmentFile=-%h/a\nEnvironmentFile=/b c\n"
    assert unit_text.environment_files(text, "/home/me") == [Path("/home/me/a"), Path("/b c")]
    content = '# no\n; no\nA=1\n B = two words \nC="x y"\nD=\nE=long \\\nend\nnonsense\n'
    assert unit_text.variables_in(content) == {
        "A": "1",
        "B": "two words",
        "C": "x y",
        "D": "",
        "E": "long end",
    }
