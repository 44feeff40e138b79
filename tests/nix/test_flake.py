"""The flake: its two inputs, their lock, its outputs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib

import pytest

from claude_proxy import __version__
from tests.nix.evaluation import HERE, ROOT, WAIT, evaluate, needs_nix, needs_nixpkgs

SYSTEMS = ["aarch64-linux", "x86_64-linux"]


@pytest.fixture(scope="module")
def lock():
    return json.loads((ROOT / "flake.lock").read_text())


def test_two_inputs_are_locked_and_home_manager_follows(lock):
    assert lock["version"] == 7
    assert lock["nodes"].keys() == {"root", "nixpkgs", "home-manager"}
    assert lock["nodes"]["root"]["inputs"] == {"nixpkgs": "nixpkgs", "home-manager": "home-manager"}
    assert lock["nodes"]["home-manager"]["inputs"] == {"nixpkgs": ["nixpkgs"]}
    for name in ("nixpkgs", "home-manager"):
        locked = lock["nodes"][name]["locked"]
        assert re.fullmatch(r"[0-9a-f]{40}", locked["rev"])
        assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", locked["narHash"])


@needs_nix
def test_the_lock_is_of_the_flakes_own_inputs(lock):
    inputs = evaluate(f"(import {ROOT}/flake.nix).inputs")
    assert inputs.keys() == {"nixpkgs", "home-manager"}
    assert inputs["home-manager"]["inputs"] == {"nixpkgs": {"follows": "nixpkgs"}}
    for name, given in inputs.items():
        original = lock["nodes"][name]["original"]
        parts = [original[part] for part in ("owner", "repo", "ref") if part in original]
        assert given["url"] == f"{original['type']}:{'/'.join(parts)}"


@needs_nix
def test_the_package_has_the_projects_version_and_dependencies():
    """Which Nix cannot build here: what it would be built from is looked at."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = evaluate(
        f"""let
          names = builtins.listToAttrs (map (name: {{ inherit name; value = name; }}) [
            "h11" "msgspec" "prometheus-client" "sdnotify" "starlette" "structlog" "uvicorn"
            "anthropic" "hatchling" "httpx" "hypothesis" "jsonschema" "openai"
            "pytestCheckHook"
          ]);
        in removeAttrs (import {ROOT}/nix/package.nix {{
          lib = {{
            fileset = {{ toSource = given: map toString given.fileset; unions = files: files; }};
            licenses.mit = "MIT";
            platforms.linux = {json.dumps(SYSTEMS).replace(",", "")};
          }};
          python3Packages = names // {{ buildPythonApplication = given: given; }};
        }}) [ ]"""
    )
    assert package["version"] == __version__
    names = [re.split(r"[^\w-]", each)[0] for each in project["dependencies"]]
    assert package["dependencies"] == names
    assert package["build-system"] == ["hatchling"]
    assert package["meta"]["mainProgram"] in project["scripts"]
    assert package["meta"]["description"] == project["description"]
    sources = {path.removeprefix(f"{ROOT}/") for path in package["src"]}
    assert {"claude_proxy", "docs", "systemd", "tests", "pyproject.toml", "README.md"} <= sources
    assert all((ROOT / path).exists() for path in sources)


@needs_nixpkgs
def test_the_outputs(sources):
    found = evaluate(f"import {HERE}/outputs.nix {{ {sources} }}")
    assert found["inputs"] == ["home-manager", "nixpkgs"]
    assert found["outputs"] == [
        *("apps", "checks", "devShells", "formatter", "homeManagerModules", "homeModules"),
        *("nixosModules", "overlays", "packages"),
    ]
    assert all(systems == SYSTEMS for systems in found["systems"].values())
    assert found["checks"] == ["home", "modules", "package", "style", "vm"]
    assert found["program"].endswith("/bin/claude-proxy")
    assert found["modules"] == {
        "home": f"{ROOT}/nix/home-manager.nix",
        "old": f"{ROOT}/nix/home-manager.nix",
        "nixos": f"{ROOT}/nix/nixos.nix",
    }
    assert found["overlay"] == ["claude-proxy"]


@needs_nix
def test_nothing_is_missing_in_the_lock(tmp_path):
    """Else it would have to be asked for, and nobody is."""
    (tmp_path / "flake").mkdir()
    for name in ("flake.nix", "flake.lock"):
        shutil.copy(ROOT / name, tmp_path / "flake")
    done = subprocess.run(
        [
            *("nix", "--extra-experimental-features", "nix-command flakes"),
            *("--store", tmp_path / "store", "--option", "build-users-group", ""),
            *("flake", "metadata", "--offline", "--no-update-lock-file", "--json"),
            f"path:{tmp_path}/flake",
        ],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["locks"] == json.loads((ROOT / "flake.lock").read_text())
