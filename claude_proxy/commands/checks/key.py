"""The key: whether it can be used, and who else can read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from claude_proxy.api_key import CREDENTIAL, ApiKey, checked, read_key
from claude_proxy.commands import unit_text
from claude_proxy.commands.checks.finding import FAIL, OK, WARN, Finding, Scene
from claude_proxy.directories import state_directory
from claude_proxy.settings import ConfigurationError

NAME = "key"
# Fewer characters can be guessed by whoever reaches the port.
SHORT = 16


def key_file(scene: Scene) -> Iterator[Finding]:
    """The files are looked at where they are; no key is made."""
    settings = scene.settings
    if settings.api_key is not None:
        try:
            given = ApiKey(checked(settings.api_key, "the given key"), "given")
        except ConfigurationError as error:
            yield Finding(FAIL, NAME, str(error))
            return
        yield from quality(given, "by a flag or PROXY_API_KEY")
    served = scene.seen.settings(scene.home)
    in_unit = unit_text.key_in(scene.seen.unit_text)
    if in_unit or (served is not None and served.api_key is not None):
        why = "it stands in the unit, which others may read"
        yield Finding(WARN, NAME, why, "put it into a file, and LoadCredential=api-key:PATH there")
        return
    for path in files(scene):
        yield from file_with_key(path)


def files(scene: Scene) -> list[Path]:
    """Those of the service and of a daemon that is started here, when they are there."""
    found = []
    if credential := scene.seen.credential(scene.home):
        found.append(credential)
    if scene.settings.api_key_file is not None:
        found.append(Path(scene.settings.api_key_file).expanduser().absolute())
    elif not found and scene.settings.api_key is None:
        try:
            kept = state_directory(scene.environ) / CREDENTIAL
        except RuntimeError:  # there is no home directory
            return []
        found += [kept] if kept.exists() else []
    return list(dict.fromkeys(found))


def file_with_key(path: Path) -> Iterator[Finding]:
    try:
        key = read_key(path)
        status, folder = path.stat(), path.parent.stat()
    except ConfigurationError as error:
        yield Finding(FAIL, NAME, str(error), "write a key into its first line")
        return
    except OSError as error:
        yield Finding(FAIL, NAME, f"{path}: {error.strerror}")
        return
    open_file = status.st_mode & 0o077
    open_folder = folder.st_mode & 0o055
    if open_file:
        where = f", and look into {path.parent}" if open_folder else ""
        yield Finding(WARN, NAME, f"others may read {path}{where}", f"chmod 600 {path}")
    if folder.st_mode & 0o022 and not folder.st_mode & 0o1000:
        why = f"others may put another key in the place of {path}"
        yield Finding(WARN, NAME, why, f"chmod go-w {path.parent}")
    if status.st_uid not in (os.getuid(), 0):
        yield Finding(WARN, NAME, f"{path} is another user's")
    if not open_file:
        yield from quality(key, str(path))


def quality(key: ApiKey, source: str) -> Iterator[Finding]:
    if len(key.value) < SHORT:
        why = f"the one given {source} has fewer than {SHORT} characters"
        yield Finding(WARN, NAME, why.replace("given /", "in /"), "take a longer one")
    else:
        yield Finding(OK, NAME, source)
