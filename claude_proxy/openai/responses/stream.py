"""An answer as a Response, event by event and whole; and a kept one once more. Pure.

The answer that was not asked for as a stream is the end of the same stream, so the two can never
disagree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from claude_proxy import conversation as neutral
from claude_proxy.conversation import (
    ArgumentsDelta,
    Finished,
    FinishReason,
    Reasoning,
    ReasoningDelta,
    ReasoningDone,
    Started,
    TextDelta,
    ToolCallStarted,
)
from claude_proxy.dialect.frames import KEEP_ALIVE
from claude_proxy.errors import ProxyError
from claude_proxy.openai.responses.events import (
    AnyOpenItem,
    ErrorDetail,
    OpenCustomToolCall,
    OpenFunctionCall,
    OpenMessage,
    OpenReasoning,
    Writer,
)
from claude_proxy.openai.responses.freeform import FreeformInput
from claude_proxy.openai.responses.reasoning import seal
from claude_proxy.openai.responses.response import (
    CustomToolCallItem,
    FunctionCallItem,
    IncompleteDetails,
    MessageItem,
    OutputItem,
    OutputText,
    ReasoningItem,
    Response,
    ResponseError,
    Status,
    new_id,
    to_usage,
)
from claude_proxy.openai.responses.toolbox import Toolbox

INCOMPLETE = {
    FinishReason.LENGTH: IncompleteDetails("max_output_tokens"),
    FinishReason.CONTEXT_FULL: IncompleteDetails("max_output_tokens"),
    FinishReason.REFUSAL: IncompleteDetails("content_filter"),
}
Keep: TypeAlias = Callable[["ResponseStream"], bool]
_encode = msgspec.json.Encoder().encode


class ResponseStream:
    """``feed`` one event, get the SSE frames it makes; ``response`` is the answer so far."""

    keep_alive = KEEP_ALIVE

    def __init__(
        self,
        response: Response,
        toolbox: Toolbox,
        keep: Keep,
        *,
        summarises: bool,
        seals: bool,
    ) -> None:
        """``summarises``: the client may read the reasoning; ``seals``: it keeps it.

        ``keep`` gets this stream when its response is final, before anybody is told, and says
        whether it is stored.
        """
        self.response = response
        self._keep = keep
        self._toolbox = toolbox
        self._summarises = summarises
        self._seals = seals
        self.begun = False
        self._writer = Writer()
        self._open: AnyOpenItem | None = None
        self._freeform = FreeformInput()
        self._thought: list[str] = []
        self._sealed: dict[str, str] = {}

    @property
    def body(self) -> bytes:
        return _encode(self.response)

    def kept(self) -> dict[str, bytes]:
        """The items by their ids, as a later request needs them: with the reasoning's seal.

        Not the calls of an answer whose end the client was not told of, since nobody answers
        them; those of one that was cut off are marked, as somebody may.
        """
        ended_well = self.response.status in ("completed", "incomplete")
        kept: dict[str, bytes] = {}
        for item in self.response.output:
            match item:
                case FunctionCallItem() | CustomToolCallItem() if not ended_well:
                    continue
                case FunctionCallItem() | CustomToolCallItem() if self.response.incomplete_details:
                    kept[item.id] = _encode(replace(item, status="incomplete"))
                case ReasoningItem(id=id_) if id_ in self._sealed:
                    kept[id_] = _encode(replace(item, encrypted_content=self._sealed[id_]))
                case _:
                    kept[item.id] = _encode(item)
        return kept

    def feed(self, event: neutral.Event) -> bytes:
        match event:
            case TextDelta(text=text):
                self._message().say(text)
            case ReasoningDelta(text=text):
                self._think(text)
            case ReasoningDone():
                self._end_thought(event)
            case ToolCallStarted():
                self._begin_call(event)
            case ArgumentsDelta(text=text):
                self._say_arguments(text)
            case Started(model=model):
                self._begin(model)
            case Finished():
                self._finish(event)
        return self._writer.take()

    def fail(self, error: ProxyError, usage: neutral.Usage) -> bytes:
        """The frames that end a stream which has begun and cannot be finished.

        Some clients only see the ``error`` event, some only the failed response. The item that is
        not whole is not ``done``: Codex would take it for its history and come back with it.
        """
        self._open = None
        write_error(self._writer, ErrorDetail(error.type, error.code, error.message, error.param))
        self.response.error = ResponseError(failure_code(error), error.message)
        self._end("failed", usage)
        self._writer.write("response.failed", response=self.response)
        return self._writer.take()

    def cancel(self, usage: neutral.Usage) -> None:
        """The client has gone: what there is of the answer is all there will be."""
        if self.begun and self.response.status == "in_progress":
            self._end_open("incomplete")
            self._end("cancelled", usage)

    def _begin(self, model: str) -> None:
        self.begun = True
        self.response.model = model
        for kind in ("response.created", "response.in_progress"):
            self._writer.write(kind, response=self.response)

    def _message(self) -> OpenMessage:
        if not isinstance(self._open, OpenMessage):
            self._end_open("completed")
            self._open = OpenMessage(self._writer, new_id("msg"))
        return self._open

    def _reasoning(self) -> OpenReasoning:
        if not isinstance(self._open, OpenReasoning):
            self._end_open("completed")
            self._open = OpenReasoning(self._writer, new_id("rs"))
            self._thought = []
        return self._open

    def _think(self, text: str) -> None:
        reasoning = self._reasoning()
        self._thought.append(text)
        if self._summarises and text:
            reasoning.think(text)

    def _end_thought(self, done: ReasoningDone) -> None:
        item = self._reasoning().item
        if done.signature:
            reasoning = Reasoning(
                "".join(self._thought), done.signature, self.response.model, done.redacted
            )
            self._sealed[item.id] = seal(reasoning)
            if self._seals:
                item.encrypted_content = self._sealed[item.id]
        self._end_open("completed")

    def _begin_call(self, call: ToolCallStarted) -> None:
        self._end_open("completed")
        origin = self._toolbox.origin(call.name)
        namespace = origin.namespace if origin.namespace is not None else UNSET
        if origin.custom:
            self._freeform = FreeformInput()
            custom = CustomToolCallItem(new_id("ctc"), call.id, origin.name, "", namespace)
            self._open = OpenCustomToolCall(self._writer, custom)
        else:
            function = FunctionCallItem(
                new_id("fc"), "in_progress", call.id, origin.name, "", namespace
            )
            self._open = OpenFunctionCall(self._writer, function)

    def _say_arguments(self, piece: str) -> None:
        if isinstance(self._open, OpenFunctionCall):
            self._open.say(piece)
        elif isinstance(self._open, OpenCustomToolCall):
            self._open.say(self._freeform.feed(piece))

    def _end_open(self, status: Status) -> None:
        item, self._open = self._open, None
        if item is None:
            return
        if isinstance(item, OpenCustomToolCall):
            item.say(self._freeform.end())
        self.response.output.append(item.end(status))

    def _finish(self, finished: Finished) -> None:
        details = INCOMPLETE.get(finished.reason)
        status: Status = "completed" if details is None else "incomplete"
        if not isinstance(self._open, OpenMessage):
            self._end_open(status)
        silent = all(isinstance(item, ReasoningItem) for item in self.response.output)
        if finished.refusal is not None:
            self._message().refuse(finished.refusal)
        elif details is None and silent:
            self._message().say("")  # clients look for a message, even for one that says nothing
        self._end_open(status)
        self.response.incomplete_details = details
        self._end(status, finished.usage)
        self._writer.write(f"response.{status}", response=self.response)

    def _end(self, status: Status, usage: neutral.Usage) -> None:
        self.response.status = status
        self.response.usage = to_usage(usage)
        if status == "completed":
            self.response.completed_at = int(time.time())
        self.response.store = self._keep(self)


def whole(events: Iterable[neutral.Event], stream: ResponseStream) -> bytes:
    """The body of the answer that was not asked for as a stream."""
    for event in events:
        stream.feed(event)
    return stream.body


def failure_code(error: ProxyError) -> str:
    """OpenAI's schema knows few codes here."""
    if error.status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if error.status in (400, 413) else "server_error"


