"""One turn's talk with the process: tell it what is new, and take its lines as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import structlog

from claude_proxy.claude import stream_json
from claude_proxy.claude.answer import Answer
from claude_proxy.claude.channel import Channel
from claude_proxy.claude.configuration import flag_settings, initialize
from claude_proxy.claude.failures import refusal
from claude_proxy.claude.history import Turn, marked
from claude_proxy.claude.process import ProcessEnded
from claude_proxy.claude.prompt import Prompt
from claude_proxy.claude.stream_json import (
    ControlReply,
    ControlRequestLine,
    ControlResponseLine,
    Json,
    Line,
    ResultLine,
    UserLine,
)
from claude_proxy.claude.structured import StructuredAnswer
from claude_proxy.claude.tools import mcp_content
from claude_proxy.claude.transcript import call_ids
from claude_proxy.conversation import Event
from claude_proxy.errors import BadUpstream, ProxyError, UpstreamTimeout

log = structlog.get_logger()

AnyAnswer: TypeAlias = Answer | StructuredAnswer


class DiedUnused(Exception):
    """The process ended before it took anything of the turn: another one may."""


class Refused(Exception):
    """The process does not take the configuration and must not run; ``error`` says why."""

    def __init__(self, error: ProxyError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class HeldCall:
    """A tool call that the CLI waits for; ``tool_use_id`` is the API's."""

    request_id: str
    rpc_id: Any
    tool_use_id: str

    @classmethod
    def of(cls, line: ControlRequestLine) -> HeldCall:
        message = line.request["message"]
        meta = (message.get("params") or {}).get("_meta") or {}
        return cls(line.request_id, message.get("id"), meta.get("claudecode/toolUseId", ""))


