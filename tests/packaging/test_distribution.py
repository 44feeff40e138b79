"""What PyPI would get: a source archive and a wheel, built here, with the same bytes each time."""

from __future__ import annotations

import email
import io
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from claude_proxy import __version__
from tests.documents import ROOT
from tests.unit.fake_cli import FAKE

BUILD = "import sys; from hatchling import build; print(getattr(build, sys.argv[1])(sys.argv[2]))"
TOP = f"claude_proxy-{__version__}"
INFO = f"{TOP}.dist-info"
SHARE = f"{TOP}.data/data/share"
# Before Python 3.11.4 there is none.
FILTER = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def build(kind: str, tree: Path, into: Path, umask: int = 0o022) -> Path:
    """``kind``: wheel or sdist. Without isolation: hatchling is one of the tests' dependencies."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BUILD, f"build_{kind}", str(into)],
        cwd=tree,
        env={"PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": "1764201600"},
        capture_output=True,
        text=True,
        umask=umask,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return into / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("built")


@pytest.fixture(scope="module")
def sdist(place):
    return build("sdist", ROOT, place)


@pytest.fixture(scope="module")
def wheel(place):
    return build("wheel", ROOT, place)


@pytest.fixture(scope="module")
def unpacked(place, sdist):
    with tarfile.open(sdist) as archive:
        archive.extractall(place / "unpacked", **FILTER)
    return place / "unpacked" / TOP


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def ours() -> set[str]:
    """All that the package is made of here."""
    found = (ROOT / "claude_proxy").rglob("*")
    return {str(p.relative_to(ROOT)) for p in found if p.is_file() and p.suffix != ".pyc"}


def test_the_wheel_has_the_package_its_units_and_what_the_shells_want(names):
    assert "claude_proxy/py.typed" in ours()
    expected = ours()
    expected |= {f"claude_proxy/systemd/{path.name}" for path in (ROOT / "systemd").iterdir()}
    expected |= {
        f"{SHARE}/man/man1/claude-proxy.1",
        f"{SHARE}/bash-completion/completions/claude-proxy",
        f"{SHARE}/zsh/site-functions/_claude-proxy",
        f"{SHARE}/fish/vendor_completions.d/claude-proxy.fish",
    }
    own = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    expected |= {f"{INFO}/{name}" for name in own}
    assert names == expected


def test_the_metadata_are_what_pypi_shows(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"{INFO}/METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("claude-proxy", __version__)
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text()
    assert "cli" in metadata.get_all("Provides-Extra")
    assert not any(line.startswith("License ::") for line in metadata.get_all("Classifier"))


def test_the_source_has_what_the_tests_and_nix_need(unpacked):
    for name in ("tests", "nix", "docs", "systemd", "benchmarks"):
        assert (unpacked / name).is_dir(), name
    for name in ("flake.lock", "LICENSE", "CHANGELOG.md", "SECURITY.md"):
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()
    names = {path.name for path in unpacked.rglob("*")}
    assert not names & {".venv", "__pycache__", ".git", "dist", "uv.lock"}


def test_the_wheel_of_the_source_is_the_wheel_of_the_tree(place, wheel, unpacked):
    assert build("wheel", unpacked, place / "unpacked").read_bytes() == wheel.read_bytes()


def test_whoever_builds_the_source_gets_the_same_bytes(place, sdist, unpacked):
    other = build("sdist", unpacked, place / "unpacked", umask=0o077)
    assert contents(other) == contents(sdist)
    assert other.read_bytes() == sdist.read_bytes()


def contents(archive: Path) -> list[tuple[str, int]]:
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as opened:
        return [(member.name, member.mode) for member in opened]


def test_an_installed_wheel_finds_its_units_and_its_manual_page(place, wheel):
    """In an environment of its own, without the tree; the dependencies are those of the tests."""
    target = place / "installed"
    venv.create(target, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", target / "bin" / "python", "install", "-q"]
    options = ["--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, wheel], cwd=place, check=True)
    (packages,) = target.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    environment = {"PATH": os.environ["PATH"], "HOME": str(place)}

    def run(*words: str) -> str:
        done = subprocess.run(
            [target / "bin" / "claude-proxy", *words],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("--version") == f"claude-proxy {__version__}\n"
    assert run("man") == (target / "share" / "man" / "man1" / "claude-proxy.1").read_text()
    assert "ListenStream=127.0.0.1:8080" in run("install", "--dry-run", f"--claude={FAKE}")
