"""Words that must not come out anywhere, and the places where they are looked for."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import stat
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Canary:
    """``word`` is lower-case letters and digits, which JSON, URLs and ``repr`` leave as they are.

    ``kept``: it belongs to a response that is to be stored.
    """

    name: str
    word: str
    kept: bool = False

    def is_in(self, data: bytes) -> bool:
        plain = data.lower()
        encoded = data.translate(bytes.maketrans(b"-_", b"+/"))
        word = self.word.encode()
        return (
            word in plain
            or word.hex().encode() in plain
            or any(form in encoded for form in base64_forms(word))
        )


def base64_forms(word: bytes) -> list[bytes]:
    """What of it is the same whatever stands around it, for the three places it may begin at."""
    forms = []
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + word)
        forms.append(whole[-(-before * 8 // 6) : (before + len(word)) * 8 // 6])
    return forms


class Canaries:
    def __init__(self) -> None:
        self.all: list[Canary] = []

    def word(self, name: str, *, kept: bool = False) -> str:
        """A new one."""
        self.all.append(Canary(name, f"zq{secrets.token_hex(8)}", kept))
        return self.all[-1].word

    def found_in(self, data: bytes | str, *, but: bytes = b"", kept: bool = True) -> list[str]:
        """Names of those in ``data`` that are not in ``but``; ``kept``: those to be kept too."""
        data = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        return [
            canary.name
            for canary in self.all
            if canary.is_in(data) and not canary.is_in(but) and (kept or not canary.kept)
        ]


@dataclass
class Files:
    """All that was ever seen below a directory."""

    root: Path
    modes: dict[str, int] = field(default_factory=dict)
    contents: dict[str, set[bytes]] = field(default_factory=dict)

    def look(self) -> None:
        for directory, _, names in os.walk(self.root):
            for name in names:
                path = Path(directory) / name
                with contextlib.suppress(OSError):  # gone meanwhile
                    self._see(path)

    def _see(self, path: Path) -> None:
        name = str(path.relative_to(self.root))
        self.modes[name] = path.lstat().st_mode
        # A name can give away as much as a content.
        seen = self.contents.setdefault(name, {name.encode()})
        if stat.S_ISREG(self.modes[name]):
            seen.add(path.read_bytes())


class ProcessWatch:
    """Arguments and environment of a process and of all below it, those that live briefly too.

    As far as polling sees them; ``with`` it.
    """

    def __init__(self, pid: int) -> None:
        self.seen: set[bytes] = set()
        self._family = {pid}
        self._strangers: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self._look()

    def _look(self) -> None:
        present = {int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()}
        self._strangers &= present
        for pid in sorted(present - self._strangers):
            with contextlib.suppress(OSError, ValueError, IndexError):
                place = Path(f"/proc/{pid}")
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                if pid not in self._family and parent not in self._family:
                    self._strangers.add(pid)
                    continue
                self._family.add(pid)
                self.seen.add((place / "cmdline").read_bytes())
                self.seen.add((place / "environ").read_bytes())
