"""``claude-proxy status``: what runs, where, as whom, and what it cost; nothing is started."""

from __future__ import annotations

from collections.abc import Mapping

from claude_proxy import __version__
from claude_proxy.command_line import Invocation
from claude_proxy.commands import claude_code, journal_tail, seen
from claude_proxy.commands.external import say
from claude_proxy.commands.health import Health
from claude_proxy.commands.seen import Seen
from claude_proxy.directories import state_directory
from claude_proxy.exit_codes import NOT_RUNNING, WELL
from claude_proxy.listeners import Place
from claude_proxy.money import spending
from claude_proxy.settings import ConfigurationError, Settings

ERRORS = 5
WIDTH = 9


def run(asked: Invocation, environ: Mapping[str, str]) -> int:
    """0 when it runs or starts with the next connection, else 3."""
    now = seen.look(environ)
    answered = now.health(asked.settings)
    say(f"claude-proxy {__version__}")
    if asked.problem is not None:
        tell("config", asked.problem)
    tell_units(now)
    tell_addresses(now, asked.settings, answered)
    tell_claude(asked.settings, now, environ, answered[1] if answered else None)
    tell("spent", spent(environ))
    if now.manager is not None:
        tell_errors(environ)
    return WELL if now.runs or now.listens or answered else NOT_RUNNING


def tell(name: str, text: str) -> None:
    say(f"{name:{WIDTH}} {text}")


def tell_units(now: Seen) -> None:
    if now.manager is None:
        tell("service", "no user manager here")
        return
    if not now.is_managed:
        tell("service", "not installed; `claude-proxy install` does that")
        return
    tell("service", described(now.service))
    if now.runs and (text := now.service.get("StatusText")):
        tell("", text)
    tell("socket", described(now.socket))


def described(unit: Mapping[str, str]) -> str:
    """``active (running) since ..., PID 12, 45 MiB``."""
    if unit.get("LoadState") in ("not-found", None):
        return "none"
    text = f"{unit.get('ActiveState', 'unknown')} ({unit.get('SubState', 'unknown')})"
    if unit.get("ActiveState") == "failed":
        text += f", {unit.get('Result', 'unknown')}"
    if unit.get("LoadState") != "loaded":
        text += f", {unit['LoadState']}"
    if unit.get("ActiveState") == "active" and (since := unit.get("ActiveEnterTimestamp")):
        text += f" since {since}"
    if (pid := unit.get("MainPID", "0")) != "0":
        text += f", PID {pid}"
    memory = unit.get("MemoryCurrent", "")
    if memory.isdecimal() and memory not in seen.NOT_SET:
        text += f", {int(memory) / 2**20:.0f} MiB"
    return text


def tell_addresses(now: Seen, settings: Settings, answered: tuple[Place, Health] | None) -> None:
    places = now.places(settings)
    if answered and not now.listens:
        places = [answered[0]]
    for place in places:
        shown = f"unix:{place}" if place.path else f"http://{place}/v1"
        if answered or now.runs:
            tell("listens", shown)
        elif now.listens:
            tell("listens", f"{shown}, starts with the first connection")
        else:
            tell("listens", f"no: {shown} does not answer as a claude-proxy")
    if answered and answered[1].version != __version__:
        tell("", f"the one that runs is version {answered[1].version}")


def tell_cli(
    settings: Settings, served: Settings | None, environ: Mapping[str, str]
) -> claude_code.Found | None:
    try:
        found = claude_code.of_either(settings, served, environ)
    except ConfigurationError as error:
        tell("CLI", str(error))
        return None
    tell("CLI", f"{found.path}, version {found.version}")
    return found


def tell_claude(
    settings: Settings, now: Seen, environ: Mapping[str, str], health: Health | None
) -> None:
    """The daemon's word on the login counts, it knows its own environment."""
    served = now.settings(environ.get("HOME") or "/")
    found = tell_cli(settings, served, environ)
    if health is not None:
        if found is None or health.claude_version != found.version:
            tell("", f"the daemon runs version {health.claude_version}")
        standing = claude_code.Standing(health.logged_in, health.login)
        tell("login", "simulated" if health.simulated else claude_code.describe(standing, found))
    elif served is not None and served.demo:
        tell("login", "simulated")
    elif found is not None:
        tell("login", claude_code.describe(claude_code.login(found, environ), found))


def spent(environ: Mapping[str, str]) -> str:
    try:
        path = state_directory(environ).absolute() / spending.NAME
        if not path.exists():
            return "nothing yet"
    except (OSError, RuntimeError):  # no home directory, or one that is not ours to look into
        return "unknown"
    usd = spending.spent_today(path)
    return "unknown" if usd is None else f"${usd:.2f} today"


def tell_errors(environ: Mapping[str, str]) -> None:
    lines = journal_tail.last(ERRORS, environ)
    if lines is None:
        tell("errors", "the journal does not answer")
        return
    tell("errors", f"the last {len(lines)} of the journal:" if lines else "none in the journal")
    for line in lines:
        say(f"  {line}")