class Dialogue:
    """``open`` or ``go_on``, then ``next`` and ``feed`` until the answer is whole."""

    def __init__(self, channel: Channel, prompt: Prompt, answer: AnyAnswer, silence: float) -> None:
        """``silence``: seconds without a line after which the turn is given up."""
        self.answer = answer
        self.held: list[HeldCall] = []
        self._channel = channel
        self._prompt = prompt
        self._silence = silence
        self._unconfirmed: dict[str, str] = {}
        self._answered = False
        self._fresh = True
        channel.listen()

    def open(self) -> AsyncGenerator[list[Event], None]:
        """A fresh process is told the whole conversation."""
        *history, last = marked(self._prompt.turns)
        return self._append(self._configuration(), history, last.content)

    def go_on(self, new: list[Turn], held: list[HeldCall]) -> AsyncGenerator[list[Event], None]:
        """A process that has the conversation is told what is new."""
        self._fresh = False
        if held:
            return self._answer_calls(self._configuration(), held)
        *history, last = new
        return self._append(self._configuration(), history, last.content)

    async def _append(
        self, pending: list[bytes], history: list[Turn], last: list[Json]
    ) -> AsyncGenerator[list[Event], None]:
        """The history and the last turn, in as few writes as keep the order.

        The CLI queues user lines but takes assistant lines at once, so each user line of the
        history is waited for: its receipt is a ``result``.
        """
        for turn in history:
            if turn.role == "assistant":
                pending.append(stream_json.assistant(turn.content, turn.model))
                continue
            pending.append(stream_json.user(turn.content, query=False))
            await self._send(b"".join(pending))
            pending = []
            async for events in self._until(is_receipt):
                yield events
        await self._send(b"".join([*pending, stream_json.user(last, query=True)]))

    async def _answer_calls(
        self, pending: list[bytes], held: list[HeldCall]
    ) -> AsyncGenerator[list[Event], None]:
        """The results in the client's order, for which the CLI has to take one before the next."""
        turns = self._prompt.turns
        calls = dict(zip(call_ids(turns[-2]), held, strict=True))
        for block in turns[-1].content:
            call = calls[block["tool_use_id"]]
            result: Json = {"content": mcp_content(block["content"])}
            if block.get("is_error"):
                result["isError"] = True
            reply = {"jsonrpc": "2.0", "id": call.rpc_id, "result": result}
            await self._send(b"".join([*pending, stream_json.mcp_response(call.request_id, reply)]))
            pending = []
            async for events in self._until(partial(is_result_of, call.tool_use_id)):
                yield events

    async def _until(self, awaited: Callable[[Line], bool]) -> AsyncGenerator[list[Event], None]:
        """Takes lines until the awaited one has come, which is only for us."""
        has_come = False
        while not has_come:
            batch = await self.next()
            events: list[Event] = []
            for line in batch or ():
                if awaited(line):
                    has_come = True
                else:
                    events += await self.feed(line)
            if events or batch is None:
                yield events

    def _configuration(self) -> list[bytes]:
        conversation, names = self._prompt.conversation, self._prompt.names
        requests: dict[str, Json] = {}
        if self._fresh:
            requests["initialize"] = initialize(conversation, names)
            requests["set_model"] = {"model": conversation.model}
        requests["apply_flag_settings"] = {"settings": flag_settings(conversation, names)}
        lines: list[bytes] = []
        for subject, fields in requests.items():
            id_, line = self._channel.control(subject, **fields)
            self._unconfirmed[id_] = subject
            lines.append(line)
        return lines

    async def feed(self, line: Line) -> list[Event]:
        """Raises the ProxyError that ends the turn."""
        if not isinstance(line, ControlRequestLine):
            return self.answer.feed(line)
        if line.request.get("subtype") == "mcp_message":
            self.held.append(HeldCall.of(line))
        elif not self.answer.finished:
            # The results of a round of tools are complete, and the model may go on.
            await self._send(stream_json.control_success(line.request_id, {}))
        return []

    async def _send(self, data: bytes) -> None:
        try:
            await self._channel.send(data)
        except ProcessEnded as ended:
            raise self._ended(ended) from None

    async def next(self, silence: float | None = None) -> list[Line] | None:
        """Decoded lines as they come, None after a HEARTBEAT of silence.

        Raises DiedUnused, Refused, and ProxyError.
        """
        try:
            batch = await self._channel.next(self._silence if silence is None else silence)
        except ProcessEnded as ended:
            raise self._ended(ended) from None
        except (BadUpstream, UpstreamTimeout) as error:
            raise self._told(error) from None
        if not batch or not self._unconfirmed:
            return batch
        return [line for line in batch if self._is_of_this_turn(line)]

    def _is_of_this_turn(self, line: Line) -> bool:
        """And not left over from the one before, whose lines all come before the configuration is
        confirmed. Its first reply, and of a fresh process any line, says that the CLI has begun,
        so that no other process may take the turn.
        """
        if isinstance(line, ControlResponseLine):
            self._note_reply(line.response)
        else:
            self._answered = self._answered or self._fresh
        return self._answered or isinstance(line, ControlRequestLine)

    def _note_reply(self, reply: ControlReply) -> None:
        """A model that the CLI does not know leaves its default, dearer one in force (2.1.330):
        the process ends before it has asked the API, which it does some 50 ms after that reply.
        """
        subject = self._unconfirmed.pop(reply.request_id, None)
        self._answered = self._answered or subject is not None
        if subject is not None and reply.subtype == "error":
            raise Refused(refusal(subject, reply.error or ""))

    def _ended(self, ended: ProcessEnded) -> Exception:
        if not self._answered:
            return DiedUnused(str(ended))
        return self._told(ProxyError(f"Claude Code {ended} before its answer was whole"))

    def _told(self, error: ProxyError) -> ProxyError:
        """The words are ours: unlike those of the API, they may be in the log."""
        if not self.answer.finished:
            log.warning("claude.failed", reason=error.message)
        return error


def is_receipt(line: Line) -> bool:
    """Of a user line that asked for no answer."""
    return isinstance(line, ResultLine) and not line.is_error


def is_result_of(tool_use_id: str, line: Line) -> bool:
    if not isinstance(line, UserLine) or isinstance(line.message.content, str):
        return False
    return any(block.tool_use_id == tool_use_id for block in line.message.content)
