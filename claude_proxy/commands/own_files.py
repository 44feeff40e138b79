"""Files that ``config`` writes for a client: only where there is none, or its own as it left it."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from claude_proxy import small_file
from claude_proxy.settings import ConfigurationError

MARK = "Written by claude-proxy config --write, which replaces it while nobody else changes it"
SLASHES = frozenset({"jsonc", "json5", "javascript"})


def marked(text: str, language: str) -> str:
    """With a first line from which ``is_ours`` sees that nothing was changed since."""
    sign = "//" if language in SLASHES else "#"
    return f"{sign} {MARK}: {digest(text)}\n{text}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_ours(content: str) -> bool:
    first, _, text = content.partition("\n")
    found = re.fullmatch(rf"(?:#|//) {re.escape(MARK)}: ([0-9a-f]{{16}})", first)
    return found is not None and found[1] == digest(text)


def refuse_foreign(path: Path) -> None:
    """Raises ConfigurationError where a file is not to be touched."""
    if problem := foreign(path):
        raise ConfigurationError(
            f"{path} {problem}, and stays as it is: move it away, or leave out --write and paste"
        )


def foreign(path: Path) -> str | None:
    try:
        if path.is_symlink():
            return f"is a symbolic link to {os.path.realpath(path)}"
        if path.exists() and not is_ours(small_file.read(path).decode(errors="replace")):
            return "is not by claude-proxy config, or was changed since"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def write(texts: Mapping[Path, str]) -> None:
    """Each seen whole or not at all, by the user alone; where one cannot be written, none is.
    Raises ConfigurationError.
    """
    drafts: dict[Path, Path] = {}
    try:
        for path, text in texts.items():
            refuse_foreign(path)
            with explained(path):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # A name that nobody can have foreseen: what lay there before would be another's.
                drafts[path] = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
                fill(drafts[path], text)
        for path, draft in drafts.items():
            refuse_foreign(path)
            with explained(path):
                draft.replace(path)
    finally:
        for draft in drafts.values():
            with suppress(OSError):
                draft.unlink()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {path}: {error.strerror}; leave out --write and paste"
        ) from None


def fill(draft: Path, text: str) -> None:
    """Raises OSError, also where there is anything of that name."""
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)  # whatever the umask
        file.write(text)
        file.flush()
        os.fsync(descriptor)
