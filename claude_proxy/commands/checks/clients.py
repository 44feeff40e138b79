"""The file of the clients' keys: whether it can be used, and who else can read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from claude_proxy import clients
from claude_proxy.commands.checks.finding import FAIL, OK, WARN, Finding, Scene
from claude_proxy.settings import ConfigurationError

NAME = "clients"


def keys_file(scene: Scene) -> Iterator[Finding]:
    """That of the service, and of a daemon that is started here; nothing where there is none."""
    served = scene.seen.settings(scene.home)
    given = [scene.settings.api_keys_file, served.api_keys_file if served else None]
    for path in dict.fromkeys(Path(each).expanduser().absolute() for each in given if each):
        try:
            known = clients.read(path)
            mode = path.stat().st_mode
        except (ConfigurationError, OSError) as error:
            yield Finding(FAIL, NAME, str(error))
            continue
        if mode & 0o077:
            yield Finding(WARN, NAME, f"others may read {path}", f"chmod 600 {path}")
        else:
            names = ", ".join(client.name for client in known) or "none"
            yield Finding(OK, NAME, f"{path}: {names}")
