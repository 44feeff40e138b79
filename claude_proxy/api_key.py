"""The key that clients of this proxy must send: where it comes from, and how it is compared.

First found wins: flag or ``PROXY_API_KEY``, ``--api-key-file``, the systemd credential
``api-key``, a key that was made earlier. With none of them one is made and kept.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from claude_proxy import small_file
from claude_proxy.directories import state_directory
from claude_proxy.settings import ConfigurationError, Settings

CREDENTIAL = "api-key"
# What units say with SetCredential= for the case that the file of LoadCredential= is not there,
# of which systemd alone would know. No key: it holds a blank.
NO_FILE = "no file"


@dataclass(frozen=True, slots=True, repr=False)
class ApiKey:
    """``source`` may be logged, ``value`` never."""

    value: str
    source: str

    def matches(self, candidate: bytes) -> bool:
        """Compares in constant time, whatever the candidate's bytes."""
        return hmac.compare_digest(self.value.encode(), candidate)


def load_api_key(settings: Settings, environ: Mapping[str, str]) -> ApiKey:
    """The key in force. Raises ConfigurationError when it cannot be read, made or used."""
    if settings.api_key is not None:
        return ApiKey(checked(settings.api_key, "the given key"), "flag or environment")
    try:
        if settings.api_key_file is not None:
            return read_key(Path(settings.api_key_file).expanduser())
        if directory := environ.get("CREDENTIALS_DIRECTORY"):
            credential = Path(directory) / CREDENTIAL
            if credential.exists():
                return read_credential(credential)
        return kept_key(state_directory(environ) / CREDENTIAL)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: there is no home directory
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"cannot look for the key: {reason}") from None


def checked(value: str, name: str) -> str:
    if not re.fullmatch(r"[!-~]+", value):
        raise ConfigurationError(
            f"{name} is empty or holds characters that no header can carry: take letters, digits "
            "and signs of ASCII, without blanks"
        )
    return value


def read_key(path: Path) -> ApiKey:
    try:
        text = small_file.read(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigurationError(
            f"cannot read the key file {path}: {reason}; its first line is to be the key"
        ) from None
    lines = text.splitlines()
    return ApiKey(checked(lines[0].strip() if lines else "", f"the key in {path}"), str(path))


def read_credential(path: Path) -> ApiKey:
    if small_file.read(path).strip() == NO_FILE.encode():
        raise ConfigurationError(
            f"the key file that the unit's LoadCredential={path.name}:... names is not there"
        )
    return read_key(path)


def kept_key(path: Path) -> ApiKey:
    """Reads the key that was made earlier, or makes it; two starts at once agree on one."""
    if not path.exists():
        make_key(path)
    return read_key(path)


def make_key(path: Path) -> None:
    """Written to a file of its own and linked into place, so that it is never seen half-written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"sk-claude-proxy-{secrets.token_urlsafe(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another start was faster; its key counts
            os.link(draft, path)
    except OSError as error:
        raise ConfigurationError(
            f"cannot keep a key in {path}: {error.strerror}; make that possible, or give a key "
            "with --api-key-file"
        ) from None
    finally:
        with suppress(OSError):
            draft.unlink()
