"""``claude-proxy install``: this program as a service of the present user, started by its socket.

Two unit files are written, the socket is enabled and started, and a service that runs is started
anew. Whatever does not carry install's mark is left alone.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from claude_proxy import __version__, clients
from claude_proxy.api_key import read_key
from claude_proxy.command_line import Invocation
from claude_proxy.commands import (
    claude_code,
    ports,
    program,
    sandbox,
    systemctl,
    unit_files,
    units,
)
from claude_proxy.commands.external import say
from claude_proxy.commands.systemctl import Manager, shown
from claude_proxy.directories import NAME, state_directory
from claude_proxy.listeners import Place, check_reach, places
from claude_proxy.settings import OPTIONS, ConfigurationError, Settings, UsageError

# The socket's or systemd's business, so not the daemon's.
NOT_PASSED_ON = frozenset({"--host", "--port", "--listen", "--api-key-file"})
KEY_FILE = "--api-key-file="
# --claude may be a name on PATH, too.
PATHS = frozenset({"--config", "--claude", "--api-key-file", "--api-keys-file"})
# A different place of the CLI's login, and no secret.
PASSED_ON = sandbox.LOGIN_PLACE
# A restart waits until running answers have ended.
FAREWELL = 60.0
BOTH = (units.SERVICE, units.SOCKET)
UNWATCHED = frozenset({"host", "port", "listen"})


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be written, and what is to be told about it."""

    texts: Mapping[Path, str]
    places: Sequence[Place]
    warnings: Sequence[str]

    @property
    def changed(self) -> list[Path]:
        return [path for path, text in self.texts.items() if unit_files.text_of(path) != text]


def run(asked: Invocation, environ: Mapping[str, str]) -> int:
    """Raises UsageError or ConfigurationError, before anything is changed but for systemd's own."""
    refuse_key(asked)
    manager = systemctl.reached(environ)
    try:
        plan = planned(asked, environ, manager)
    except RuntimeError as error:  # there is no home directory
        raise ConfigurationError(f"cannot look for the user's units: {error}") from None
    for line in plan.warnings:
        say(f"warning: {line}")
    if asked.dry_run:
        rehearse(plan, manager)
    else:
        carry_out(plan, manager, asked.settings)
    farewell(asked, plan, manager, environ)
    return 0


def refuse_key(asked: Invocation) -> None:
    if any(flag.partition("=")[0] == "--api-key" for flag in asked.flags):
        raise UsageError(
            "--api-key: others could read the key in the unit and among the processes; put it into "
            "a file and give that by --api-key-file"
        )


def planned(asked: Invocation, environ: Mapping[str, str], manager: Manager | None) -> Plan:
    folder = unit_files.directory(environ)
    service, socket = folder / units.SERVICE, folder / units.SOCKET
    refuse_foreign([service, socket], manager)
    if manager is not None and not unit_files.is_searched(folder, manager):
        raise ConfigurationError(
            f"systemd does not look for units in {folder}; XDG_CONFIG_HOME is another one there"
        )
    cli = claude_code.installed(asked.settings, environ).path
    command = service_command(asked, environ, cli)
    settings = asked.settings
    where = places(settings)
    texts = {
        service: units.service(unit_files.shipped(units.SERVICE), __version__, command),
        socket: units.socket(unit_files.shipped(units.SOCKET), __version__, where),
    }
    reached = exposed(where)
    check_reach(reached, settings)
    told = [f"others can reach {each}; the key alone protects it" for each in reached]
    told += warnings(asked, environ, command, cli)
    return Plan(texts, where, told)


def refuse_foreign(paths: Sequence[Path], manager: Manager | None) -> None:
    for path in paths:
        problem = unit_files.obstacle(path)
        if problem is None and manager is not None:
            problem = unit_files.elsewhere(path, manager)
        if problem is not None:
            raise ConfigurationError(problem)


def service_command(asked: Invocation, environ: Mapping[str, str], cli: Path) -> units.Command:
    words = program.words(environ)
    variables = {"PATH": program.search_path(cli, claude_code.interpreter(cli, environ))}
    if directory := environ.get(PASSED_ON):
        variables[PASSED_ON] = str(Path(directory).absolute())
    home = {"HOME": environ.get("HOME") or str(Path.home())}
    variables |= program.surroundings(words, home | variables)
    variables |= state_variable(environ)
    credential = None
    if any(flag.startswith(KEY_FILE) for flag in asked.flags):
        credential = Path(asked.settings.api_key_file or "").expanduser().absolute()
        read_key(credential)  # says now what the service would fail of
    if asked.settings.api_keys_file:
        clients.read(Path(asked.settings.api_keys_file).expanduser())  # likewise
    writable = list(sandbox.outside({**environ, **home, **variables}).values())
    return units.Command(words, passed_on(asked.flags), variables, credential, writable)


def passed_on(flags: Sequence[str]) -> list[str]:
    """The daemon's part of the flags. It works in another directory, so paths become absolute."""
    return absolute(word for word in flags if word.partition("=")[0] not in NOT_PASSED_ON)


def absolute(flags: Iterable[str]) -> list[str]:
    words = []
    for word in flags:
        name, _, value = word.partition("=")
        is_path = name in PATHS and (os.sep in value or name != "--claude")
        words.append(f"{name}={Path(value).expanduser().absolute()}" if is_path else word)
    return words


