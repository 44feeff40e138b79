"""The processes: admission, warm spares, running turns, living conversations, and their end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Self

import structlog

from claude_proxy.claude.accounts import Accounts
from claude_proxy.claude.admission import Admission
from claude_proxy.claude.answer import Report
from claude_proxy.claude.catalogue import Catalogue
from claude_proxy.claude.dialogue import DiedUnused
from claude_proxy.claude.failures import LOG_IN
from claude_proxy.claude.installation import Installation
from claude_proxy.claude.living import Living
from claude_proxy.claude.models import Models
from claude_proxy.claude.plan import Plan
from claude_proxy.claude.process import ProcessEnded
from claude_proxy.claude.prompt import Prompt
from claude_proxy.claude.session import Session
from claude_proxy.claude.spares import Arrival, Spares
from claude_proxy.claude.tally import How, Origin, Stats, Tally
from claude_proxy.conversation import Conversation, Event
from claude_proxy.errors import NotLoggedIn, ProxyError, ShuttingDown
from claude_proxy.money.used import Used
from claude_proxy.settings import Settings
from claude_proxy.tasks import Tasks

log = structlog.get_logger()

TEND_INTERVAL, SETTLE_WAIT, REFILL_DELAY, BOOT_TIME = 5.0, 3.0, 0.5, 0.3
SPARE_BACKOFF = (1.0, 2.0, 5.0, 15.0, 60.0)


class Turn:
    """One answer on its way. Use ``events`` once; ``close`` always, then ``report`` is final."""

    def __init__(
        self, pool: Pool, prompt: Prompt, client: str, may_begin: Callable[[], None]
    ) -> None:
        self.client = client
        self.may_begin = may_begin
        self.queued = 0.0
        self._pool = pool
        self._prompt = prompt
        self._session: Session | None = None
        self._failure: ProxyError | None = None
        self.report = Report()
        self.origin: Origin | None = None
        self.session_id: str | None = None
        self.closed = asyncio.Event()

    async def events(self) -> AsyncGenerator[list[Event], None]:
        """Batches as they come; an empty one says that the turn lives. Raises ProxyError."""
        for source in Origin:
            session, self.origin = await self._pool.take(self._prompt, source)
            self._session, self.session_id = session, session.id
            if self._failure is not None:
                raise self._failure
            flows = False
            self._pool.accounts.begin(session, self.client, self._prompt.conversation.model)
            try:
                async with aclosing(session.run(self._prompt, self._pool.silence)) as run:
                    async for batch in run:
                        self.report = session.report
                        if batch and not flows:
                            flows = True
                            self._pool.plan.update(self.report.limits)
                            self._pool.refill_soon()
                        yield batch
                return  # noqa: TRY300 - an else would belong to the whole loop
            except DiedUnused as died:
                log.warning("claude.died_unused", session=session.id, reason=str(died))
                await self.close()
                if self.origin is Origin.STARTED and source is not Origin.CONTINUED:
                    reason = f"Claude Code {died} before it took the request"
                    raise ProxyError(reason) from None

    @property
    def how(self) -> How | None:
        """None when it had no process."""
        if self.origin is None or self.origin is Origin.CONTINUED:
            return self.origin and How.CONTINUED
        return How.REPLAYED if len(self._prompt.turns) > 1 else How.BEGUN

    def comes_before(self, prompt: Prompt) -> bool:
        return self._session is not None and self._session.stands_at(prompt)

    def fail(self, error: ProxyError) -> None:
        """Ends it with ``error``, now or as soon as it has a process."""
        self._failure = error
        if self._session is not None:
            self._session.fail(error)

    async def close(self) -> Report:
        """Keeps the turn's process for the next turn, or ends it, also while being cancelled."""
        if self._session is not None:
            session, self._session = self._session, None
            self.report = session.report
            if not self._pool.keep(session):
                self.report = await asyncio.shield(self._pool.retire(session))
            self._pool.plan.update(self.report.limits)
        return self.report


