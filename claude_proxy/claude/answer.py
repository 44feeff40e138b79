"""The lines of one turn become neutral events, or the error that the client is told. Pure."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace

import msgspec

from claude_proxy.claude.failures import Failure
from claude_proxy.claude.stream_json import (
    AssistantLine,
    ContentBlock,
    Delta,
    Json,
    Line,
    Message,
    RateLimitInfo,
    RateLimitLine,
    ResultLine,
    StreamEvent,
    StreamLine,
    SystemLine,
)
from claude_proxy.claude.stream_json import Usage as WireUsage
from claude_proxy.claude.tools import ToolNames
from claude_proxy.conversation import (
    ArgumentsDelta,
    Citation,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    ReasoningDone,
    Started,
    TextDelta,
    TextDone,
    ToolCallStarted,
    Usage,
)
from claude_proxy.errors import BadUpstream

FINISH_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "pause_turn": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.CONTEXT_FULL,
    "refusal": FinishReason.REFUSAL,
    "tool_use": FinishReason.TOOL_CALLS,
}
# A client waits in silence while the CLI waits to retry; above this it is told to come back.
LONGEST_RETRY_DELAY = 10.0
# JavaScript counts it among the blanks.
BOM = "\ufeff"
BROKE_OFF = "The answer broke off upstream"
REFUSED = "The model refused to answer."


@dataclass(slots=True)
class Report:
    """What a turn has used, as far as it is known; ``cost_usd`` is the CLI's own figure.

    ``model`` is the exact one, once it has begun to answer; ``said``: how many characters of it
    have come; ``limits`` what was said of the plan's.
    """

    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    retries: int = 0
    model: str | None = None
    said: int = 0
    limits: RateLimitInfo | None = None

    def settle(self, line: ResultLine, before: Spent, *, whole: bool) -> Spent:
        """The turn's end tells the cost, and what was said of an answer that is not whole.

        The CLI counts up over all turns of its process; ``before`` is where this one began.
        """
        spent = Spent.of(line)
        self.cost_usd = max(0.0, spent.cost_usd - before.cost_usd)
        if not whole:
            said = spent.output - before.output
            self.usage = replace(self.usage, output=max(self.usage.output, said))
        return spent


@dataclass(frozen=True, slots=True)
class Spent:
    """Of a whole process so far: cost in US dollars, output tokens."""

    cost_usd: float = 0.0
    output: int = 0

    @classmethod
    def of(cls, line: ResultLine) -> Spent:
        said = sum(used.outputTokens for used in (line.modelUsage or {}).values())
        return cls(line.total_cost_usd, said)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of the answer: the API's id and name, and the id that the client was given."""

    api_id: str
    name: str
    id: str


def new_call_id() -> str:
    """Letters and digits only: some clients drop whatever else an id holds."""
    return f"call{secrets.token_hex(14)}"


