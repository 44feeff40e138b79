"""Files that ``config`` writes for a client: only where there is none, or its own as it left it."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
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
    problem = None
    if path.is_symlink():
        problem = f"is a symbolic link to {os.path.realpath(path)}"
    elif path.exists():
        try:
            if not is_ours(small_file.read(path).decode(errors="replace")):
                problem = "is not by claude-proxy config, or was changed since"
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
    if problem:
        raise ConfigurationError(
            f"{path} {problem}, and stays as it is: move it away, or leave out --write and paste"
        )


def write(path: Path, content: str) -> None:
    """Seen whole or not at all, by the user alone. Raises ConfigurationError."""
    refuse_foreign(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {path}: {error.strerror}; leave out --write and paste"
        ) from None
    finally:
        with suppress(OSError):
            draft.unlink()
