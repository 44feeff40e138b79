"""A neutral conversation as the turns that the CLI, and so Anthropic's API, takes. Pure.

Facts (measured with CLI 2.1.330): consecutive user lines are merged by the CLI with a newline
added to their text, so they are merged here, as blocks of one line, byte for byte. The API takes
no blank text, so blank parts, which say nothing, are left out.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import msgspec

from claude_proxy.claude.stream_json import Json
from claude_proxy.claude.tools import ToolNames
from claude_proxy.conversation import (
    Answer,
    Conversation,
    Document,
    Image,
    Part,
    Text,
    ToolCall,
    ToolResult,
)
from claude_proxy.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the API: its role and content blocks."""

    role: str
    content: list[Json]


def to_turns(conversation: Conversation, names: ToolNames) -> list[Turn]:
    """Alternating turns that end with a user's. Raises InvalidRequest when there is none."""
    turns: list[Turn] = []
    ids = ToolIds()
    for message in conversation.messages:
        content = [block(part, ids, names) for part in message.parts if not is_blank(part)]
        if not content:
            continue
        if turns and turns[-1].role == message.role:
            turns[-1].content.extend(content)
        else:
            turns.append(Turn(message.role, content))
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


def answer_turn(answer: Answer, names: ToolNames) -> Turn:
    """What the model said, as the client will echo it: without its reasoning."""
    parts: list[Part] = [Text(answer.text), *answer.calls]
    ids = ToolIds()
    return Turn("assistant", [block(part, ids, names) for part in parts if not is_blank(part)])


def marked(content: list[Json]) -> list[Json]:
    """With a mark of the prompt cache at its end: up to here it can be read again.

    The CLI's own last mark stands behind a note on its environment, which is always at the end
    of what a process was started with, so that no replay ever hits that one. The API takes four
    marks, of which the CLI uses three.
    """
    *rest, last = content
    return [*rest, {**last, "cache_control": {"type": "ephemeral"}}]


def is_blank(part: Part) -> bool:
    return isinstance(part, Text) and not part.text.strip()


def block(part: Part, ids: ToolIds, names: ToolNames) -> Json:
    """One content block of Anthropic's Messages API."""
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Image(url=url) if url:
            return {"type": "image", "source": {"type": "url", "url": url}}
        case Image(media_type=media_type, data=data):
            source = {"type": "base64", "media_type": media_type, "data": data}
            return {"type": "image", "source": source}
        case Document(data=data, title=title):
            source = {"type": "base64", "media_type": "application/pdf", "data": data}
            named = {"title": title} if title else {}
            return {"type": "document", "source": source, **named}
        case ToolCall(id=id_, name=name, arguments=arguments):
            value = msgspec.json.decode(arguments)
            call = {"type": "tool_use", "id": ids.of_call(id_), "name": names.to_api(name)}
            return {**call, "input": value}
        case ToolResult(call_id=id_, parts=parts):
            content = [block(inner, ids, names) for inner in parts if not is_blank(inner)]
            result = {"type": "tool_result", "tool_use_id": ids.of_result(id_)}
            return {**result, "content": content} if content else result


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
