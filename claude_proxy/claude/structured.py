"""An answer that must be an instance of a JSON Schema: the CLI's own structured output. Pure.

The model gives it by calling a tool of the CLI's, which validates it and lets the model try again
when it does not fit (measured, CLI 2.1.330: one API request when it fits at once). What is not
valid yet, and whatever else the model says beside it, is no part of the answer: so nothing of it
goes out before the CLI has approved.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from claude_proxy.claude.answer import Answer, Call, Report, Spent
from claude_proxy.claude.failures import Failure
from claude_proxy.claude.stream_json import Line, ResultLine, StreamLine, SystemLine
from claude_proxy.claude.tools import STRUCTURED_OUTPUT, ToolNames
from claude_proxy.conversation import (
    ArgumentsDelta,
    Citation,
    Event,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    TextDone,
    ToolCallStarted,
    Usage,
)
from claude_proxy.errors import InvalidRequest, ProxyError, StructuredOutputFailed

TRIED_ENOUGH = "error_max_structured_output_retries"


class StructuredAnswer:
    """An ``Answer`` from the outside; inside one for each message of the model's."""

    def __init__(self, names: ToolNames, before: Spent) -> None:
        self._names = names
        self._message = Answer(names, before)
        self._earlier = Usage()
        self._earlier_retries = 0
        self.started = False
        self._said: list[Event] = []
        self._structured: list[str] = []
        self._in_structured = False
        self._failed = False
        self.reason: FinishReason | None = None

    @property
    def report(self) -> Report:
        now = self._message.report
        retries = self._earlier_retries + now.retries
        return replace(now, usage=self._earlier + now.usage, retries=retries)

    @property
    def spent(self) -> Spent:
        return self._message.spent

    @property
    def calls(self) -> list[Call]:
        """The client's; one beside them that would end the answer is not waited for."""
        return self._message.calls

    @property
    def finished(self) -> bool:
        return self.reason is not None

    @property
    def settled(self) -> bool:
        return self._message.settled

    @property
    def goes_on_by_itself(self) -> bool:
        """As long as the answer is not whole, the CLI has the leave to."""
        return (self.finished or self._failed) and self._message.goes_on_by_itself

    def feed(self, line: Line) -> list[Event]:
        """Raises the ProxyError that ends the turn."""
        match line:
            case SystemLine(subtype="init", tools=list(tools)) if STRUCTURED_OUTPUT not in tools:
                raise InvalidRequest(
                    "The schema cannot be used: Claude Code does not take it as a JSON Schema",
                    param="schema",
                )
            case StreamLine() if self.finished:
                return []
            case StreamLine(event=event, parent_tool_use_id=None):
                if event.type == "message_start" and self._message.finished:
                    self._next_message()
            case ResultLine(subtype=how) if not self.finished:
                if self._message.finished or how == TRIED_ENOUGH:
                    return self._result(line)
        try:
            events = self._message.feed(line)
        except ProxyError:
            self._failed = True
            raise
        return [kept for event in events for kept in self._filter(event)]

    def _next_message(self) -> None:
        """The CLI has let the model try again."""
        self._earlier += self._message.report.usage
        self._earlier_retries += self._message.report.retries
        limits = self._message.report.limits
        self._message = Answer(self._names, self._message.spent)
        self._message.report.limits = limits
        self._said.clear()
        self._structured.clear()

    def _filter(self, event: Event) -> list[Event]:
        match event:
            case Started():
                first, self.started = not self.started, True
                return [event] if first else []
            case Finished():
                return self._finish(event)
            case TextDelta() | Citation() | TextDone():
                self._said.append(event)
            case ToolCallStarted():
                return self._begin_call(event)
            case ArgumentsDelta(text=text) if self._in_structured:
                self._structured.append(text)
            case _:
                return [event]
        return []

    def _begin_call(self, event: ToolCallStarted) -> list[Event]:
        self._in_structured = self.calls[-1].name == STRUCTURED_OUTPUT
        if not self._in_structured:
            return [*self._take_said(), event]
        self._structured.clear()
        return []

    def _take_said(self) -> list[Event]:
        said, self._said = self._said, []
        return said

    def _finish(self, finished: Finished) -> list[Event]:
        """Calls of the client's, a cut and a refusal are the end; of the rest the CLI decides."""
        match finished.reason:
            case FinishReason.TOOL_CALLS if self._calls_of_the_client():
                return [*self._take_said(), self._end(finished.reason)]
            case FinishReason.LENGTH | FinishReason.CONTEXT_FULL:
                cut = [TextDelta(text) for text in self._structured]
                return [*cut, self._end(finished.reason)]
            case FinishReason.REFUSAL:
                return [self._end(finished.reason, finished.refusal)]
            case _:
                return []

    def _calls_of_the_client(self) -> bool:
        return any(call.name != STRUCTURED_OUTPUT for call in self.calls)

    def _end(self, reason: FinishReason, refusal: str | None = None) -> Finished:
        self.reason = reason
        return Finished(reason, self.report.usage, refusal)

    def _result(self, line: ResultLine) -> list[Event]:
        with suppress(ProxyError):
            self._message.feed(line)
        if line.api_error_status is not None:
            raise Failure(line.api_error_status, message=line.result or "").to_error()
        if line.structured_output is None or not self._structured:
            raise StructuredOutputFailed("The model gave no answer that fits the schema")
        return [TextDelta("".join(self._structured)), self._end(FinishReason.STOP)]
