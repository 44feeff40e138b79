"""Input items as messages of the neutral conversation. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from claude_proxy.conversation import (
    Document,
    Image,
    Message,
    Part,
    Text,
    ToolCall,
    ToolResult,
)
from claude_proxy.dialect.calls import OpenCalls
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.attachments import only_text, to_document, to_image
from claude_proxy.openai.functions import arguments_of, refuse_wide
from claude_proxy.openai.responses import freeform
from claude_proxy.openai.responses.items import (
    AudioPart,
    CallOutput,
    Content,
    CustomToolCall,
    FilePart,
    FunctionCall,
    Given,
    ImagePart,
    MessageItem,
    ReasoningItem,
    RefusalPart,
    TextPart,
)
from claude_proxy.openai.responses.reasoning import unseal
from claude_proxy.openai.responses.toolbox import Toolbox


def leading(items: list[Given]) -> int:
    """How many system messages the conversation begins with."""
    for index, given in enumerate(items):
        if not (isinstance(given.item, MessageItem) and is_system(given.item)):
            return index
    return len(items)


def is_system(item: MessageItem) -> bool:
    return item.role in ("system", "developer")


def plain_text(given: Given) -> str:
    """Of a system message. Raises InvalidRequest."""
    assert isinstance(given.item, MessageItem)  # noqa: S101 - see ``leading``
    at = f"{given.at}.content"
    return only_text(content_parts(given.item.content, at), at)


@dataclass(slots=True)
class Run:
    """What one side says until the other one does; ``results`` answer the run before."""

    role: Literal["user", "assistant"]
    parts: list[Part] = field(default_factory=list)
    results: list[Part] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class OpenCall:
    """``run``: its place; ``is_cut``: of an answer that broke off, so nobody may have run it."""

    run: int
    part: ToolCall
    at: str
    is_cut: bool


class Runs:
    """A conversation by runs, as Claude wants it: a call's result right behind the run that made
    it, also where the client put something in between.
    """

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._runs: list[Run] = []
        self._calls: OpenCalls[OpenCall] = OpenCalls()

    def add(self, given: Given) -> None:
        """Raises InvalidRequest."""
        at = given.at
        match given.item:
            case CallOutput() as output:
                self._answer(output, at)
            case FunctionCall() | CustomToolCall() as call:
                self._call(call, at)
            case ReasoningItem(encrypted_content=sealed):
                if (reasoning := unseal(sealed or "")) is not None:
                    self._of("assistant").parts.append(reasoning)
            case MessageItem(role=role, content=content):
                run = self._of("assistant" if role == "assistant" else "user")
                run.parts += content_parts(content, f"{at}.content")

    def messages(self) -> list[Message]:
        """Raises InvalidRequest when a call has no result, unless its answer was cut off."""
        idle: set[int] = set()
        for id_, call in self._calls:
            if not call.is_cut:
                message = f"No tool output found for function call {id_[:100]}."
                raise InvalidRequest(message, param=call.at)
            idle.add(id(call.part))
        return [
            Message(run.role, (*run.results, *(part for part in run.parts if id(part) not in idle)))
            for run in self._runs
        ]

    def _call(self, call: FunctionCall | CustomToolCall, at: str) -> None:
        is_cut = call.status == "incomplete"
        try:
            part = to_call(call, at, self._toolbox)
        except InvalidRequest:
            if not is_cut:
                raise
            part = ToolCall(call.call_id, self._toolbox.name(call.name, call.namespace), "{}")
        run = self._of("assistant")
        run.parts.append(part)
        place = OpenCall(len(self._runs) - 1, part, at, is_cut)
        self._calls.expect(call.call_id, place, f"{at}.call_id")

    def _answer(self, output: CallOutput, at: str) -> None:
        found = self._calls.answer(output.call_id)
        if found is None:
            raise InvalidRequest(
                f"No tool call found for function call output with call_id {output.call_id[:100]}.",
                param=f"{at}.call_id",
            )
        id_, call = found
        result = ToolResult(id_, tuple(content_parts(output.output, f"{at}.output")))
        behind = self._of("user") if call.run + 1 == len(self._runs) else self._runs[call.run + 1]
        behind.results.append(result)

    def _of(self, role: Literal["user", "assistant"]) -> Run:
        if not self._runs or self._runs[-1].role != role:
            self._runs.append(Run(role))
        return self._runs[-1]


def to_messages(items: Iterable[Given], toolbox: Toolbox) -> list[Message]:
    """A later system message goes as a user's, in its place and with its exact text.

    Raises InvalidRequest.
    """
    items = list(items)
    refuse_wide(
        (one.item.arguments or "", f"{one.at}.arguments")
        for one in items
        if isinstance(one.item, FunctionCall)
    )
    runs = Runs(toolbox)
    for given in items:
        runs.add(given)
    return runs.messages()


def to_call(call: FunctionCall | CustomToolCall, at: str, toolbox: Toolbox) -> ToolCall:
    name = toolbox.name(call.name, call.namespace)
    if isinstance(call, CustomToolCall):
        return ToolCall(call.call_id, name, freeform.to_arguments(call.input))
    return ToolCall(call.call_id, name, arguments_of(call.arguments or "", f"{at}.arguments"))


def content_parts(content: Content, at: str) -> Iterator[Text | Image | Document]:
    if isinstance(content, str):
        yield Text(content)
        return
    for index, part in enumerate(content or ()):
        here = f"{at}[{index}]"
        match part:
            case TextPart(text=text) | RefusalPart(refusal=text):
                yield Text(text)
            case ImagePart(image_url=url):
                if url is None:
                    raise no_file_store(f"{here}.image_url", "image_url")
                yield to_image(url, f"{here}.image_url")
            case FilePart(file_data=data, file_url=url, filename=filename):
                name = "file_data" if url is None else "file_url"
                yield to_document(data if url is None else url, filename, f"{here}.{name}")
            case AudioPart():
                raise InvalidRequest("Claude takes no audio", param=here, code="unsupported_value")


def no_file_store(param: str, name: str) -> InvalidRequest:
    return InvalidRequest(f"It must come as {name}: there is no file store here", param=param)
