"""One CLI process and its one conversation: warm it, run turn after turn, end it."""

from __future__ import annotations

import asyncio
import errno
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import structlog

from claude_proxy.claude.answer import Answer, Report, Spent
from claude_proxy.claude.channel import Channel
from claude_proxy.claude.cli import ARGUMENTS, Cli
from claude_proxy.claude.configuration import fixed_in_turn
from claude_proxy.claude.counting import count
from claude_proxy.claude.dialogue import AnyAnswer, Dialogue, HeldCall, Refused
from claude_proxy.claude.history import Turn, answer_turn
from claude_proxy.claude.models import ModelInfo, parse_list
from claude_proxy.claude.process import LineTooLong, Process, ProcessEnded
from claude_proxy.claude.prompt import Prompt
from claude_proxy.claude.stream_json import ControlResponseLine, LineError, ResultLine
from claude_proxy.claude.structured import StructuredAnswer
from claude_proxy.claude.tools import is_plain_result
from claude_proxy.claude.transcript import Transcript, call_ids, digests, results_only
from claude_proxy.conversation import Event, FinishReason, fold
from claude_proxy.errors import RETRY_SOON, BadUpstream, Overloaded, ProxyError

log = structlog.get_logger()

START_TIMEOUT = 60.0
# The answer is whole; what may still come is the turn's ``result`` with its cost.
SETTLE_TIMEOUT = 2.0
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
INTERRUPT_GRACE = 0.3
END_GRACE = 0.3


