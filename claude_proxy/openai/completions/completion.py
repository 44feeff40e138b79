"""Completions: what leaves, streamed and whole, which have one shape. Pure.

Both are made of the same events. What the model thought, and why it refused, has no place here.
"""

from __future__ import annotations

import secrets
import time
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from claude_proxy import conversation as neutral
from claude_proxy.conversation import Answer, Event, Finished, FinishReason, Started, TextDelta
from claude_proxy.dialect.frames import KEEP_ALIVE, frame
from claude_proxy.errors import ProxyError, openai_body
from claude_proxy.openai import ending
from claude_proxy.openai.ending import DONE, Usage, to_usage

# No tools are offered to it; it may call one all the same.
FINISH = {**ending.FINISH, FinishReason.TOOL_CALLS: "stop"}


class TextChoice(msgspec.Struct):
    text: str
    index: int = 0
    logprobs: None = None
    finish_reason: str | None = None


class TextCompletion(msgspec.Struct):
    """In a stream ``usage`` is there only when it was asked for, and null up to the last one."""

    id: str
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | UnsetType | None = UNSET
    object: Literal["text_completion"] = "text_completion"


_encode = msgspec.json.Encoder().encode


def new_id() -> str:
    return f"cmpl-{secrets.token_hex(16)}"


def to_completion(answer: Answer, *, echo: str = "") -> bytes:
    """The body of the answer that was not asked for as a stream; ``echo`` is its beginning."""
    finished = answer.finished
    choice = TextChoice(echo + answer.text, finish_reason=FINISH[finished.reason])
    usage = to_usage(finished.usage)
    return _encode(TextCompletion(new_id(), int(time.time()), answer.model, [choice], usage))


class TextStream:
    """``feed`` one event, get the SSE frames it makes; id, created and model never change."""

    keep_alive = KEEP_ALIVE

    def __init__(self, *, include_usage: bool, echo: str = "") -> None:
        self._id = new_id()
        self._created = int(time.time())
        self._model = ""
        self._usage: UnsetType | None = None if include_usage else UNSET
        self._echo = echo

    def feed(self, event: Event) -> bytes:
        match event:
            case Started(model=model):
                self._model = model
                return self._frame(TextChoice(self._echo))
            case TextDelta(text=text):
                return self._frame(TextChoice(text))
            case Finished():
                return self._finish(event)
        return b""

    def fail(self, error: ProxyError, _: neutral.Usage) -> bytes:
        """The frame that ends a stream which has begun and cannot be finished."""
        return frame(openai_body(error))

    def _finish(self, finished: Finished) -> bytes:
        last = self._frame(TextChoice("", finish_reason=FINISH[finished.reason]))
        if self._usage is UNSET:
            return last + DONE
        return last + self._encode([], to_usage(finished.usage)) + DONE

    def _frame(self, choice: TextChoice) -> bytes:
        return self._encode([choice], self._usage)

    def _encode(self, choices: list[TextChoice], usage: Usage | UnsetType | None) -> bytes:
        made = TextCompletion(self._id, self._created, self._model, choices, usage)
        return frame(_encode(made))