def state_variable(environ: Mapping[str, str]) -> dict[str, str]:
    """For an XDG_STATE_HOME of the shell's: the service is to find the same key as the shell."""
    shell = {name: value for name, value in environ.items() if name != "STATE_DIRECTORY"}
    ours = state_directory(shell).absolute()
    home = Path(environ.get("HOME") or "~").expanduser()
    theirs = home / ".local/state" / NAME
    return {} if ours == theirs else {"STATE_DIRECTORY": str(ours)}


def exposed(where: Sequence[Place]) -> list[str]:
    return [
        str(place)
        for place in where
        if not (place.path or place.host == "localhost" or ip_address(place.host).is_loopback)
    ]


def warnings(
    asked: Invocation, environ: Mapping[str, str], command: units.Command, cli: Path
) -> list[str]:
    found = []
    config = asked.settings.config
    files = [Path(command.program[0]), cli, *([Path(config).expanduser()] if config else [])]
    found += [
        f"{path} lies where the service, which has a /tmp of its own, does not see it"
        for path in files
        if program.hidden(path.absolute())
    ]
    if program.is_cached(Path(command.program[0]), environ):
        found.append(
            f"{command.program[0]} goes when its cache is cleared; `uv tool install` or "
            "`pipx install` put the program where it stays"
        )
    if command.program[0].startswith(unit_files.NIX_STORE):
        found.append(
            f"{command.program[0]} goes with Nix's next garbage collection, unless a "
            "profile holds it"
        )
    if claude_code.needs_node(cli) and claude_code.interpreter(cli, environ) is None:
        found.append(f"{cli} is run by node, and there is no node on PATH")
    given = {flag.partition("=")[0] for flag in asked.flags}
    left = [
        option.variable
        for option in OPTIONS.values()
        if environ.get(option.variable)
        and option.name not in UNWATCHED
        and option.flag not in given
    ]
    if left:
        found.append(
            f"the service does not get {', '.join(left)} of this environment; give flags "
            "or use the configuration file"
        )
    if os.getuid() == 0 and environ.get("SUDO_USER"):
        found.append("this installs for root; run it without sudo to install for yourself")
    return found


def rehearse(plan: Plan, manager: Manager | None) -> None:
    for path, text in plan.texts.items():
        say(f"would write {path}:" if path in plan.changed else f"would leave {path} as it is:")
        for line in text.splitlines():
            say(f"    {line}".rstrip())
    for words in steps(plan, manager):
        say(f"would run {shown(*words)}" if manager else f"would leave to you {shown(*words)}")


def carry_out(plan: Plan, manager: Manager | None, settings: Settings) -> None:
    todo = steps(plan, manager)
    changed = plan.changed
    for path, text in plan.texts.items():
        if path in changed:
            unit_files.write(path, text)
        say(f"{'wrote' if path in changed else 'unchanged:'} {path}")
    if manager is None:
        say("no user manager here (no XDG_RUNTIME_DIR, or no systemctl); when logged in, type:")
        for words in todo:
            say(f"    {shown(*words)}")
        return
    for words in todo:
        try:
            manager.do(*words, limit=settings.drain_timeout + FAREWELL)
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}{explanation(plan, manager)}") from None
        say(f"ran {shown(*words)}")


def steps(plan: Plan, manager: Manager | None) -> list[list[str]]:
    """The calls of systemctl. A socket takes up new addresses only when it is started anew, for
    which its service must not run; without that a service that runs is restarted alone.
    """
    reload, enable = ["daemon-reload"], ["enable", "--now", units.SOCKET]
    if manager is None:
        return [reload, enable]
    service, socket = (manager.show(name, "ActiveState").get("ActiveState", "") for name in BOTH)
    todo = [reload]
    states = {units.SOCKET: socket, units.SERVICE: service}
    if failed := [name for name, state in states.items() if state == "failed"]:
        todo.append(["reset-failed", *failed])
    runs = service in systemctl.ACTIVE
    listens = socket in systemctl.ACTIVE
    new_socket = any(path.name == units.SOCKET for path in plan.changed)
    if (listens and new_socket) or (runs and not listens):
        return [*todo, ["stop", units.SOCKET, units.SERVICE], enable]
    return [*todo, enable, *([["try-restart", units.SERVICE]] if runs else [])]


def explanation(plan: Plan, manager: Manager) -> str:
    """Why a unit did not start, as far as one can see from here."""
    service, socket = (manager.show(name, "ActiveState", "StatusText") for name in BOTH)
    reasons = [f"it says: {service['StatusText']}"] if service.get("StatusText") else []
    if socket.get("ActiveState") not in systemctl.ACTIVE:
        reasons += [problem for place in plan.places if (problem := ports.problem(place))]
    return f"; {'; '.join(reasons or ['see `claude-proxy check`'])}"


def farewell(
    asked: Invocation, plan: Plan, manager: Manager | None, environ: Mapping[str, str]
) -> None:
    where = plan.places
    actual = manager.listens_on(units.SOCKET) if manager and not asked.dry_run else []
    if actual and not {str(place) for place in where} <= set(actual):
        say(f"warning: a drop-in of yours has it listen on {', '.join(actual)} instead")
        where = [Place.of(text) for text in actual]
    base = next((f"http://{place}/v1" for place in where if place.path is None), None)
    say(f"base URL: {base or f'unix:{where[0]}'}")
    if base:
        say(f"page for your browser: {base.removesuffix('v1')}")
    words = ["claude-proxy", *absolute(flag for flag in asked.flags if flag.startswith(KEY_FILE))]
    say(f"to print the key: {shlex.join([*words, 'key'])}")
    if manager is not None and systemctl.lingers(environ) is False:
        say("it ends with your last logout; to keep it: loginctl enable-linger")
