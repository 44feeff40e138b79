"""Chat Completions: what leaves, streamed and whole. Pure.

Both are made of the same events. ``ChunkStream`` turns each into SSE frames, ``to_completion``
makes one body of the folded ``Answer``. A client that offered ``functions``, the old form of
tools, gets the first call as ``function_call``, for which alone that form has a place.
"""

from __future__ import annotations

import secrets
import time
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from claude_proxy import conversation as neutral
from claude_proxy.conversation import (
    Answer,
    ArgumentsDelta,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallStarted,
)
from claude_proxy.dialect.frames import KEEP_ALIVE, frame
from claude_proxy.errors import ProxyError, openai_body
from claude_proxy.openai.ending import DONE, FINISH, Usage, to_usage


class FunctionDelta(msgspec.Struct):
    """SDKs join whatever comes twice, so the name comes once."""

    arguments: str
    name: str | UnsetType = UNSET


class ToolCallDelta(msgspec.Struct):
    index: int
    function: FunctionDelta
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


class Delta(msgspec.Struct):
    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    refusal: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET
    function_call: FunctionDelta | UnsetType = UNSET


class ChunkChoice(msgspec.Struct):
    delta: Delta
    finish_reason: str | None = None
    index: int = 0
    logprobs: None = None


class Chunk(msgspec.Struct):
    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


class Function(msgspec.Struct):
    name: str
    arguments: str


class ToolCall(msgspec.Struct):
    id: str
    function: Function
    type: Literal["function"] = "function"


class AssistantMessage(msgspec.Struct):
    """Without calls there is no ``tool_calls`` at all; with nothing but calls no content."""

    content: str | None
    refusal: str | None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    function_call: Function | UnsetType = UNSET
    role: Literal["assistant"] = "assistant"
    annotations: tuple[()] = ()


class Choice(msgspec.Struct):
    message: AssistantMessage
    finish_reason: str
    index: int = 0
    logprobs: None = None


class Completion(msgspec.Struct):
    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    object: Literal["chat.completion"] = "chat.completion"


_encode = msgspec.json.Encoder().encode


def new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(16)}"


def finish_reason(finished: Finished, *, functions: bool) -> str:
    if functions and finished.reason is FinishReason.TOOL_CALLS:
        return "function_call"
    return FINISH[finished.reason]


def to_completion(answer: Answer, *, functions: bool = False) -> bytes:
    """The body of the answer that was not asked for as a stream."""
    finished = answer.finished
    message = AssistantMessage(
        content=answer.text if answer.text or not (finished.refusal or answer.calls) else None,
        refusal=finished.refusal,
        reasoning_content=answer.reasoning or UNSET,
    )
    made = [ToolCall(call.id, Function(call.name, call.arguments)) for call in answer.calls]
    if made and functions:
        message.function_call = made[0].function
    elif made:
        message.tool_calls = made
    choice = Choice(message, finish_reason(finished, functions=functions))
    usage = to_usage(finished.usage)
    return _encode(Completion(new_id(), int(time.time()), answer.model, [choice], usage))


class ChunkStream:
    """``feed`` one event, get the SSE frames it makes; id, created and model never change."""

    keep_alive = KEEP_ALIVE

    def __init__(self, *, include_usage: bool, functions: bool = False) -> None:
        self._id = new_id()
        self._created = int(time.time())
        self._model = ""
        self._usage: UnsetType | None = None if include_usage else UNSET
        self._functions = functions
        self._calls = 0

    def feed(self, event: Event) -> bytes:
        frames = b""
        match event:
            case TextDelta(text=text):
                frames = self._frame(Delta(content=text))
            case ReasoningDelta(text=text):
                frames = self._frame(Delta(reasoning_content=text))
            case ToolCallStarted(id=id_, name=name):
                self._calls += 1
                frames = self._call(FunctionDelta("", name), id_)
            case ArgumentsDelta(text=text):
                frames = self._call(FunctionDelta(text))
            case Started(model=model):
                self._model = model
                frames = self._frame(Delta(role="assistant", content="", refusal=None))
            case Finished():
                frames = self._finish(event)
        return frames

    def _call(self, function: FunctionDelta, id_: str | UnsetType = UNSET) -> bytes:
        if self._functions:
            return self._frame(Delta(function_call=function)) if self._calls == 1 else b""
        kind = "function" if id_ is not UNSET else UNSET
        call = ToolCallDelta(self._calls - 1, function, id_, kind)
        return self._frame(Delta(tool_calls=[call]))

    def fail(self, error: ProxyError, _: neutral.Usage) -> bytes:
        """The frame that ends a stream which has begun and cannot be finished."""
        return frame(openai_body(error))

    def _finish(self, finished: Finished) -> bytes:
        frames = [self._frame(Delta(refusal=finished.refusal))] if finished.refusal else []
        reason = finish_reason(finished, functions=self._functions)
        frames.append(self._frame(Delta(), reason))
        if self._usage is None:
            usage = to_usage(finished.usage)
            frames.append(self._encode(Chunk(self._id, self._created, self._model, [], usage)))
        return b"".join((*frames, DONE))

    def _frame(self, delta: Delta, finish_reason: str | None = None) -> bytes:
        choices = [ChunkChoice(delta, finish_reason)]
        return self._encode(Chunk(self._id, self._created, self._model, choices, self._usage))

    def _encode(self, chunk: Chunk) -> bytes:
        return frame(_encode(chunk))