class Pool:
    """Use as an async context manager; ``turn`` gives one admitted turn."""

    def __init__(
        self,
        installation: Installation,
        settings: Settings,
        on_used: Callable[[Used], None] = lambda _: None,
    ) -> None:
        """``on_used`` hears of every token and every cent."""
        self.installation = installation
        self.models = Models(settings.model, settings.model_alias)
        self._catalogue = Catalogue(self.models)
        self.accounts = Accounts(on_used)
        self.plan = Plan()
        self.tally = Tally()
        self._admission = Admission(
            settings.max_concurrency, settings.queue, settings.queue_timeout
        )
        self.spares = Spares(self.installation, settings.spares, settings.spare_max_age)
        self._living = Living(settings.max_sessions, settings.keep_alive)
        self._turns: set[Turn] = set()
        self._counting: set[Session] = set()
        self._tasks = Tasks()
        self._tending: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._refill: asyncio.TimerHandle | None = None
        self._closing: ProxyError | None = None
        self._failures = 0
        self.silence = settings.timeout

    def configure(self, settings: Settings) -> None:
        """Puts other limits, times, names and retries in force; turns that run are untouched."""
        self.models.configure(settings.model, settings.model_alias)
        self._admission.configure(settings.max_concurrency, settings.queue, settings.queue_timeout)
        self._living.configure(settings.max_sessions, settings.keep_alive)
        self.installation.retry(settings.retries)
        self.spares.configure(settings.spares, settings.spare_max_age)
        self.silence = settings.timeout
        self._changed.set()

    async def __aenter__(self) -> Self:
        self._tending = self._tasks.start(self._tend(), "tend")
        self._changed.set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop(ShuttingDown("claude-proxy is shutting down", retry_after=1))
        if self._refill is not None:
            self._refill.cancel()
        for session in [*self.spares.clear(), *self._living.clear()]:
            self.retire(session)
        if self._tending is not None:
            self._tending.cancel()
        await self._tasks.finish()
        self.installation.clean_up()

    @property
    def stats(self) -> Stats:
        return Stats(
            self._admission.running, self._admission.waiting, len(self.spares), len(self._living)
        )

    @property
    def is_full(self) -> bool:
        """Whether one more request would be sent away."""
        return self._admission.is_full

    def stop(self, error: ProxyError) -> None:
        """Ends every running and waiting turn with ``error``, and refuses new ones."""
        self._closing = error
        self._admission.fail_waiting(error)
        for each in self._turns | self._counting:
            each.fail(error)

    async def run(self, turn: Turn) -> AsyncGenerator[list[Event], None]:
        """Waits for a slot, then the turn's events. The slot is free again when its process is."""
        asked = time.monotonic()
        async with self._admission.slot(turn.client):
            turn.queued = time.monotonic() - asked
            turn.may_begin()
            self._turns.add(turn)
            try:
                async with aclosing(turn.events()) as batches:
                    async for batch in batches:
                        yield batch
            finally:
                try:
                    await turn.close()
                finally:
                    self.tally.add(turn.how, turn.report.retries)
                    self._turns.discard(turn)
                    turn.closed.set()

    def turn(
        self,
        conversation: Conversation,
        client: str = "",
        may_begin: Callable[[], None] = lambda: None,
    ) -> Turn:
        """Slots are given fairly among clients; ``may_begin`` may raise a ProxyError when it is
        this turn's. Raises InvalidRequest for a conversation that Claude cannot take.
        """
        return Turn(self, Prompt.of(conversation), client, may_begin)

    async def count(self, conversation: Conversation, client: str = "") -> int:
        """Tokens of the conversation, which nobody answers. Raises ProxyError."""
        prompt = Prompt.of(conversation)
        if (await self.installation.login()).logged_in is False:
            raise NotLoggedIn(LOG_IN)  # the CLI would not say so, but guess
        async with self._admission.slot(client):
            session, _ = await self.take(prompt, Origin.SPARE)
            self._counting.add(session)
            try:
                return await session.count(prompt)
            finally:
                self._counting.discard(session)
                await asyncio.shield(self.retire(session))

    async def take(self, prompt: Prompt, best: Origin) -> tuple[Session, Origin]:
        """The process that lives in this conversation, else a spare, else one started now.

        ``best`` leaves out what comes before it: another of these has just turned out dead.
        """
        if self._closing is not None:
            raise self._closing
        if best is Origin.CONTINUED:
            await self._settled(prompt)
            if (session := self._living.take(prompt)) is not None:
                return session, Origin.CONTINUED
        if best is not Origin.STARTED and (session := await self.spares.take_soon()):
            return session, Origin.SPARE
        return await self.installation.spawn(), Origin.STARTED

    async def _settled(self, prompt: Prompt) -> None:
        """A fast client comes back before the CLI has ended the turn whose answer it has."""
        for turn in self._turns:
            if turn.comes_before(prompt):
                with suppress(TimeoutError):
                    async with asyncio.timeout(SETTLE_WAIT):
                        await turn.closed.wait()
                return

    def keep(self, session: Session) -> bool:
        """For the conversation's next turn; the one that was used longest ago makes room."""
        if self._closing is not None or not session.lives_on:
            return False
        for surplus in self._living.add(session):
            if surplus is session:
                return False
            self.retire(surplus)
        self.accounts.book(session)
        return True

    def refill_soon(self) -> None:
        """Lets the next spare start once the answer flows.

        A start costs a second of processor time: together with a first token it would delay it.
        """
        if self._refill is None:
            self._refill = asyncio.get_running_loop().call_later(REFILL_DELAY, self._start_refill)

    def _start_refill(self) -> None:
        self._refill = None
        self._changed.set()

    def retire(self, session: Session) -> asyncio.Task[Report]:
        """Ends the process in a task that the pool owns."""
        return self._tasks.start(self._end(session), "retire")

    async def fresh_models(self) -> Models:
        """The models, listed by the CLI within the last minutes; spends no tokens."""
        return await self._catalogue.fresh(self.installation, self.retire)

    async def _end(self, session: Session) -> Report:
        self.tally.crashed += session.crashed
        report = await session.close()
        self.accounts.close(session)
        self.tally.unknown_lines += session.unknown_lines
        log.debug(
            "claude.ended",
            session=session.id,
            pid=session.pid,
            unknown_lines=session.unknown_lines,
            cost_usd=round(session.spent.cost_usd, 6),
        )
        self._changed.set()
        return report

    async def _tend(self) -> None:
        """Keeps the wanted number of good spares, waiting longer after each failure."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TEND_INTERVAL):
                    await self._changed.wait()
            self._changed.clear()
            await self.installation.follow_upgrade()
            for session in [*self._living.outdated(), *self.spares.useless()]:
                self.retire(session)
            while self.spares.missing:
                with self.spares.arriving() as arrival:
                    added = await self._add_spare(arrival)
                if arrival.claimed.is_set():
                    break  # the next one starts when this one's answer flows
                if not added:
                    backoff = SPARE_BACKOFF[min(self._failures, len(SPARE_BACKOFF)) - 1]
                    await asyncio.sleep(backoff)

    async def _add_spare(self, arrival: Arrival) -> bool:
        session: Session | None = None
        try:
            session = await self.installation.spawn()
            self.spares.begun.set()
            # What a request waits for has no time for a rehearsal, and what boots takes no lines.
            if not await arrival.is_claimed(BOOT_TIME):
                await self._catalogue.warm(session)
        except (ProxyError, ProcessEnded, TimeoutError, ValueError) as error:
            self._failures += 1
            self.spares.begun.set()
            said, reason = session.stderr_tail if session else "", str(error) or "no answer"
            log.warning("claude.spare_failed", reason=reason, stderr=said)
            if session is not None:
                await self.retire(session)
            return False
        except asyncio.CancelledError:
            if session is not None:
                self.retire(session)
            raise
        self._failures = 0
        self.spares.add(session)
        log.debug(
            "claude.spare_ready",
            pid=session.pid,
            seconds=round(time.monotonic() - session.started, 3),
        )
        return True
