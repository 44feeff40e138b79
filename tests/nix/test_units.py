"""The units that Nix makes are the shipped ones: their text has one source, ``systemd/``."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from claude_proxy.commands import unit_text, units
from claude_proxy.listeners import Place
from tests.nix import evaluation
from tests.nix.evaluation import ROOT, Refused, evaluate, needs_nix, run

pytestmark = needs_nix

SHIPPED = ROOT / "systemd"
SERVICE, SOCKET, DROP_IN = "claude-proxy.service", "claude-proxy.socket", "no-sandbox.conf"
PROGRAM = "/nix/store/x/bin/claude-proxy"
OWN = {"ExecStart", "Environment", "UnsetEnvironment", "LoadCredential", "SetCredential"}

Unit = dict[str, dict[str, list[str]]]


def sections(text: str) -> Unit:
    """As systemd reads it: each setting's values in their order."""
    found: Unit = {}
    for line in text.splitlines():
        if section := re.fullmatch(r"\[(\w+)]", line):
            current = found.setdefault(section[1], {})
        elif line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            current.setdefault(name, []).append(value)
    return found


def shipped(name: str) -> Unit:
    return sections((SHIPPED / name).read_text())


def made(**changes: str) -> dict[str, Unit]:
    """What nix/units.nix makes; arguments are Nix."""
    return {
        kind: {
            section: {
                name: value if isinstance(value, list) else [value]
                for name, value in settings.items()
            }
            for section, settings in unit.items()
            if settings
        }
        for kind, unit in evaluation.units(**changes).items()
    }


def without(settings: dict[str, list[str]], names: set[str]) -> dict[str, list[str]]:
    return {name: value for name, value in settings.items() if name not in names}


@pytest.mark.parametrize(
    ("attribute", "name"), [("service", SERVICE), ("socket", SOCKET), ("noSandbox", DROP_IN)]
)
def test_the_files_are_read_as_systemd_reads_them(attribute, name):
    assert evaluate(f"(import {ROOT}/nix/units.nix).shipped.{attribute}") == shipped(name)


@pytest.mark.parametrize(
    "line", ["no setting", "Name=goes on\\", "=value", "Name=before a section"]
)
def test_what_it_cannot_read_is_an_error(tmp_path, line):
    (tmp_path / "unit").write_text(f"# comment\n\n{line}\n[Section]\n")
    with pytest.raises(Refused, match="this line is no unit file's"):
        evaluate(f"(import {ROOT}/nix/units.nix).parse {tmp_path}/unit")


def test_all_but_its_own_lines_is_as_shipped():
    here, there = made()["service"], shipped(SERVICE)
    assert here["Unit"] == there["Unit"]
    assert without(here["Service"], OWN) == without(there["Service"], OWN)
    assert "Install" not in here
    assert made()["socket"] == shipped(SOCKET)


def test_it_is_what_install_writes():
    """Of the very same program, flags and variables."""
    here = made(
        arguments='[ "--config=/etc/a b%.toml" "--idle-exit=0" ]',
        environment='{ X = "5% of \\"$HOME\\""; }',
        path='[ "/a" "/b" ]',
        credentials='{ api-key = "/run/secrets/my key%"; }',
    )["service"]
    command = units.Command(
        [PROGRAM],
        ["--config=/etc/a b%.toml", "--idle-exit=0"],
        {"PATH": "/a:/b", "X": '5% of "$HOME"'},
        Path("/run/secrets/my key%"),
    )
    written = units.service((SHIPPED / SERVICE).read_text(), "1", command)
    there = sections(written)
    assert here["Unit"] == there["Unit"]
    assert without(here["Service"], OWN) == without(there["Service"], OWN)
    for name in ("ExecStart", "Environment"):
        words = [[shlex.split(value) for value in unit["Service"][name]] for unit in (here, there)]
        assert words[0] == words[1]
    for name in ("LoadCredential", "SetCredential"):
        assert here["Service"][name] == there["Service"][name]
    assert unit_text.words_of(f"ExecStart={here['Service']['ExecStart'][0]}") == [
        *(PROGRAM, "--config=/etc/a b%.toml", "--idle-exit=0")
    ]


def test_specifiers_work_in_the_path_alone():
    here = made(environment='{ X = "%h"; }')["service"]["Service"]["Environment"]
    assert here == ['"PATH=/a/bin:%h/bin"', '"X=%%h"']


def test_without_a_sandbox_the_drop_in_counts():
    here = made(sandbox="false")["service"]["Service"]
    assert without(here, OWN) == without(
        shipped(SERVICE)["Service"] | shipped(DROP_IN)["Service"], OWN
    )


def test_without_socket_activation_the_service_stands_alone():
    units = made(socketActivation="false")
    assert units.keys() == {"service"}
    assert units["service"]["Install"] == {"WantedBy": ["default.target"]}
    assert units["service"]["Unit"] == without(shipped(SERVICE)["Unit"], {"Requires", "After"})


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8080", "[::1]:9000", "0.0.0.0:80", "[::]:80", "192.168.1.5:80", "[fd00::1]:80"],
)
def test_the_socket_listens_as_the_one_of_install_does(address):
    here = made(listen=f'[ "{address}" ]')["socket"]
    written = units.socket((SHIPPED / SOCKET).read_text(), "1", [Place.of(address)])
    assert here == sections(written)
    assert here["Socket"]["ListenStream"] == [address, "%t/claude-proxy/claude-proxy.sock"]


FILES = [ROOT / "flake.nix", *ROOT.glob("nix/**/*.nix"), *ROOT.glob("tests/nix/**/*.nix")]


@pytest.mark.parametrize("path", sorted(FILES), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_of_nix_parses(path):
    assert run("--parse", str(path))
