"""One CLI process and its one conversation: warm it, give it the history, run a turn, end it."""

from __future__ import annotations

import asyncio
import errno
import itertools
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog

from claude_proxy.claude import stream_json
from claude_proxy.claude.answer import Answer, Report
from claude_proxy.claude.cli import ARGUMENTS, Cli
from claude_proxy.claude.history import Turn, to_turns
from claude_proxy.claude.models import ModelInfo, parse_list
from claude_proxy.claude.process import LineTooLong, Process, ProcessEnded
from claude_proxy.claude.stream_json import ControlResponseLine, Line, LineError, ResultLine
from claude_proxy.conversation import Conversation, Effort, Event, Options
from claude_proxy.errors import (
    RETRY_SOON,
    BadUpstream,
    ModelNotFound,
    Overloaded,
    ProxyError,
    UpstreamTimeout,
)

log = structlog.get_logger()

START_TIMEOUT = 60.0
WRITE_TIMEOUT = 60.0
HEARTBEAT = 15.0
# The answer is whole; what may still come is the turn's ``result`` with its cost.
SETTLE_TIMEOUT = 2.0
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
INTERRUPT_GRACE = 0.3
END_GRACE = 0.3

EFFORT_LEVELS = {
    Effort.NONE: "low",
    Effort.MINIMAL: "low",
    Effort.LOW: "low",
    Effort.MEDIUM: "medium",
    Effort.HIGH: "high",
    Effort.XHIGH: "xhigh",
    Effort.MAX: "max",
}


class DiedUnused(Exception):
    """The process ended before it took anything of the conversation: another one may."""


