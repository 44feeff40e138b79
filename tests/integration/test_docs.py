"""The blocks of README.md and docs/ that are run here: marks `demo`, `stand-ins` and `tree`.

The demo itself is started by the README's own first command.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib

import pytest

from claude_proxy.claude.cli import bundled_path
from tests.documents import ROOT, Block, inline, marked
from tests.lab import WAIT, LogReader

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# What would change the machine, or fetch something; it only says what it was asked.
STAND_IN = """\
#!/bin/sh
echo "stand-in: ${0##*/} $*" >&2
"""
# `python3 -m venv DIRECTORY`, and nothing else.
VENV = """\
#!/bin/sh
[ "$1 $2" = "-m venv" ] || exit 1
mkdir -p "$3/bin"
for name in pip claude-proxy python; do ln -s "{bin}/$name" "$3/bin/$name"; done
"""
# Runs the program that an installer would have fetched.
RUNNER = """\
#!/bin/sh
while [ $# -gt 0 ]; do
  [ "$1" = claude-proxy ] && exec "$@"
  shift
done
"""
STAND_INS = {
    **dict.fromkeys(("pip", "pipx", "uv", "nix", "systemctl"), STAND_IN),
    "python3": VENV,
    "uvx": RUNNER,
    "claude-proxy": f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m claude_proxy "$@"\n',
    "python": f'#!/bin/sh\nPYTHONDONTWRITEBYTECODE=1 exec {sys.executable} "$@"\n',
}
START = next(block for block in marked("stand-ins") if "--demo" in block.text)


class Place:
    """An empty home, where the commands find stand-ins first."""

    def __init__(self, home) -> None:
        self.home = self.directory = home
        self.url = ""
        self.bin = home / "stand-ins"
        self.bin.mkdir()
        for name, text in STAND_INS.items():
            (self.bin / name).write_text(text.replace("{bin}", str(self.bin)))
            (self.bin / name).chmod(0o755)
        path = f"{self.bin}:{os.environ['PATH']}"
        self.environment = {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8"}

    def words(self, block: Block) -> list[str]:
        text = block.text.replace("http://127.0.0.1:8080", self.url or "http://127.0.0.1:8080")
        if block.language == "python":
            return ["python", "-c", text]
        return ["bash", "-euo", "pipefail", "-c", text]

    def run(self, block: Block) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.words(block),
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert done.returncode == 0, f"{block}: {done.stderr}"
        return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("home"))
    process = subprocess.Popen(
        place.words(START),
        cwd=place.home,
        env={**place.environment, "PORT": "0"},
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    log = LogReader(process.stderr)
    try:
        place.url = log.wait_for("daemon.listening")["address"]
        yield place
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(WAIT)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.finish()


def needed(block: Block) -> None:
    for program in ("curl", "man"):
        if re.search(rf"(^|\| ){program} ", block.text, re.MULTILINE) and not shutil.which(program):
            pytest.skip(f"needs {program}")


@pytest.mark.parametrize("block", marked("demo"), ids=str)
def test_it_works_beside_the_demo(demo, block):
    needed(block)
    said = demo.run(block).stdout.strip()
    assert said, "it says nothing"
    if "curl" in block.text and '"stream":true' in block.text:
        assert said.endswith("data: [DONE]")


@pytest.mark.parametrize("block", [b for b in marked("stand-ins") if b != START], ids=str)
def test_it_is_a_command_line(tmp_path, block):
    needed(block)
    Place(tmp_path).run(block)
    for extra in re.findall(r"(?:\.|claude-proxy)\[(\w+)\]", block.text):
        assert extra in EXTRAS


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("home"))
    away = shutil.ignore_patterns(".*", "__pycache__", "dist", "result*")
    shutil.copytree(ROOT, place.home / "tree", ignore=away)
    place.directory = place.home / "tree"
    return place


@pytest.mark.parametrize("block", marked("tree"), ids=str)
def test_it_changes_no_file_of_the_tree(tree, block):
    def files() -> dict[str, bytes]:
        found = [path for path in tree.directory.rglob("*") if path.is_file()]
        return {str(path): path.read_bytes() for path in found if "__pycache__" not in path.parts}

    before = files()
    tree.run(block)
    assert before.items() <= files().items()
    if "build" in block.text:
        assert len(list((tree.directory / "dist").iterdir())) == 2


@pytest.mark.skipif(bundled_path() is None, reason="needs the CLI of the extra cli")
def test_the_cli_has_the_commands_that_the_pages_name(tmp_path):
    def helped(*words: str) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        command = [bundled_path(), *words, "--help"]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout

    whole, auth = helped(), helped("auth")
    for line in inline("claude"):
        name, *below = line.split()[1:]
        assert re.search(rf"^ +{name}\b", whole, re.MULTILINE) or name in whole, line
        assert all(re.search(rf"^ +{word}\b", auth, re.MULTILINE) for word in below), line