class Answer:
    """Feed it every line of the turn; it is ``settled`` when the CLI has ended the turn.

    A turn that ends in tool calls is not ended by the CLI, which waits for their results.
    """

    def __init__(self, names: ToolNames, before: Spent = Spent()) -> None:
        self.report = Report()
        self.spent = before
        self.calls: list[Call] = []
        self.reason: FinishReason | None = None
        self.settled = False
        # The CLI asks the API again, unless it is ended at once.
        self.goes_on_by_itself = False
        self.started = False
        self._names = names
        self._spoken = False
        self._visible = False
        self._in_text = False
        self._arguments: str | None = None
        self._thought: ReasoningDone | None = None
        self._failure = Failure()

    @property
    def finished(self) -> bool:
        return self.reason is not None

    def feed(self, line: Line) -> list[Event]:
        """Raises the ProxyError that ends the turn."""
        match line:
            case StreamLine(event=event, parent_tool_use_id=None) if not self.finished:
                return self._stream_event(event)
            case ResultLine():
                self._result(line)
            case AssistantLine(error=kind) if kind is not None:
                self._failure.kind = kind
            case SystemLine(subtype="api_retry"):
                self._retry(line)
            case RateLimitLine(rate_limit_info=info):
                self.report.limits = info
                if info.status == "rejected":
                    self._failure.limit = info
        return []

    def _stream_event(self, event: StreamEvent) -> list[Event]:
        delta, block = event.delta, event.content_block
        match event.type:
            case "content_block_delta" if delta is not None:
                return self._delta(delta)
            case "content_block_start" if block is not None and block.type == "tool_use":
                return self._begin_call(block)
            case "content_block_start" if block is not None:
                self._begin_thought(block)
            case "content_block_stop":
                return self._end_block()
            case "message_stop" if self._spoken and self._failure.kind is None:
                self.goes_on_by_itself = True
                raise BadUpstream(BROKE_OFF)
            case "message_start" if event.message is not None:
                return self._start(event.message)
            case "message_delta" if delta is not None and delta.stop_reason is not None:
                self._expect_start()
                return [*self._end_block(), self._finish(delta, delta.stop_reason, event.usage)]
        return []

    def _delta(self, delta: Delta) -> list[Event]:
        if self._thought is not None and delta.signature:
            whole = self._thought.signature + delta.signature
            self._thought = replace(self._thought, signature=whole)
        if delta.citation is not None:
            return self._cite(delta.citation)
        if not (delta.text or delta.thinking or delta.partial_json):
            return []
        self._expect_start()
        self._spoken = True
        self.report.said += len(delta.text) + len(delta.thinking) + len(delta.partial_json)
        if delta.text:
            self._in_text = True
            self._visible = self._visible or bool(delta.text.replace(BOM, "").strip())
            return [TextDelta(delta.text)]
        if delta.thinking:
            return [ReasoningDelta(delta.thinking)]
        if self._arguments is None:
            return []
        self._arguments += delta.partial_json
        return [ArgumentsDelta(delta.partial_json)]

    def _cite(self, citation: Json) -> list[Event]:
        """It can come before the text that it is of."""
        self._expect_start()
        self._spoken = self._in_text = True
        return [Citation(msgspec.json.encode(citation).decode())]

    def _begin_call(self, block: ContentBlock) -> list[Event]:
        self._expect_start()
        self._spoken = True
        call = Call(block.id, block.name, new_call_id())
        self.calls.append(call)
        self._arguments = ""
        started = ToolCallStarted(call.id, self._names.to_client(block.name))
        if not block.input:
            return [started]
        whole = Delta(partial_json=msgspec.json.encode(block.input).decode())
        return [started, *self._delta(whole)]

    def _begin_thought(self, block: ContentBlock) -> None:
        redacted = block.type == "redacted_thinking"
        if redacted or block.type == "thinking":
            self._expect_start()
            self._thought = ReasoningDone(block.data, redacted=redacted)

    def _end_block(self) -> list[Event]:
        thought, self._thought = self._thought, None
        thoughts = [] if thought is None else [thought]
        texts = [TextDone()] if self._in_text else []
        self._in_text = False
        return [*thoughts, *texts, *self._end_call()]

    def _end_call(self) -> list[Event]:
        """A call without arguments comes without any text; a client expects an object."""
        said, self._arguments = self._arguments, None
        return [ArgumentsDelta("{}")] if said is not None and not said.strip() else []

    def _expect_start(self) -> None:
        if not self.started:
            raise BadUpstream("Claude Code sent an answer without its beginning")

    def _start(self, message: Message) -> list[Event]:
        if self._spoken:
            # What was said cannot be taken back, and the second try would say it again.
            self.goes_on_by_itself = True
            raise BadUpstream(BROKE_OFF)
        self._use(message.usage)
        # Whatever was retried has passed; a limit that was announced still stands.
        self._failure = Failure(limit=self._failure.limit)
        if self.started:
            return []
        self.started = True
        self.report.model = message.model
        return [Started(message.model, message.id, self.report.usage)]

    def _finish(self, delta: Delta, stop_reason: str, usage: WireUsage | None) -> Finished:
        self._use(usage)
        reason = FINISH_REASONS.get(stop_reason, FinishReason.STOP)
        if reason in (FinishReason.STOP, FinishReason.TOOL_CALLS):
            # The CLI goes by the calls. An answer in which nothing is to be seen it asks for anew.
            reason = FinishReason.TOOL_CALLS if self.calls else FinishReason.STOP
            nothing = stop_reason == "tool_use" or not self._visible
            self.goes_on_by_itself = nothing and not self.calls
        elif reason in (FinishReason.LENGTH, FinishReason.CONTEXT_FULL):
            self.goes_on_by_itself = True
        self.reason = reason
        explanation = (delta.stop_details or {}).get("explanation")
        if not isinstance(explanation, str) or not explanation:
            explanation = REFUSED
        refusal = explanation if reason is FinishReason.REFUSAL else None
        stopped_at = delta.stop_sequence if reason is FinishReason.STOP else None
        return Finished(reason, self.report.usage, refusal, stopped_at)

    def _result(self, line: ResultLine) -> None:
        self.settled = True
        self.spent = self.report.settle(line, self.spent, whole=self.finished)
        if self.finished:
            return
        if self.report.usage == Usage():  # of an answer that failed it counts nothing
            self._use(line.usage)
        if not line.is_error:
            raise BadUpstream("Claude Code ended the turn without an answer")
        self._failure.status = line.api_error_status
        self._failure.message = line.result or "; ".join(line.errors or [])
        raise self._failure.to_error()

    def _retry(self, line: SystemLine) -> None:
        self.report.retries += 1
        delay = (line.retry_delay_ms or 0) / 1_000
        self._failure.retry_delay = delay
        self._failure.kind = line.error
        if delay > LONGEST_RETRY_DELAY:
            self._failure.status = line.error_status
            self._failure.message = "Anthropic's API asks to wait before the next try"
            raise self._failure.to_error()

    def _use(self, wire: WireUsage | None) -> None:
        """Later figures replace earlier ones; what a later event leaves out stays."""
        if wire is None:
            return
        known = self.report.usage
        details = wire.output_tokens_details or {}
        reasoning = details.get("thinking_tokens")

        def latest(new: int | None, old: int) -> int:
            return old if new is None else new

        self.report.usage = Usage(
            input=latest(wire.input_tokens, known.input),
            cache_read=latest(wire.cache_read_input_tokens, known.cache_read),
            cache_write=latest(wire.cache_creation_input_tokens, known.cache_write),
            output=latest(wire.output_tokens, known.output),
            reasoning=reasoning if isinstance(reasoning, int) else known.reasoning,
        )