def flag_settings(options: Options) -> dict[str, Any]:
    """The ``apply_flag_settings`` that carry the options to the API (measured, CLI 2.1.330)."""
    environment: dict[str, str] = {}
    body: dict[str, Any] = {}
    if options.max_tokens is not None:
        environment["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(options.max_tokens)
    if options.effort is Effort.NONE:
        environment["CLAUDE_CODE_DISABLE_THINKING"] = "1"
    if options.stop:
        body["stop_sequences"] = options.stop
    if options.temperature is not None:
        body["temperature"] = options.temperature
    if options.top_p is not None:
        body["top_p"] = options.top_p
    if body:
        environment["CLAUDE_CODE_EXTRA_BODY"] = msgspec.json.encode(body).decode()
    settings: dict[str, Any] = {"env": environment}
    if options.effort is not None:
        settings["effortLevel"] = EFFORT_LEVELS[options.effort]
    return settings


class Session:
    """``run`` once; ``close`` always. A session that has not run yet is a spare."""

    def __init__(self, cli: Cli, process: Process) -> None:
        self.stamp = cli.stamp()
        self.started = time.monotonic()
        self.report = Report()
        self.models: list[ModelInfo] = []
        self.unknown_lines = 0
        self._process = process
        self._ids = (f"proxy-{n}" for n in itertools.count(1))
        self._unreadable: LineError | None = None
        self._unconfirmed: dict[str, str] = {}
        self._answered = False
        self._heard_at = self.started
        self._settled = True

    @classmethod
    async def spawn(cls, cli: Cli, environment: Mapping[str, str], directory: Path) -> Session:
        """Raises ProxyError when the operating system cannot start it."""
        try:
            process = await Process.spawn((cli.path, *ARGUMENTS), environment, directory)
        except OSError as error:
            message = f"Claude Code cannot be started: {error.strerror}"
            if error.errno in EXHAUSTED:
                raise Overloaded(message, retry_after=RETRY_SOON) from None
            raise BadUpstream(message) from None
        log.debug("claude.started", pid=process.pid, version=cli.version)
        return cls(cli, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr_tail(self) -> str:
        """Only for a session that has not run: afterwards it may hold the user's words."""
        return self._process.stderr_tail

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def warm_up(self, model: str) -> list[ModelInfo]:
        """Asks for the models, which costs nothing; returns when the process is ready.

        ``set_model`` and the empty settings change nothing, since every turn sets its own, but
        the CLI's first ones are slow: having had them saves a turn about 10 ms (in three of four
        comparisons with 2.1.330). Raises ProcessEnded or TimeoutError when it is of no use.
        """
        rehearsal: dict[str, tuple[str, dict[str, Any]]] = {
            (list_models := next(self._ids)): ("list_models", {}),
            next(self._ids): ("set_model", {"model": model}),
            next(self._ids): ("apply_flag_settings", {"settings": {"env": {}}}),
        }
        requests = [
            stream_json.control(id_, kind, **rest) for id_, (kind, rest) in rehearsal.items()
        ]
        await self._process.write(b"".join(requests), WRITE_TIMEOUT)
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            for line in await self._read(deadline - time.monotonic()) or ():
                if isinstance(line, ControlResponseLine):
                    rehearsal.pop(line.response.request_id, None)
                    if line.response.request_id == list_models:
                        self.models = parse_list(line.response.response)
            if not rehearsal:
                return self.models
        raise TimeoutError

    async def run(
        self, conversation: Conversation, silence: float
    ) -> AsyncGenerator[list[Event], None]:
        """The events of the answer in batches as they come; an empty batch every HEARTBEAT.

        ``silence``: seconds without a line from the CLI after which the turn is given up.
        Raises ProxyError; DiedUnused when nothing of the conversation has been taken yet.
        """
        turns = to_turns(conversation.messages)
        self._settled, self._answered = False, False
        self._heard_at = time.monotonic()
        answer = Answer()
        self.report = answer.report
        async for _ in self._open(conversation, turns, answer, silence):
            yield []
        while not self._settled:
            batch = await self._next(SETTLE_TIMEOUT if answer.finished else silence)
            if batch is None:
                yield []
                continue
            events: list[Event] = []
            try:
                for line in batch:
                    events += answer.feed(line)
            except ProxyError:
                self._settled = answer.settled
                if events:
                    yield events
                raise
            self._settled = answer.settled
            if answer.goes_on_by_itself:
                self._process.kill()
                self._settled = True
            if events:
                yield events

    async def _open(
        self, conversation: Conversation, turns: list[Turn], answer: Answer, silence: float
    ) -> AsyncGenerator[None, None]:
        """Configuration, history and the last turn, in as few writes as keep the order.

        The CLI queues user lines but takes assistant lines at once, so each user line of the
        history is waited for: its receipt is a ``result``.
        """
        pending = self._configuration(conversation)
        *history, last = turns
        for turn in history:
            if turn.role == "assistant":
                pending.append(stream_json.assistant(turn.content))
                continue
            pending.append(stream_json.user(turn.content, query=False))
            await self._send(b"".join(pending))
            pending.clear()
            received = False
            while not received:
                batch = await self._next(silence)
                if batch is None:
                    yield
                for line in batch or ():
                    if isinstance(line, ResultLine):
                        received = True
                        if not line.is_error:
                            continue
                    answer.feed(line)
        await self._send(b"".join([*pending, stream_json.user(last.content, query=True)]))

    def _configuration(self, conversation: Conversation) -> list[bytes]:
        requests: dict[str, dict[str, Any]] = {
            "initialize": {"systemPrompt": [conversation.system]},
            "set_model": {"model": conversation.model},
            "apply_flag_settings": {"settings": flag_settings(conversation.options)},
        }
        self._unconfirmed = {next(self._ids): subject for subject in requests}
        return [
            stream_json.control(id_, subject, **requests[subject])
            for id_, subject in self._unconfirmed.items()
        ]

    async def _send(self, data: bytes) -> None:
        try:
            await self._process.write(data, WRITE_TIMEOUT)
        except ProcessEnded as ended:
            raise self._ended(ended) from None
        except TimeoutError:
            raise UpstreamTimeout("Claude Code does not read its input") from None

    async def _next(self, silence: float) -> list[Line] | None:
        """Decoded lines as they come, None after a HEARTBEAT of silence."""
        patience = self._heard_at + silence - time.monotonic()
        try:
            batch = await self._read(max(0.0, min(HEARTBEAT, patience)))
        except ProcessEnded as ended:
            raise self._ended(ended) from None
        except (LineError, LineTooLong) as error:
            raise BadUpstream(f"Claude Code sent what cannot be read: {error}") from None
        now = time.monotonic()
        if batch is not None:
            if self._unconfirmed:
                self._note_replies(batch)
            self._heard_at = now
        elif now - self._heard_at >= silence:
            raise UpstreamTimeout(f"Claude Code has been silent for {silence:g} seconds")
        return batch

    def _note_replies(self, batch: list[Line]) -> None:
        """Until the configuration is confirmed: its first reply, or any other line, says that the
        CLI has begun with this conversation, so that another may not take it.

        A model that the CLI does not know leaves its default, dearer one in force (2.1.330): the
        process ends before it has asked the API, which it does some 50 ms after that reply.
        """
        for line in batch:
            if not isinstance(line, ControlResponseLine):
                self._answered = True
                continue
            subject = self._unconfirmed.pop(line.response.request_id, None)
            self._answered = self._answered or subject is not None
            if subject is not None and line.response.subtype == "error":
                self._process.kill()
                self._settled = True
                reason = (line.response.error or "")[:200]
                if subject == "set_model":
                    raise ModelNotFound(f"Claude Code refuses the model: {reason}", param="model")
                raise BadUpstream(f"Claude Code refuses {subject}: {reason}")

    def _ended(self, ended: ProcessEnded) -> Exception:
        if not self._answered:
            return DiedUnused(str(ended))
        return ProxyError(f"Claude Code {ended} before its answer was whole")

    async def _read(self, timeout: float) -> list[Line] | None:  # noqa: ASYNC109 - no error
        """Lines that matter, perhaps none of those that came; None after ``timeout`` s of silence.

        What is no JSON object at all (a warning, a banner) is counted. Raises LineError for one
        that is an object but cannot be read, after those before it.
        """
        if self._unreadable is not None:
            raise self._unreadable
        decoded: list[Line] = []
        lines = await self._process.read(timeout)
        if lines is None:
            return None
        for raw in lines:
            if raw[:1] != b"{" and not raw.lstrip().startswith(b"{"):
                self.unknown_lines += bool(raw.strip())
                continue
            try:
                line = stream_json.decode(raw)
            except LineError as error:
                self._unreadable = error
                if decoded:
                    break
                raise
            if line is None:
                self.unknown_lines += 1
            elif isinstance(line, stream_json.ControlRequestLine):
                refusal = stream_json.control_error(line.request_id, "not supported")
                await self._process.write(refusal, WRITE_TIMEOUT)
            else:
                decoded.append(line)
        return decoded

    def fail(self, error: ProxyError) -> None:
        """Ends a running turn with ``error`` at its next read."""
        self._process.fail(error)

    async def close(self) -> Report:
        """Ends the process, within about half a second; an open turn is interrupted first.

        The interrupted turn's ``result`` tells what it has cost.
        """
        if self.alive and not self._settled:
            await self._interrupt()
        await self._process.end(END_GRACE)
        return self.report

    async def _interrupt(self) -> None:
        with suppress(ProcessEnded, TimeoutError, LineError, LineTooLong):
            self._process.recover()
            async with asyncio.timeout(INTERRUPT_GRACE):
                request = stream_json.control(next(self._ids), "interrupt")
                await self._process.write(request, WRITE_TIMEOUT)
                while not self._settled:
                    for line in await self._read(INTERRUPT_GRACE) or ():
                        if isinstance(line, ResultLine):
                            self.report.settle(line)
                            self._settled = True