class Session:
    """``run`` as long as ``continues`` says so; ``close`` always. Fresh, it is a spare."""

    def __init__(self, cli: Cli, process: Process) -> None:
        self.id = f"ses_{secrets.token_hex(6)}"
        self.stamp = cli.stamp()
        self.started = time.monotonic()
        self.report = Report()
        self.models: list[ModelInfo] = []
        self.spent = Spent()
        self._process = process
        self._channel = Channel(process)
        self._settled = True
        self._killed = False
        self._transcript: Transcript | None = None
        self._fixed: tuple[str | None, int | None] = (None, None)
        self._held: list[HeldCall] = []

    @classmethod
    async def spawn(cls, cli: Cli, environment: Mapping[str, str], directory: Path) -> Session:
        """Raises ProxyError when the operating system cannot start it."""
        try:
            process = await Process.spawn((cli.path, *ARGUMENTS), environment, directory)
        except OSError as error:
            message = f"Claude Code cannot be started: {error.strerror}"
            log.warning("claude.not_started", reason=error.strerror)
            if error.errno in EXHAUSTED:
                raise Overloaded(message, retry_after=RETRY_SOON) from None
            raise BadUpstream(message) from None
        session = cls(cli, process)
        log.debug("claude.started", session=session.id, pid=process.pid, version=cli.version)
        return session

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr_tail(self) -> str:
        """Only for a session that has not run: afterwards it may hold the user's words."""
        return self._process.stderr_tail

    @property
    def unknown_lines(self) -> int:
        return self._channel.unknown_lines

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not self._killed

    @property
    def crashed(self) -> bool:
        """It has ended, and nobody had told it to."""
        return self._process.returncode is not None and not self._killed

    @property
    def lives_on(self) -> bool:
        """Another turn may follow the one that has run."""
        return self.alive and self._settled and self._transcript is not None

    async def warm_up(self, model: str) -> list[ModelInfo]:
        """Asks for the models, which costs nothing; returns when the process is ready.

        ``set_model`` and the empty settings change nothing, since every turn sets its own, but
        the CLI's first ones are slow: having had them saves a turn about 10 ms (in three of four
        comparisons with 2.1.330). Raises ProcessEnded, ProxyError or TimeoutError when it is of
        no use.
        """
        list_models, asked = self._channel.control("list_models")
        set_model, chosen = self._channel.control("set_model", model=model)
        settings, set_ = self._channel.control("apply_flag_settings", settings={"env": {}})
        rehearsal = {list_models, set_model, settings}
        await self._channel.send(asked + chosen + set_)
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            for line in await self._channel.read(deadline - time.monotonic()) or ():
                if isinstance(line, ControlResponseLine):
                    rehearsal.discard(line.response.request_id)
                    if line.response.request_id == list_models:
                        self.models = parse_list(line.response.response)
            if not rehearsal:
                return self.models
        raise TimeoutError

    async def count(self, prompt: Prompt) -> int:
        """Tokens of the prompt; after that the process is of no other use. Raises ProxyError."""
        return await count(self._channel, prompt)

    def stands_at(self, prompt: Prompt) -> bool:
        """Whether the prompt goes on from the answer that this process gives or has given."""
        return self._new_turns(prompt) is not None

    def continues(self, prompt: Prompt) -> bool:
        """Whether this process can take the prompt's next turn as it is."""
        new = self._new_turns(prompt)
        if new is None:
            return False
        called = call_ids(prompt.turns[len(prompt.turns) - len(new) - 1])
        if not called:
            return True
        # What is not a plain answer to the held calls, the CLI would change or comment on.
        first = new[0].content
        return (
            len(new) == 1
            and len(called) == len(first) == len(self._held)
            and results_only(new[0])
            and {block["tool_use_id"] for block in first} == set(called)
            and all(is_plain_result(block) for block in first)
            and fixed_in_turn(prompt.conversation.options) == self._fixed
        )

    def _new_turns(self, prompt: Prompt) -> list[Turn] | None:
        if not self.alive or self._transcript is None:
            return None
        known = self._transcript.known_of(prompt.identity, prompt.digests)
        return None if known is None else prompt.turns[known:]

    async def run(self, prompt: Prompt, silence: float) -> AsyncGenerator[list[Event], None]:
        """The events of the answer in batches as they come; an empty batch every HEARTBEAT.

        ``silence``: seconds without a line from the CLI after which the turn is given up.
        Raises ProxyError; DiedUnused when nothing of the turn has been taken yet.
        """
        structured = prompt.conversation.schema is not None
        answer = (StructuredAnswer if structured else Answer)(prompt.names, self.spent)
        dialogue = Dialogue(self._channel, prompt, answer, silence)
        self.report = answer.report
        self._settled = False
        said: list[Event] = []
        over = False
        try:
            async for events in self._tell(dialogue, prompt):
                over = self._note(dialogue, prompt, said, events)
                yield events
            while not over:
                batch = await dialogue.next(SETTLE_TIMEOUT if answer.finished else None)
                events = []
                try:
                    for line in batch or ():
                        events += await dialogue.feed(line)
                except ProxyError:
                    self._give_up(answer)
                    if events:
                        yield events
                    raise
                over = self._note(dialogue, prompt, said, events)
                if events or batch is None:
                    yield events
        except Refused as refused:
            self._kill()
            raise refused.error from None
        except ProxyError:
            self._give_up(answer)
            raise

    def _note(
        self, dialogue: Dialogue, prompt: Prompt, said: list[Event], events: list[Event]
    ) -> bool:
        """What ``events`` mean for the process, before the client hears of them, who may take its
        time. True when the turn is over.
        """
        answer = dialogue.answer
        said += events
        self._account(answer)
        over = self._is_over(dialogue, prompt)
        if events and answer.finished:
            self._remember(dialogue, prompt, said)
        return over

    def _account(self, answer: AnyAnswer) -> None:
        self.report, self.spent, self._settled = answer.report, answer.spent, answer.settled

    def _give_up(self, answer: AnyAnswer) -> None:
        """Of an answer that has begun, an interrupted turn can still tell the cost."""
        self._account(answer)
        if answer.goes_on_by_itself or not answer.started:
            self._kill()

    def _hold(self, dialogue: Dialogue) -> None:
        """The calls that the client has to answer; the turn's ``result`` comes only after that."""
        held = {call.tool_use_id: call for call in dialogue.held}
        calls = [call.api_id for call in dialogue.answer.calls]
        if held.keys() >= set(calls):
            self._held = [held[id_] for id_ in calls]
            said_so_far = self.spent.output + self.report.usage.output
            self.spent = replace(self.spent, output=said_so_far)
            self._settled = True

    def _tell(self, dialogue: Dialogue, prompt: Prompt) -> AsyncGenerator[list[Event], None]:
        """What is new to the process: all of the conversation, or its last turns."""
        new, held = self._new_turns(prompt), self._held
        self._transcript, self._held = None, []
        return dialogue.open() if new is None else dialogue.go_on(new, held)

    def _kill(self) -> None:
        self._process.kill()
        self._killed = self._settled = True

    def _is_over(self, dialogue: Dialogue, prompt: Prompt) -> bool:
        """The turn, whose last line does not come when the client has to act first."""
        answer = dialogue.answer
        if answer.goes_on_by_itself:
            self._kill()
        elif answer.reason is FinishReason.TOOL_CALLS and not self._settled:
            if any(call.name not in prompt.names.offered for call in answer.calls):
                # The CLI has answered it with an error and waits for leave to tell the model.
                return True
            self._hold(dialogue)
        elif answer.finished and answer.calls and not self._settled:
            # A refusal behind calls: the CLI waits for what nobody is asked for.
            return True
        return self._settled

    def _remember(self, dialogue: Dialogue, prompt: Prompt, said: list[Event]) -> None:
        """What the process holds with its whole answer, before the client knows of it.

        Not with a structured one, which the CLI holds in another form than the client.
        """
        answer = dialogue.answer
        goes_on = answer.reason is FinishReason.TOOL_CALLS or (
            answer.reason is FinishReason.STOP and prompt.conversation.schema is None
        )
        if not goes_on or not self.alive:
            return
        with suppress(msgspec.DecodeError):  # the model can make a call that is no JSON
            turn = answer_turn(fold(said), prompt.names)
            if turn.content:
                self._fixed = fixed_in_turn(prompt.conversation.options)
                self._transcript = Transcript(prompt.identity, [*prompt.digests, *digests([turn])])

    def fail(self, error: ProxyError) -> None:
        """Ends a running turn with ``error`` at its next read."""
        self._process.fail(error)

    async def close(self) -> Report:
        """Ends the process, within about half a second; an open turn is interrupted first.

        The interrupted turn's ``result`` tells what it has cost.
        """
        if self.alive and (self._held or not self._settled):
            await self._interrupt()
        await self._process.end(END_GRACE)
        return self.report

    async def _interrupt(self) -> None:
        with suppress(ProcessEnded, ProxyError, TimeoutError, LineError, LineTooLong):
            self._process.recover()
            async with asyncio.timeout(INTERRUPT_GRACE):
                await self._channel.send(self._channel.control("interrupt")[1])
                while True:
                    for line in await self._channel.read(INTERRUPT_GRACE) or ():
                        if isinstance(line, ResultLine):
                            self.spent = self.report.settle(line, self.spent, whole=self._settled)
                            return
