"""The lines of one turn become neutral events, or the error that the client is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from claude_proxy.claude.failures import Failure
from claude_proxy.claude.stream_json import (
    AssistantLine,
    Line,
    Message,
    RateLimitLine,
    ResultLine,
    StreamEvent,
    StreamLine,
    SystemLine,
)
from claude_proxy.claude.stream_json import Usage as WireUsage
from claude_proxy.conversation import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    Usage,
)
from claude_proxy.errors import BadUpstream

FINISH_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "pause_turn": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.REFUSAL,
    "tool_use": FinishReason.TOOL_CALLS,
}
# A client waits in silence while the CLI waits to retry; above this it is told to come back.
LONGEST_RETRY_DELAY = 10.0


@dataclass(slots=True)
class Report:
    """What a turn has used, as far as it is known; ``cost_usd`` is the CLI's own figure."""

    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    retries: int = 0

    def settle(self, line: ResultLine) -> None:
        """The turn's end tells the cost, and what was said of an answer that was cut."""
        self.cost_usd = line.total_cost_usd
        said = sum(used.outputTokens for used in (line.modelUsage or {}).values())
        self.usage = replace(self.usage, output=max(self.usage.output, said))


class Answer:
    """Feed it every line of the turn; it is ``settled`` when the CLI has ended the turn."""

    def __init__(self) -> None:
        self.report = Report()
        self.finished = False
        self.settled = False
        # After a cut at the token limit the CLI asks the API again unless it is ended at once.
        self.goes_on_by_itself = False
        self._started = False
        self._spoken = False
        self._failure = Failure()

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
            case RateLimitLine(rate_limit_info=info) if info.status == "rejected":
                self._failure.limit = info
        return []

    def _stream_event(self, event: StreamEvent) -> list[Event]:
        delta = event.delta
        if event.type == "content_block_delta" and delta is not None:
            if delta.text or delta.thinking:
                self._expect_start()
                self._spoken = True
                return [TextDelta(delta.text) if delta.text else ReasoningDelta(delta.thinking)]
        elif event.type == "message_start" and event.message is not None:
            return self._start(event.message)
        elif event.type == "message_delta" and delta is not None and delta.stop_reason is not None:
            self._expect_start()
            return [self._finish(delta.stop_reason, delta.stop_details, event.usage)]
        return []

    def _expect_start(self) -> None:
        if not self._started:
            raise BadUpstream("Claude Code sent an answer without its beginning")

    def _start(self, message: Message) -> list[Event]:
        if self._spoken:
            # What was said cannot be taken back, and the second try would say it again.
            raise BadUpstream("The answer broke off upstream")
        self._use(message.usage)
        # Whatever was retried has passed; a limit that was announced still stands.
        self._failure = Failure(limit=self._failure.limit)
        if self._started:
            return []
        self._started = True
        return [Started(message.model)]

    def _finish(
        self, stop_reason: str, details: dict[str, object] | None, usage: WireUsage | None
    ) -> Finished:
        self._use(usage)
        self.finished = True
        reason = FINISH_REASONS.get(stop_reason, FinishReason.STOP)
        self.goes_on_by_itself = reason is FinishReason.LENGTH
        explanation = (details or {}).get("explanation")
        refused = reason is FinishReason.REFUSAL and isinstance(explanation, str)
        return Finished(reason, self.report.usage, str(explanation) if refused else None)

    def _result(self, line: ResultLine) -> None:
        self.settled = True
        self.report.settle(line)
        if self.finished:
            return
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
