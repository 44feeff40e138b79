"""The neutral middle: what a client asks and what a model answers, in nobody's wire format.

A ``Conversation`` goes in, a sequence of ``Event`` comes out. ``fold`` makes the one whole
``Answer`` of the events, so a streamed and an unstreamed answer can never disagree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """``url`` for a picture on the web, else ``media_type`` and base64 ``data``."""

    media_type: str = ""
    data: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A PDF: base64 ``data`` and the name that the client gave it."""

    data: str
    title: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """``arguments`` is the text of a JSON object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    call_id: str
    parts: tuple[Text | Image | Document, ...]


Part: TypeAlias = Text | Image | Document | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]


class Effort(Enum):
    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Options:
    """What a client may set for one answer; None is the model's own default."""

    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    effort: Effort | None = None
    temperature: float | None = None
    top_p: float | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """``messages`` ends with the user message that is to be answered."""

    model: str
    system: str
    messages: tuple[Message, ...]
    options: Options = field(default_factory=Options)


class FinishReason(Enum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. ``input`` counts neither cache reads nor cache writes; ``output`` holds reasoning."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write


@dataclass(frozen=True, slots=True)
class Started:
    """The model has begun to answer; ``model`` is its exact id."""

    model: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is whole. ``refusal`` explains a REFUSAL where the model said why."""

    reason: FinishReason
    usage: Usage
    refusal: str | None = None


Event: TypeAlias = Started | ReasoningDelta | TextDelta | Finished


@dataclass(frozen=True, slots=True)
class Answer:
    model: str
    text: str
    reasoning: str
    finished: Finished


def fold(events: Iterable[Event]) -> Answer:
    """One whole answer of a complete sequence of events; ValueError when it is not complete."""
    model: str | None = None
    text: list[str] = []
    reasoning: list[str] = []
    for event in events:
        match event:
            case Started(model=name):
                model = name
            case TextDelta(text=piece):
                text.append(piece)
            case ReasoningDelta(text=piece):
                reasoning.append(piece)
            case Finished() if model is not None:
                return Answer(model, "".join(text), "".join(reasoning), event)
            case _:
                break
    raise ValueError("events end before the answer is finished")
