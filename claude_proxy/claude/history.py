"""A neutral conversation as the turns that the CLI, and so Anthropic's API, takes. Pure.

Facts (measured with CLI 2.1.330): consecutive user lines are merged by the CLI with a newline
added to their text, so they are merged here, as blocks of one line, byte for byte. The API takes
no blank text, so blank parts, which say nothing, are left out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec

from claude_proxy.claude.stream_json import Json
from claude_proxy.claude.tools import ToolNames
from claude_proxy.conversation import (
    Answer,
    CacheMark,
    Conversation,
    Document,
    Image,
    Message,
    Native,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from claude_proxy.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the API: its role and content blocks; ``model`` whose thinking is in it.

    ``marks``: which blocks the client wants to end a stretch of the prompt cache. They are no
    part of what is said: clients move them from turn to turn.
    """

    role: str
    content: list[Json]
    model: str | None = None
    marks: tuple[int, ...] = ()


def to_turns(conversation: Conversation, names: ToolNames) -> list[Turn]:
    """Alternating turns that end with a user's. Raises InvalidRequest when there is none."""
    ids = ToolIds()
    turns = [to_turn(role, parts, ids, names) for role, parts in alternating(conversation.messages)]
    if not turns or turns[-1].role != "user":
        raise InvalidRequest(
            "There is nothing to answer: no user message, or a blank one at the end",
            param="messages",
        )
    if turns[0].role != "user":
        raise InvalidRequest(
            "The first message after the system prompt must be a user's: Claude takes no "
            "conversation that begins with the assistant",
            param="messages",
        )
    return turns


def alternating(messages: Iterable[Message]) -> list[tuple[str, list[Part]]]:
    """Each role with all that it says until the other one speaks; nothing of it is blank."""
    turns: list[tuple[str, list[Part]]] = []
    for role, group in groupby(messages, key=attrgetter("role")):
        parts = [part for message in group for part in message.parts if not is_blank(part)]
        while parts and isinstance(parts[-1], Reasoning | CacheMark) and is_idle(parts):
            parts.pop()
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(parts)
        elif parts:
            turns.append((role, parts))
    return turns


def is_idle(parts: list[Part]) -> bool:
    """Whether it ends in what led to nothing: the CLI drops, or changes, a turn of such."""
    said = [part for part in parts if not isinstance(part, CacheMark)]
    return not said or isinstance(said[-1], Reasoning)


def to_turn(role: str, parts: list[Part], ids: ToolIds, names: ToolNames) -> Turn:
    """The CLI takes one model's thinking in a turn, and passes it on to that model only."""
    model = next((part.model for part in parts if isinstance(part, Reasoning)), None)
    content: list[Json] = []
    marks: list[int] = []
    for part in parts:
        if isinstance(part, CacheMark):
            marks.append(len(content) - 1)
        elif not isinstance(part, Reasoning) or part.model == model:
            content.append(block(part, ids, names))
    return Turn(role, content, model, tuple(mark for mark in marks if mark >= 0))


def answer_turn(answer: Answer, names: ToolNames) -> Turn:
    """What the model said, as the client will echo it: without its reasoning."""
    parts: list[Part] = [Text(answer.text), *answer.calls]
    ids = ToolIds()
    return Turn("assistant", [block(part, ids, names) for part in parts if not is_blank(part)])


def marked(turns: Sequence[Turn]) -> list[Turn]:
    """With one mark of the prompt cache: up to there it can be read again.

    It is the last one that the client has set, else the end. The CLI's own last mark stands behind
    a note on its environment, which is always at the end of what a process was started with, so
    that no replay ever hits that one. The API takes four marks, of which the CLI uses three. Of a
    longer life than the CLI's, which come before it, the API would not take it.
    """
    places = [(turn, mark) for turn, one in enumerate(turns) for mark in one.marks]
    turn, mark = places[-1] if places else (len(turns) - 1, len(turns[-1].content) - 1)
    content = list(turns[turn].content)
    content[mark] = {**content[mark], "cache_control": {"type": "ephemeral"}}
    return [*turns[:turn], replace(turns[turn], content=content), *turns[turn + 1 :]]


def is_blank(part: Part) -> bool:
    match part:
        case Text(text=said) | Reasoning(signature=said):
            return not said.strip()
        case _:
            return False


def block(part: Part, ids: ToolIds, names: ToolNames) -> Json:
    """One content block of Anthropic's Messages API."""
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Image() | Document() | Native():
            return attachment(part)
        case Reasoning(signature=data, redacted=True):
            return {"type": "redacted_thinking", "data": data}
        case Reasoning(text=text, signature=signature):
            return {"type": "thinking", "thinking": text, "signature": signature}
        case ToolCall(id=id_, name=name, arguments=arguments):
            value = msgspec.json.decode(arguments)
            call = {"type": "tool_use", "id": ids.of_call(id_), "name": names.to_api(name)}
            return {**call, "input": value}
        case ToolResult():
            return tool_result(part, ids, names)
    raise AssertionError("a mark is no block, but belongs to one")


def tool_result(part: ToolResult, ids: ToolIds, names: ToolNames) -> Json:
    content = [block(inner, ids, names) for inner in part.parts if not is_blank(inner)]
    result: Json = {"type": "tool_result", "tool_use_id": ids.of_result(part.call_id)}
    if part.is_error:
        result["is_error"] = True
    return {**result, "content": content} if content else result


def attachment(part: Image | Document | Native) -> Json:
    if isinstance(part, Native):
        return msgspec.json.decode(part.block, type=dict[str, Any])
    media_type = part.media_type if isinstance(part, Image) else "application/pdf"
    source = {"type": "base64", "media_type": media_type, "data": part.data}
    if part.url:
        source = {"type": "url", "url": part.url}
    if isinstance(part, Image):
        return {"type": "image", "source": source}
    return {"type": "document", "source": source, **({"title": part.title} if part.title else {})}


class ToolIds:
    """The API's ids for the client's: ``[a-zA-Z0-9_-]+`` and never twice in a conversation.

    Other servers give out ids of any characters, and the same ones again in every turn.
    """

    def __init__(self) -> None:
        self._latest: dict[str, str] = {}
        self._times: dict[str, int] = {}
        self._taken: set[str] = set()

    def of_call(self, given: str) -> str:
        """``given`` itself where the API takes it, else a digest that stands for it."""
        made = given
        while made in self._taken or not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", made):
            times = self._times[given] = self._times.get(given, 0) + 1
            made = "call" + hashlib.sha256(f"{times}:{given}".encode()).hexdigest()[:32]
        self._taken.add(made)
        self._latest[given] = made
        return made

    def of_result(self, given: str) -> str:
        """The id of the latest call of that name."""
        return self._latest.get(given, given)
