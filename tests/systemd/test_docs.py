"""The commands of README.md and docs/ that need a systemd: the mark `lab`, in the pages' order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import httpx
import pytest

from tests.documents import Block, inline, marked
from tests.lab import wait_until
from tests.systemd.service import (
    HOME,
    NAME,
    PROGRAM,
    ROOT,
    SOCKET,
    UPSTREAM_KEY,
    chat,
    clear_home,
    hidden_paths,
    systemctl,
)

UNITS = HOME / ".config" / "systemd" / "user"
CONFIG = HOME / ".config" / "claude-proxy" / "config.toml"
WAIT = 60.0
# `check` warns of the lab's own variables, and has its own tests.
MAY_COMPLAIN = "claude-proxy check"


@pytest.fixture(scope="module")
def shell(simulator):
    """Runs a line as a person does; what the lines have installed is gone afterwards."""
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    environment = {name: os.environ[name] for name in ("HOME", "XDG_RUNTIME_DIR")}
    environment |= {"PATH": path, "SYSTEMD_PAGER": "", "LANG": "C.UTF-8"}
    PROGRAM.parent.mkdir(parents=True)
    PROGRAM.write_text(f'#!/bin/sh\ncd {ROOT}\nexec {sys.executable} -m claude_proxy "$@"\n')
    PROGRAM.chmod(0o755)
    systemctl(
        *("set-environment", f"ANTHROPIC_BASE_URL={simulator.url}"),
        f"ANTHROPIC_API_KEY={UPSTREAM_KEY}",
    )

    def run(line: str) -> str:
        """What it says on stdout; of what would follow for ever, the first line."""
        process = subprocess.Popen(
            ["bash", "-c", line], env=environment, stdout=subprocess.PIPE, text=True
        )
        with process:
            if line.endswith(" -f"):
                said = process.stdout.readline()
                process.kill()
                return said
            said, _ = process.communicate(timeout=WAIT)
        assert process.returncode in {0, int(line.startswith(MAY_COMPLAIN))}, f"{line}: {said}"
        return said

    yield run
    run("claude-proxy uninstall")
    systemctl("unset-environment", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY")
    clear_home()


def lines(language: str) -> list[object]:
    blocks = [block for block in marked("lab") if block.language == language]
    return [
        pytest.param(line, id=f"{block}-{number}")
        for block in blocks
        for number, line in enumerate(commands(block))
    ]


def commands(block: Block) -> list[str]:
    return [line.partition("  #")[0].rstrip() for line in block.text.splitlines() if line]


def see_through_tmp() -> None:
    """Where what the program is made of lies below /tmp, of which a service has its own."""
    drop_in = UNITS / f"{NAME}.d" / "lab.conf"
    drop_in.parent.mkdir(exist_ok=True)
    bound = "".join(f"BindReadOnlyPaths={path}\n" for path in hidden_paths())
    drop_in.write_text(f"[Service]\n{bound}")
    systemctl("daemon-reload")


@pytest.mark.parametrize("line", lines("sh"))
def test_it_works(shell, line):
    said = shell(line)
    assert said.strip()
    if line.startswith("claude-proxy install"):
        see_through_tmp()
        assert "base URL: http://127.0.0.1:8080/v1" in said
    if line.startswith("curl"):
        assert "sonnet" in {model["id"] for model in json.loads(said)["data"]}


@pytest.fixture(scope="module")
def lived(shell):
    """What the shown console has behind it: a request, and a configuration that is refused."""
    systemctl("start", SOCKET)
    headers = {
        "authorization": f"Bearer {shell('claude-proxy key').strip()}",
        "x-request-id": "req_abc",
    }
    with httpx.Client(base_url="http://127.0.0.1:8080", headers=headers, timeout=WAIT) as client:
        client.post("/v1/chat/completions", json=chat("Hello!")).raise_for_status()
    CONFIG.parent.mkdir(parents=True, exist_ok=True)
    CONFIG.write_text('max-concurrency = "many"\n')
    subprocess.run(["systemctl", "--user", "reload", NAME], check=False)
    CONFIG.unlink()
    refused = "journalctl --user -u claude-proxy -o cat EVENT=daemon.reload_refused"
    done = "journalctl --user -u claude-proxy -o cat EVENT=request.done REQUEST_ID=req_abc"
    assert wait_until(lambda: shell(refused) and shell(done), WAIT)
    return shell


def shown(block: Block) -> list[tuple[str, list[str]]]:
    """Each command of a console, and the lines that the page has below it."""
    parts = re.split(r"^\$ (.+)\n", block.text, flags=re.MULTILINE)
    return [(line, text.splitlines()) for line, text in zip(parts[1::2], parts[2::2], strict=True)]


@pytest.mark.parametrize(
    ("line", "page"),
    [pair for block in marked("lab") if block.language == "console" for pair in shown(block)],
)
def test_the_console_shows_what_it_says(lived, line, page):
    said = lived(line).splitlines()
    assert page
    for expected in page:
        assert any(is_like(expected, given) for given in said), "\n".join([expected, *said])


@pytest.mark.parametrize("line", inline("systemctl") + inline("journalctl"))
def test_what_stands_within_a_sentence_works(lived, line):
    """In the order of the alphabet, in which none takes away what the next one needs."""
    lived(line)


def is_like(expected: str, given: str) -> bool:
    """The same keys, where it is a record; else the same but for numbers, days and the login."""
    if expected.startswith("{") and given.startswith("{"):
        return json.loads(expected).keys() == json.loads(given).keys()
    return outline(expected) == outline(given)


def outline(text: str) -> str:
    """The words without what is different each time."""
    changing = r"since .*|logged in as \w+|login unknown|\d+ (living|spare|running)(, )?|idle, "
    known = re.sub(changing, "", text)
    return re.sub(r"[\d.]+", "0", known).strip()
