"""The units: whether they are those of this program, and what systemd says of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from claude_proxy import __version__
from claude_proxy.commands import claude_code, ports, program, units
from claude_proxy.commands import unit_files as files
from claude_proxy.commands.checks.finding import FAIL, OK, WARN, Finding, Scene
from claude_proxy.commands.systemctl import shown

INSTALL = "type `claude-proxy install`"
LOOK = f"journalctl --user -u {units.SERVICE} -n 20"
# Exit codes of systemd.exec(5) and of this program.
CAUSES = {
    "2": ("a flag or a variable of the unit is wrong", LOOK),
    "69": ("its address is taken", "see `addresses`"),
    "78": ("its configuration cannot work", LOOK),
    "203": ("its program cannot be run", INSTALL),
    "217": ("the kernel refuses its sandbox", "see `sandbox`"),
    "226": ("the kernel refuses its sandbox", "see `sandbox`"),
    "243": ("its key file cannot be read", "see `key`"),
}


def unit_files(scene: Scene) -> Iterator[Finding]:
    for properties, unit in (
        (scene.seen.service, units.SERVICE),
        (scene.seen.socket, units.SOCKET),
    ):
        yield from unit_file(properties, unit)


def unit_file(properties: Mapping[str, str], unit: str) -> Iterator[Finding]:
    if properties.get("LoadState") == "masked":
        yield Finding(FAIL, unit, "is masked", shown("unmask", unit))
        return
    if not (fragment := properties.get("FragmentPath")):
        return
    if properties.get("LoadState") not in ("loaded", None):
        mend = f"systemd-analyze --user verify {unit}"
        yield Finding(FAIL, unit, f"cannot be used: {properties['LoadState']}", mend)
    text = files.text_of(Path(fragment)) or ""
    version = units.marked(text)
    if os.path.realpath(fragment).startswith(files.NIX_STORE):
        yield Finding(OK, unit, "managed by Nix")
    elif version is None:
        yield Finding(OK, unit, f"{fragment}, not written by install")
    elif version != __version__:
        why = f"written by version {version}, and this is {__version__}"
        yield Finding(WARN, unit, why, INSTALL)
    else:
        yield Finding(OK, unit, fragment)
    if properties.get("NeedDaemonReload") == "yes":
        yield Finding(WARN, unit, "was changed since systemd read it", shown("daemon-reload"))


def program_of_service(scene: Scene) -> Iterator[Finding]:
    words = scene.seen.command(scene.home)
    if not words:
        return
    path = Path(words[0])
    name = "program of the service"
    if not (path.is_file() and os.access(path, os.X_OK)):
        yield Finding(FAIL, name, f"{path} cannot be run", INSTALL)
    elif is_hidden(path, scene):
        why = f"{path} is not visible to it, which has a /tmp of its own"
        yield Finding(FAIL, name, why, "install claude-proxy elsewhere")
    else:
        yield Finding(OK, name, str(path))


def is_hidden(path: Path, scene: Scene) -> bool:
    """Whether a /tmp of its own keeps it from the program; where it runs, it does not."""
    own = scene.seen.service.get("PrivateTmp") == "yes"
    return own and program.hidden(path) and scene.seen.service.get("ActiveState") != "active"


def failures(scene: Scene) -> Iterator[Finding]:
    service, socket = scene.seen.service, scene.seen.socket
    if service.get("ActiveState") == "failed":
        code = service.get("ExecMainStatus", "")
        result = service.get("Result", "unknown")
        ended = f"exit code {code}, {result}" if code.strip("0") else result
        cause, mend = CAUSES.get(code, (ended, LOOK))
        why = f"failed: {cause}"
        mend = f"{mend}; then {shown('reset-failed', units.SERVICE)}"
        yield Finding(FAIL, units.SERVICE, why, mend)
    if socket.get("ActiveState") == "failed":
        result = socket.get("Result", "unknown")
        again = f"{shown('reset-failed', units.BOTH)} && {shown('start', units.SOCKET)}"
        if result.endswith("limit-hit"):
            why = f"gave up after too many starts ({result})"
            yield Finding(FAIL, units.SOCKET, why, f"mend what ails the service, then {again}")
        else:
            why = f"failed ({result})"
            yield Finding(FAIL, units.SOCKET, why, f"see `addresses`, then {again}")


def enabled(scene: Scene) -> Iterator[Finding]:
    states = (scene.seen.service, scene.seen.socket)
    if not scene.seen.is_managed or any(each.get("ActiveState") == "failed" for each in states):
        return
    installed = scene.seen.socket.get("LoadState") == "loaded"
    unit = units.SOCKET if installed else units.SERVICE
    if not (scene.seen.runs or scene.seen.listens):
        why = "neither the service nor its socket is started"
        yield Finding(FAIL, unit, why, shown("enable --now", unit))
    elif states[installed].get("UnitFileState") == "disabled":
        why = "is not enabled: the next login will not start it"
        yield Finding(WARN, unit, why, shown("enable", unit))


def version_that_runs(scene: Scene) -> Iterator[Finding]:
    if scene.answered is None:
        if scene.seen.service.get("ActiveState") == "active":
            mend = f"{LOOK}; {shown('restart', units.SERVICE)}"
            yield Finding(FAIL, "daemon", "the service is active, and does not answer", mend)
        return
    place, health = scene.answered
    if health.version != __version__:
        mend = shown("restart", units.SERVICE) if scene.seen.runs else "start it anew"
        why = f"version {health.version} answers at {place}, and this is {__version__}"
        yield Finding(WARN, "daemon", why, mend)
    elif health.logged_in is False and not health.simulated:
        why = f"the one that answers at {place} is not logged in"
        yield Finding(FAIL, "daemon", why, claude_code.how_to_log_in(None))
    else:
        yield Finding(OK, "daemon", f"answers at {place}")


def addresses(scene: Scene) -> Iterator[Finding]:
    """Taken by somebody else? Where it answers itself, or its socket listens, it is not."""
    if scene.seen.listens:
        return
    for place in scene.seen.places(scene.settings):
        by_itself = scene.seen.runs or not scene.seen.is_managed
        if scene.answered and scene.answered[0] == place and by_itself:
            continue
        if problem := ports.problem(place):
            mend = "end that program, or choose another --port"
            yield Finding(FAIL, "addresses", problem, mend)
        elif place.path is None:
            yield Finding(OK, "addresses", f"{place} is free")
