"""The CLI, its login, and the variables that would change what it logs in as."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from claude_proxy.commands import claude_code, systemctl, units
from claude_proxy.commands.checks.finding import FAIL, OK, WARN, Finding, Scene
from claude_proxy.commands.sandbox import LOGIN_PLACE
from claude_proxy.settings import ConfigurationError

# Those that lead Claude Code 2.1 to another account or provider than its own login; found among
# the names that its program text asks for.
OVERRIDING = re.compile(
    r"""
    ANTHROPIC_(API_KEY | AUTH_TOKEN | BASE_URL | UNIX_SOCKET | CUSTOM_HEADERS | PROFILE
        | CONFIG_DIR | FEDERATION_RULE_ID | IDENTITY_TOKEN | IDENTITY_TOKEN_FILE)
    | CLAUDE_CODE_(OAUTH_TOKEN | API_KEY)(_FILE_DESCRIPTOR)? | CLAUDE_CODE_API_BASE_URL
    | CLAUDE_CODE_USE_(BEDROCK | VERTEX | FOUNDRY | MANTLE | GATEWAY | ANTHROPIC_AWS
        | ANTHROPIC_GOOGLE_CLOUD)
    """,
    re.VERBOSE,
)
PROXY = re.compile(r"(https?|all)_proxy", re.IGNORECASE)


def cli_here(scene: Scene) -> Iterator[Finding]:
    try:
        found = claude_code.installed(scene.settings, scene.environ)
    except ConfigurationError as error:
        if scene.settings.claude is not None or not has_its_own(scene):
            yield Finding(FAIL, "CLI", str(error))
        return
    yield Finding(OK, "CLI", f"{found.path}, version {found.version}")


def has_its_own(scene: Scene) -> bool:
    """Whether the service has been told of a CLI that need not be found here."""
    settings = scene.seen.settings(scene.home)
    return settings is not None and settings.claude is not None


def cli_of_service(scene: Scene) -> Iterator[Finding]:
    """The same question with the service's own PATH and settings."""
    if not scene.seen.command(scene.home):
        return
    known = scene.seen.environment(scene.home)
    name = "CLI of the service"
    mend = "type `claude-proxy install` where `claude` is found"
    if scene.seen.is_of_nix:
        mend = "see my.ai.claudeProxy.claudePackage"
    try:
        found = claude_code.installed(scene.seen.settings(scene.home) or scene.settings, known)
    except ConfigurationError as error:
        yield Finding(FAIL, name, str(error), mend)
        return
    if claude_code.needs_node(found.path) and not claude_code.interpreter(found.path, known):
        yield Finding(FAIL, name, f"{found.path} needs node, which is not on its PATH", mend)
        return
    yield Finding(OK, name, f"{found.path}, version {found.version}")


def login(scene: Scene) -> Iterator[Finding]:
    theirs = scene.seen.settings(scene.home)
    if scene.settings.demo or (theirs is not None and theirs.demo):
        return
    try:
        found = claude_code.of_either(scene.settings, theirs, scene.environ)
    except ConfigurationError:
        return  # said already
    standing = claude_code.login(found, scene.environ)
    level = {True: OK, False: FAIL, None: WARN}[standing.logged_in]
    yield Finding(level, "login", claude_code.describe(standing, found))
    there, here = (
        known.get(LOGIN_PLACE) or ""
        for known in (scene.seen.environment(scene.home), scene.environ)
    )
    if scene.seen.is_managed and there != here:
        why = f"{LOGIN_PLACE} is not the same here and in the service, nor is the login then"
        yield Finding(WARN, "login of the service", why, "type `claude-proxy install`")


def variables(scene: Scene) -> Iterator[Finding]:
    """Names only: most of the values are secrets."""
    manager = scene.seen.manager
    in_manager = overriding(manager.environment() if manager else {})
    in_unit = overriding(scene.seen.variables(scene.home))
    here = overriding(scene.environ)
    name, effect = "variables", "which Claude Code heeds before its login"
    if here:
        yield Finding(WARN, name, f"set here: {here}, {effect}", "unset them, unless that is meant")
    if in_manager:
        yield Finding(
            WARN,
            name,
            f"set for every service of yours: {in_manager}, {effect}",
            f"{systemctl.shown('unset-environment', in_manager.replace(',', ''))}, unless that is "
            "meant (see also ~/.config/environment.d)",
        )
    if in_unit:
        yield Finding(
            WARN,
            name,
            f"set in the unit: {in_unit}, {effect}",
            f"{systemctl.shown('edit', units.SERVICE)}, unless that is meant",
        )
    if not (here or in_manager or in_unit):
        yield Finding(OK, name, "none that would override the login")


def overriding(environment: Mapping[str, str]) -> str:
    return ", ".join(sorted(name for name in environment if OVERRIDING.fullmatch(name)))


def proxies(scene: Scene) -> Iterator[Finding]:
    here = {name for name, value in scene.environ.items() if value and PROXY.fullmatch(name)}
    served = scene.seen.environment(scene.home)
    theirs = {name for name, value in served.items() if value and PROXY.fullmatch(name)}
    if not scene.seen.is_managed or here == theirs:
        return
    mend = f"{systemctl.shown('edit', units.SERVICE)} or ~/.config/environment.d"
    if here - theirs:
        names = ", ".join(sorted(here - theirs))
        yield Finding(WARN, "HTTP proxy", f"{names} set here and not for the service", mend)
    if theirs - here:
        names = ", ".join(sorted(theirs - here))
        yield Finding(WARN, "HTTP proxy", f"{names} set for the service and not here", mend)


def owner(scene: Scene) -> Iterator[Finding]:
    """A CLI that was run by sudo once leaves files behind that it cannot write any more."""
    place = scene.environ.get(LOGIN_PLACE)
    folder = Path(place) if place else Path(scene.home) / ".claude"
    settings = folder / ".claude.json" if place else Path(scene.home) / ".claude.json"
    paths = (folder, folder / ".credentials.json", settings)
    foreign = [str(path) for path in paths if belongs_to_another(path)]
    if foreign:
        why = f"not yours: {', '.join(foreign)}"
        mend = f"sudo chown -R {systemctl.user_name()}: {' '.join(foreign)}"
        yield Finding(FAIL, "Claude Code's files", why, mend)
    elif folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        yield Finding(FAIL, "Claude Code's files", f"{folder} cannot be written", "see its mode")


def belongs_to_another(path: Path) -> bool:
    try:
        return path.stat().st_uid != os.getuid()
    except OSError:  # not there, or in a directory that is told already
        return False
