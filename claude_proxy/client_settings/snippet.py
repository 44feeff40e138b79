"""What a client needs to know of the service, and the text that tells it. Pure."""

from __future__ import annotations

import json
import shlex
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

# Of the key, for clients that take none but a variable. `claude-proxy` itself reads it, too.
VARIABLE = "PROXY_API_KEY"
SHELL = "in a shell"
SMALL = "haiku"
# Characters that end a line, a comment's or a command's, in one of the languages, or that one of
# them does not take: control characters, halves of pairs, separators of lines and paragraphs.
UNFIT = frozenset({"Cc", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Model:
    """Tokens: ``context`` of all that goes in and comes out, ``output`` of one answer."""

    name: str
    context: int
    output: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``url`` has no path: ``http://127.0.0.1:8080``. The first of ``models`` is the default one.

    ``key_file`` holds the key and nothing else; None where only ``key_command`` tells it.
    ``directory``: where files may lie that no client looks for by itself.
    """

    url: str
    models: Sequence[Model]
    key_file: str | None = None
    key_command: Sequence[str] = ("claude-proxy", "key")
    directory: str = "~/.config/claude-proxy/clients"

    @property
    def openai(self) -> str:
        """The base URL of OpenAI's clients; Anthropic's take ``url``."""
        return f"{self.url}/v1"

    @property
    def model(self) -> str:
        return self.models[0].name

    @property
    def small(self) -> str:
        """For titles and the like."""
        return next((model.name for model in self.models if model.name == SMALL), self.model)


@dataclass(frozen=True, slots=True)
class File:
    """One that a client reads and nobody else writes. ``variable``: of the environment, which
    names another directory.
    """

    directory: str
    name: str
    variable: str = ""

    def __str__(self) -> str:
        return f"{self.directory}/{self.name}"


@dataclass(frozen=True, slots=True)
class Snippet:
    """``where`` it goes, in words. ``language`` is that of the text, as a Markdown fence has it.
    ``file``: may be written as it is, when there is none yet.
    """

    client: str
    title: str
    where: str
    language: str
    text: str
    file: File | None = None


def shell_path(file: File) -> str:
    home, _, rest = str(file).partition("~/")
    return f"~/{shlex.quote(rest)}" if not home and rest else shlex.quote(str(file))


def fits(text: str) -> bool:
    """Whether a path or a name can be told to any client."""
    return all(unicodedata.category(sign) not in UNFIT for sign in text)


def quoted(text: str) -> str:
    """A string that ``fits``, as JSON, TOML, YAML, JavaScript and Python take it."""
    return json.dumps(text, ensure_ascii=False)


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
