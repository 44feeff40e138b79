"""``claude-proxy check``: every known cause of trouble that can be seen from here, a line each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from claude_proxy.command_line import Invocation
from claude_proxy.commands import seen
from claude_proxy.commands.checks import account, clients, host, key, service
from claude_proxy.commands.checks.finding import FAIL, Finding, Scene
from claude_proxy.commands.external import say
from claude_proxy.exit_codes import SOMETHING_WRONG, WELL

Check: TypeAlias = Callable[[Scene], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    host.program_itself,
    account.cli_here,
    account.cli_of_service,
    account.login,
    account.variables,
    account.proxies,
    account.owner,
    key.key_file,
    clients.keys_file,
    host.state_directory,
    service.unit_files,
    service.program_of_service,
    service.failures,
    service.enabled,
    service.version_that_runs,
    service.addresses,
    host.systemd_version,
    host.user_namespaces,
    host.links,
    host.linger,
    host.journal,
)


def run(asked: Invocation, environ: Mapping[str, str]) -> int:
    """1 when something is wrong, else 0; a warning is nothing wrong."""
    home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - that of Path raises
    now = seen.look(environ)
    scene = Scene(asked.settings, environ, now, home, now.health(asked.settings))
    levels = set()
    if asked.problem is not None:
        levels.add(FAIL)
        say(Finding(FAIL, "configuration file", asked.problem).line())
    for check in CHECKS:
        for finding in findings(check, scene):
            levels.add(finding.level)
            say(finding.line())
    return SOMETHING_WRONG if FAIL in levels else WELL


def findings(check: Check, scene: Scene) -> Iterator[Finding]:
    """With one more where it may not look; HOME is another user's, most often."""
    try:
        yield from check(scene)
    except OSError as error:
        name = check.__name__.replace("_", " ")
        why = f"cannot look at {error.filename}: {error.strerror}"
        yield Finding(FAIL, name, why, f"is HOME, {scene.home}, that of this user?")