def write_error(writer: Writer, error: ErrorDetail) -> None:
    """In OpenAI's form and in Open Responses', of which each client knows one."""
    writer.write("error", code=error.code, message=error.message, param=error.param, error=error)


def replay(body: bytes, after: int) -> bytes:
    """The SSE frames of a kept response, numbered above ``after``; each text is one delta.

    The last one is always among them: a stream without it is asked for again and again.
    """
    response = msgspec.json.decode(body, type=Response)
    writer = Writer(after)
    beginning = replace(
        response,
        status="in_progress",
        output=[],
        completed_at=None,
        error=None,
        incomplete_details=None,
        usage=None,
    )
    for kind in ("response.created", "response.in_progress"):
        writer.write(kind, response=beginning)
    for item in response.output:
        replay_item(writer, item)
    if response.error is not None:
        code, message = response.error.code, response.error.message
        write_error(writer, ErrorDetail("server_error", code, message, None))
    status = response.status if response.status != "cancelled" else "incomplete"
    writer.write(f"response.{status}", response=response)
    return writer.take() or replay(body, writer.number - 2)


def replay_item(writer: Writer, item: OutputItem) -> None:
    match item:
        case MessageItem():
            message = OpenMessage(writer, item.id)
            for part in item.content:
                if isinstance(part, OutputText):
                    message.say(part.text)
                else:
                    message.refuse(part.refusal)
            message.end(item.status)
        case ReasoningItem():
            reasoning = OpenReasoning(writer, item.id)
            for thought in item.summary:
                reasoning.think(thought.text)
            reasoning.item.encrypted_content = item.encrypted_content
            reasoning.end("completed")
        case FunctionCallItem():
            function = replace(item, status="in_progress", arguments="")
            call = OpenFunctionCall(writer, function)
            call.say(item.arguments)
            call.end(item.status)
        case CustomToolCallItem():
            custom = OpenCustomToolCall(writer, replace(item, input="", status=UNSET))
            custom.say(item.input)
            custom.end("completed" if item.status is UNSET else item.status)
