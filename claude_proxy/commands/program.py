"""How a service is to start this very program, and what it then finds on its PATH."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import claude_proxy
from claude_proxy import __version__
from claude_proxy.commands import external
from claude_proxy.settings import ConfigurationError

NAME = "claude-proxy"
START_PATIENCE = 30.0
EVERYWHERE = ("/usr/local/bin", "/usr/bin", "/bin")
ON_NIXOS = "/run/current-system/sw/bin"
# A sandboxed service has directories of its own in these places.
PRIVATE = ("/tmp", "/var/tmp")  # noqa: S108 - nothing is written there
# Directories that end with the login, as those that fnm makes for each shell.
PASSING = "/run/user/"


def words(environ: Mapping[str, str]) -> list[str]:
    """The console script that this was run with, else this Python and the module.

    Links are not followed: they are what an upgrade moves, and a virtual environment's Python
    knows by its path where it belongs.
    """
    own = Path(sys.argv[0])
    if own.name == NAME and own.is_file():
        on_path = shutil.which(NAME, path=environ.get("PATH"))
        # The name that is on PATH outlives what a wrapper, as those of Nix, says of itself.
        same = on_path is not None and os.path.realpath(on_path) == os.path.realpath(own)
        return [str(Path(on_path if on_path and same else own).absolute())]
    return [str(Path(sys.executable).absolute()), "-m", "claude_proxy"]


def surroundings(program: list[str], environment: Mapping[str, str]) -> dict[str, str]:
    """What the program needs beside ``environment`` to start outside of this shell: nothing, or
    the place of its modules. Raises ConfigurationError when it does not start.
    """
    complaint = ""
    for extra in ({}, {"PYTHONPATH": str(Path(claude_proxy.__file__).parents[1])}):
        done = external.run([*program, "--version"], {**environment, **extra}, START_PATIENCE, "/")
        if done.went_well and done.output.split() == [NAME, __version__]:
            return extra
        complaint = complaint or (done.error or done.output).strip().rpartition("\n")[2]
    raise ConfigurationError(f"a service could not start {' '.join(program)}: {complaint}")


def search_path(*executables: Path | None) -> str:
    """A PATH on which these are found first, in this order."""
    own = [str(steady(path.parent)) for path in executables if path is not None]
    rest = [*EVERYWHERE, *([ON_NIXOS] if Path(ON_NIXOS).is_dir() else [])]
    return ":".join(dict.fromkeys([*own, *rest]))


def steady(directory: Path) -> Path:
    return directory.resolve() if str(directory).startswith(PASSING) else directory


def is_cached(path: Path, environ: Mapping[str, str]) -> bool:
    """Whether it goes when a cache is cleared: `uvx` and `pipx run` keep programs in theirs."""
    given = (environ.get(name) for name in ("XDG_CACHE_HOME", "UV_CACHE_DIR"))
    caches = [Path(place).absolute() for place in given if place]
    places = (path.absolute(), path.resolve())
    return any(".cache" in place.parts or {*caches} & {*place.parents} for place in places)


def hidden(path: Path) -> bool:
    """Whether a service with a /tmp of its own cannot see it."""
    places = (str(path), os.path.realpath(path))
    return any(place.startswith(f"{each}/") for place in places for each in PRIVATE)
