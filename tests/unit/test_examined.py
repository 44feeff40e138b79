"""What the CLI said about itself is asked once per file of it: with a script that counts."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_proxy.claude.cli import Cli, stamp
from claude_proxy.claude.examined import NAME, examine
from claude_proxy.settings import ConfigurationError
from tests.unit.fake_cli import run, script

ENVIRONMENT = {"PATH": os.environ["PATH"]}
VERSION = "2.1.330"


class Program:
    """A CLI that writes down each of its runs."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "claude"
        self.kept = directory / "cache" / "claude-proxy"
        self._runs = directory / "runs"
        self.install()

    def install(self, version: str = VERSION, *more: str) -> None:
        """In a new file, as an upgrade does."""
        draft = self.path.with_name("draft")
        script(draft, f"echo >> '{self._runs}'", *more, f"echo '{version} (Claude Code)'")
        draft.replace(self.path)

    @property
    def runs(self) -> int:
        return len(self._runs.read_text()) if self._runs.exists() else 0

    def examine(self, directory: Path | None = None) -> Cli:
        return run(lambda: examine(self.path, ENVIRONMENT, directory or self.kept))


@pytest.fixture
def program(tmp_path) -> Program:
    return Program(tmp_path)


def test_the_same_file_is_asked_once(program):
    assert [program.examine() for _ in range(3)] == [Cli(program.path, VERSION)] * 3
    assert program.runs == 1


def test_an_upgrade_is_asked_anew(program):
    program.examine()
    program.install("2.2.0")
    assert [program.examine().version for _ in range(2)] == ["2.2.0", "2.2.0"]
    assert program.runs == 2


def test_another_link_to_a_known_file_needs_no_question(program, tmp_path):
    program.examine()
    link = tmp_path / "link"
    link.symlink_to(program.path)
    assert run(lambda: examine(link, ENVIRONMENT, program.kept)) == Cli(link, VERSION)
    assert program.runs == 1


def test_without_a_place_to_keep_it_is_asked_each_time(program):
    for _ in range(2):
        assert run(lambda: examine(program.path, ENVIRONMENT, None)).version == VERSION
    assert program.runs == 2
    assert not program.kept.exists()


def test_only_the_answer_is_kept_in_a_private_directory(program):
    program.examine()
    assert [entry.name for entry in program.kept.iterdir()] == [NAME]
    assert stat.S_IMODE(program.kept.stat().st_mode) == 0o700
    known = json.loads((program.kept / NAME).read_bytes())
    assert known == {"stamp": list(stamp(program.path)), "version": VERSION}


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None
)
@given(st.binary() | st.sampled_from([b"{}", b"null", b'{"stamp":[],"version":"9.9.9"}']))
def test_whatever_lies_there_instead_is_replaced(program, content):
    program.kept.mkdir(parents=True, exist_ok=True)
    (program.kept / NAME).write_bytes(content)
    before = program.runs
    assert [program.examine().version for _ in range(2)] == [VERSION, VERSION]
    assert program.runs == before + 1


@pytest.mark.parametrize("version", ["1.0.0", "", "new", "2..1", "2.1.x"])
def test_a_known_version_that_would_not_do_is_asked_anew(program, version):
    """The least version rises with this program."""
    program.kept.mkdir(parents=True)
    known = {"stamp": stamp(program.path), "version": version}
    (program.kept / NAME).write_text(json.dumps(known))
    assert program.examine().version == VERSION
    assert program.runs == 1


@pytest.mark.parametrize("in_the_way", ["cache", f"cache/claude-proxy/{NAME}/x"])
def test_what_cannot_be_kept_is_asked_again(program, tmp_path, in_the_way):
    (tmp_path / in_the_way).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / in_the_way).write_text("in the way")
    assert [program.examine().version for _ in range(2)] == [VERSION, VERSION]
    assert program.runs == 2


def test_a_file_that_changes_while_it_is_asked_is_not_known(program):
    program.install(VERSION, 'touch -d "@$(date +%s).5" "$0"; echo "#" >> "$0"')
    assert program.examine().version == VERSION
    assert not program.kept.exists()


def test_a_file_that_will_not_do_is_refused_each_time(program):
    program.install("1.0.0")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"1\.0\.0"):
            program.examine()
    assert program.runs == 2
    assert not program.kept.exists()


def test_a_file_that_is_gone_is_refused_however_well_it_was_known(program):
    program.examine()
    program.path.unlink()
    with pytest.raises(ConfigurationError, match="does not run"):
        program.examine()
