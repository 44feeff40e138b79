"""Nix, asked to evaluate: no build, no daemon, no store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HERE = ROOT / "tests" / "nix"
WAIT = 120.0
NIX = shutil.which("nix-instantiate")
# Checkouts, if they are at hand: of nixpkgs (its `lib` is enough), and of home-manager.
NIXPKGS = os.environ.get("NIXPKGS")
HOME_MANAGER = os.environ.get("HOME_MANAGER")

needs_nix = pytest.mark.skipif(NIX is None, reason="needs nix-instantiate, from nix-bin or Nix")
needs_nixpkgs = pytest.mark.skipif(
    NIX is None or NIXPKGS is None,
    reason="needs nix-instantiate, and NIXPKGS: a checkout of nixpkgs or nixpkgs.lib",
)
needs_home_manager = pytest.mark.skipif(
    NIX is None or NIXPKGS is None or HOME_MANAGER is None,
    reason="needs nix-instantiate, NIXPKGS, and HOME_MANAGER: a checkout of home-manager",
)


class Refused(Exception):
    """What Nix complains of."""


def run(*arguments: str) -> str:
    """Raises Refused."""
    done = subprocess.run(
        ["nix-instantiate", "--store", "dummy://", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "NIX_PATH": "", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


def evaluate(expression: str) -> Any:
    return json.loads(run("--eval", "--strict", "--json", "--expr", expression))


def units(**given: str) -> Any:
    """What nix/units.nix makes of these arguments, which are Nix; the others are the plainest."""
    arguments = {
        "program": '"/nix/store/x/bin/claude-proxy"',
        "arguments": "[ ]",
        "environment": "{ }",
        "unset": "[ ]",
        "path": '[ "/a/bin" "%h/bin" ]',
        "credentials": "{ }",
        "sandbox": "true",
        "socketActivation": "true",
        "listen": '[ "127.0.0.1:8080" ]',
    } | given
    text = " ".join(f"{name} = {value};" for name, value in arguments.items())
    return evaluate(f"(import {ROOT}/nix/units.nix).units {{ {text} }}")


def nixpkgs(directory: Path) -> Path:
    """``NIXPKGS``, in ``directory`` made up to what home-manager asks of it."""
    given = Path(NIXPKGS or "")
    if (given / "nixos").is_dir():
        return given
    library = given / "lib"
    (directory / "lib").symlink_to(library if library.is_dir() else given)
    misc = directory / "nixos" / "modules" / "misc"
    misc.mkdir(parents=True)
    for name in ("assertions.nix", "meta.nix"):
        (misc / name).symlink_to(HERE / "nixos" / name)
    return directory
