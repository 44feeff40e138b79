"""What a client needs to know of the service, and the text that tells it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Model:
    """``context``: tokens of prompt and answer together; ``output``: of the answer alone."""

    name: str
    context: int
    output: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``url`` has no path: ``http://127.0.0.1:8080``. ``key_file``: one whose first line is the
    key, as an absolute path; None where only ``key_command`` can tell it. Never the key itself.
    """

    url: str
    key_command: str = "claude-proxy key"
    key_file: str | None = None
    models: Sequence[Model] = ()

    @property
    def openai(self) -> str:
        """The base URL of OpenAI's clients; Anthropic's take ``url``."""
        return f"{self.url}/v1"


@dataclass(frozen=True, slots=True)
class Snippet:
    """``where`` it goes, in words. ``path``: a file of its own, which may be written as it is;
    ``~/`` is the home. ``language`` is that of the text, as a Markdown fence has it.
    """

    client: str
    title: str
    where: str
    language: str
    text: str
    path: str | None = None
