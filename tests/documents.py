"""The blocks of code in README.md, SECURITY.md and docs/, and how each of them is run."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "SECURITY.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
# The marks, which docs/development.md explains, and the languages that each of them runs.
HOW = {
    "demo": {"sh", "python"},
    "stand-ins": {"sh"},
    "lab": {"sh", "console"},
    "tree": {"sh"},
    "parse": {"nix"},
    "test command": {"sh"},
}
FENCED = re.compile(
    r"(?:^ *<!-- (?:run: )?(?P<how>[a-z -]+) -->\n)?^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """``how`` is None where there is no mark; ``line`` is that of the opening fence."""

    page: str
    line: int
    language: str
    how: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("language")) + 1,
            found["language"],
            found["how"],
            textwrap.dedent(found["text"]),
        )
        for found in FENCED.finditer(text)
    ]


def marked(*how: str) -> list[Block]:
    """Those with one of these marks, of all pages."""
    return [block for page in PAGES for block in blocks(page) if block.how in how]


def sentences(page: str) -> list[str]:
    """What stands as code within a sentence."""
    text = FENCED.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return re.findall(r"`([^`\n]+)`", text)


def inline(program: str) -> list[str]:
    """The command lines of that program, with words of their own, in the sentences of all pages."""
    return sorted(
        {
            text
            for page in [*PAGES, "CHANGELOG.md"]
            for text in sentences(page)
            if text.startswith(f"{program} ")
        }
    )
