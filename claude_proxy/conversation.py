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
    """A PDF: ``url``, or else base64 ``data``; and the name that the client gave it."""

    data: str
    title: str | None = None
    url: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """``arguments`` is the text of a JSON object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    call_id: str
    parts: tuple[Text | Image | Document | Native, ...]
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What the model ``model`` thought before it spoke, as far as it shows it.

    ``signature`` is its maker's proof, without which the model does not take it back. When
    ``redacted``, there is no text, and the signature holds what was thought.
    """

    text: str
    signature: str
    model: str
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class Native:
    """What only the model's own API has a form for: JSON of its content block, as it came."""

    block: str


@dataclass(frozen=True, slots=True)
class CacheMark:
    """The client wants to read what stands before it from the prompt cache the next time."""


Part: TypeAlias = Text | Image | Document | Reasoning | ToolCall | ToolResult | Native | CacheMark


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
class Tool:
    """``schema`` is the text of a JSON Schema, byte for byte the client's.

    ``native``: JSON of the whole definition in the form of the model's own API, where the client
    wrote it so.
    """

    name: str
    schema: str
    description: str | None = None
    native: str | None = None


class ToolUse(Enum):
    """Whether the model may, must not, or must call a tool."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """``name``: the one tool that must be called, with REQUIRED."""

    use: ToolUse = ToolUse.AUTO
    name: str | None = None
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class Options:
    """What a client may set for one answer; None is the model's own default.

    ``thinks``: whether it may reason, where that is not left to ``effort``. ``native``: JSON of an
    object, options that only the model's own API has a word for.
    """

    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    effort: Effort | None = None
    temperature: float | None = None
    top_p: float | None = None
    tool_choice: ToolChoice = ToolChoice()
    thinks: bool | None = None
    native: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """``messages`` ends with the user message that is to be answered.

    ``schema``: the text of the JSON Schema that the answer's text must be an instance of.
    """

    model: str
    system: str
    messages: tuple[Message, ...]
    options: Options = field(default_factory=Options)
    tools: tuple[Tool, ...] = ()
    schema: str | None = None


class FinishReason(Enum):
    STOP = "stop"
    LENGTH = "length"
    CONTEXT_FULL = "context_full"
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

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )


@dataclass(frozen=True, slots=True)
class Started:
    """The model has begun to answer; ``model`` is its exact id, ``id`` that of its message.

    ``usage``: what is known of it by now, which is what was read.
    """

    model: str
    id: str = ""
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDone:
    """One block of reasoning, perhaps without any text, is complete; see ``Reasoning``."""

    signature: str
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class Citation:
    """Where the text that is being said comes from: JSON, in the form of the model's own API."""

    json: str


@dataclass(frozen=True, slots=True)
class TextDone:
    """A block of text is complete. Mostly there is but one."""


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """Of the call that started last; all of a call's together are the text of a JSON object."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is whole. ``refusal`` explains a REFUSAL where the model said why.

    ``stopped_at``: the client's stop sequence that ended it.
    """

    reason: FinishReason
    usage: Usage
    refusal: str | None = None
    stopped_at: str | None = None


Event: TypeAlias = (
    Started
    | ReasoningDelta
    | ReasoningDone
    | TextDelta
    | Citation
    | TextDone
    | ToolCallStarted
    | ArgumentsDelta
    | Finished
)


@dataclass(frozen=True, slots=True)
class Answer:
    model: str
    text: str
    reasoning: str
    calls: tuple[ToolCall, ...]
    finished: Finished


def fold(events: Iterable[Event]) -> Answer:
    """One whole answer of a complete sequence of events; ValueError when it is not complete."""
    model: str | None = None
    text: list[str] = []
    reasoning: list[str] = []
    calls: list[tuple[ToolCallStarted, list[str]]] = []
    for event in events:
        match event:
            case Started(model=name):
                model = name
            case TextDelta(text=piece):
                text.append(piece)
            case ReasoningDelta(text=piece):
                reasoning.append(piece)
            case ReasoningDone() | Citation() | TextDone():
                pass
            case ToolCallStarted():
                calls.append((event, []))
            case ArgumentsDelta(text=piece) if calls:
                calls[-1][1].append(piece)
            case Finished() if model is not None:
                made = tuple(ToolCall(call.id, call.name, "".join(said)) for call, said in calls)
                return Answer(model, "".join(text), "".join(reasoning), made, event)
            case _:
                break
    raise ValueError("events end before the answer is finished")
