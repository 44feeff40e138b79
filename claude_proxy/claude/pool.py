"""The processes: admission, warm spares, running turns, and their orderly end."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import structlog

from claude_proxy.claude import cli as cli_on_disk
from claude_proxy.claude.admission import Admission
from claude_proxy.claude.answer import Report
from claude_proxy.claude.cli import Cli, Login
from claude_proxy.claude.models import Models
from claude_proxy.claude.process import ProcessEnded
from claude_proxy.claude.session import DiedUnused, Session
from claude_proxy.conversation import Conversation, Event
from claude_proxy.errors import ProxyError, ShuttingDown
from claude_proxy.settings import ConfigurationError, Settings

log = structlog.get_logger()

TEND_INTERVAL = 5.0
REFILL_DELAY = 0.5
SPARE_BACKOFF = (1.0, 2.0, 5.0, 15.0, 60.0)
LOGIN_FRESH = 60.0
MODELS_FRESH = 600.0


@dataclass(frozen=True, slots=True)
class Stats:
    running: int
    queued: int
    spares: int


class Turn:
    """One answer on its way. Use ``events`` once; ``close`` always, then ``report`` is final."""

    def __init__(self, pool: Pool, conversation: Conversation) -> None:
        self._pool = pool
        self._conversation = conversation
        self._session: Session | None = None
        self._failure: ProxyError | None = None
        self.report = Report()
        self.warm = False

    async def events(self) -> AsyncGenerator[list[Event], None]:
        """Batches as they come; an empty one says that the turn lives. Raises ProxyError."""
        for last_try in (False, True):
            session, self.warm = await self._pool.take()
            self._session = session
            if self._failure is not None:
                raise self._failure
            flows = False
            try:
                async with aclosing(session.run(self._conversation, self._pool.silence)) as run:
                    async for batch in run:
                        self.report = session.report
                        if batch and not flows:
                            flows = True
                            self._pool.refill_soon()
                        yield batch
                return  # noqa: TRY300 - an else would belong to the whole loop
            except DiedUnused as died:
                log.warning("claude.died_unused", pid=session.pid, reason=str(died))
                await self.close()
                if last_try:
                    reason = f"Claude Code {died} before it took the request"
                    raise ProxyError(reason) from None

    def fail(self, error: ProxyError) -> None:
        """Ends it with ``error``, now or as soon as it has a process."""
        self._failure = error
        if self._session is not None:
            self._session.fail(error)

    async def close(self) -> Report:
        """Ends the turn's process, even when the caller is being cancelled meanwhile."""
        if self._session is not None:
            session, self._session = self._session, None
            self.report = await asyncio.shield(self._pool.retire(session))
        return self.report


class Pool:
    """Use as an async context manager; ``turn`` gives one admitted turn."""

    def __init__(self, cli: Cli, environment: Mapping[str, str], settings: Settings) -> None:
        self.cli = cli
        self.models = Models(settings.model, settings.model_alias)
        self.silence = settings.timeout
        self._environment = environment
        self._wanted_spares = settings.spares
        self._spare_max_age = settings.spare_max_age
        self._admission = Admission(
            settings.max_concurrency, settings.queue, settings.queue_timeout
        )
        self._directory: Path | None = None
        self._spares: list[Session] = []
        self._turns: set[Turn] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._refill: asyncio.TimerHandle | None = None
        self._closing: ProxyError | None = None
        self._failures = 0
        self._models_at = float("-inf")
        self._login = Login(None)
        self._login_at = float("-inf")
        self._login_lock = asyncio.Lock()
        self._models_lock = asyncio.Lock()
        self._stamp = self._examined = cli.stamp()

    async def __aenter__(self) -> Self:
        self._own(self._tend(), "tend")
        self._changed.set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop(ShuttingDown("claude-proxy is shutting down", retry_after=1))
        if self._refill is not None:
            self._refill.cancel()
        while self._spares:
            self.retire(self._spares.pop())
        for task in self._tasks:
            if task.get_name() == "tend":
                task.cancel()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def stats(self) -> Stats:
        return Stats(self._admission.running, self._admission.waiting, len(self._spares))

    def stop(self, error: ProxyError) -> None:
        """Ends every running and waiting turn with ``error``, and refuses new ones."""
        self._closing = error
        self._admission.fail_waiting(error)
        for turn in self._turns:
            turn.fail(error)

    async def run(self, turn: Turn) -> AsyncGenerator[list[Event], None]:
        """Waits for a slot, then the turn's events. The slot is free again when its process is."""
        async with self._admission.slot():
            self._turns.add(turn)
            try:
                async with aclosing(turn.events()) as batches:
                    async for batch in batches:
                        yield batch
            finally:
                self._turns.discard(turn)
                await turn.close()

    def turn(self, conversation: Conversation) -> Turn:
        return Turn(self, conversation)

    async def take(self) -> tuple[Session, bool]:
        """A spare, or a process started now; and which of the two it is (True: a spare)."""
        if self._closing is not None:
            raise self._closing
        self._changed_on_disk()
        while self._spares:
            session = self._spares.pop(0)
            if self._usable(session):
                return session, True
            self.retire(session)
        return await self._spawn(), False

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
        return self._own(self._end(session), "retire")

    async def login(self) -> Login:
        """Whether Claude Code is logged in; asked at most once a minute."""
        async with self._login_lock:
            if time.monotonic() - self._login_at > LOGIN_FRESH:
                self._login = await cli_on_disk.login(self.cli, self._environment)
                self._login_at = time.monotonic()
        return self._login

    async def fresh_models(self) -> Models:
        """The models, listed by the CLI within the last minutes; spends no tokens."""
        async with self._models_lock:
            if time.monotonic() - self._models_at > MODELS_FRESH:
                session = await self._spawn()
                try:
                    await self._warm(session)
                except (ProcessEnded, TimeoutError, ValueError) as error:
                    log.warning("claude.models_unknown", reason=str(error))
                finally:
                    await asyncio.shield(self.retire(session))
        return self.models

    async def _spawn(self) -> Session:
        """In an empty private directory: the CLI tells the model where it works."""
        if self._directory is None or not self._directory.is_dir():  # /tmp is tidied now and then
            place = self._environment.get("XDG_RUNTIME_DIR")
            self._directory = Path(tempfile.mkdtemp(prefix="claude-proxy-", dir=place))
        return await Session.spawn(self.cli, self._environment, self._directory)

    async def _warm(self, session: Session) -> None:
        if listed := await session.warm_up(self.models.resolve("")):
            self.models.update(listed)
            self._models_at = time.monotonic()

    async def _end(self, session: Session) -> Report:
        report = await session.close()
        log.debug("claude.ended", pid=session.pid, unknown_lines=session.unknown_lines)
        self._changed.set()
        return report

    def _own(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._disown)
        return task

    def _disown(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("pool.task_failed", task=task.get_name(), exc_info=error)

    def _usable(self, session: Session) -> bool:
        age = time.monotonic() - session.started
        return session.alive and session.stamp == self._stamp and age < self._spare_max_age

    def _changed_on_disk(self) -> bool:
        """Notices that the CLI's file was replaced; spares of the old one are no longer usable."""
        stamp = self.cli.stamp()
        if stamp is None or stamp == self._stamp:
            return False
        self._stamp = stamp
        return True

    async def _check_cli(self) -> None:
        if self._changed_on_disk() or self._stamp != self._examined:
            self._examined = self._stamp
            try:
                self.cli = await cli_on_disk.examine(self.cli.path, self._environment)
            except ConfigurationError as error:
                log.error("claude.upgrade_unusable", reason=str(error))  # noqa: TRY400
            else:
                log.info("claude.upgraded", version=self.cli.version)

    async def _tend(self) -> None:
        """Keeps the wanted number of good spares, waiting longer after each failure."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TEND_INTERVAL):
                    await self._changed.wait()
            self._changed.clear()
            await self._check_cli()
            for session in [spare for spare in self._spares if not self._usable(spare)]:
                self._spares.remove(session)
                self.retire(session)
            while len(self._spares) < self._wanted_spares:
                if not await self._add_spare():
                    backoff = SPARE_BACKOFF[min(self._failures, len(SPARE_BACKOFF)) - 1]
                    await asyncio.sleep(backoff)

    async def _add_spare(self) -> bool:
        session: Session | None = None
        try:
            session = await self._spawn()
            await self._warm(session)
        except (ProxyError, ProcessEnded, TimeoutError, ValueError) as error:
            self._failures += 1
            log.warning(
                "claude.spare_failed",
                reason=str(error) or "no answer",
                stderr=session.stderr_tail if session else "",
            )
            if session is not None:
                await self.retire(session)
            return False
        except asyncio.CancelledError:
            if session is not None:
                self.retire(session)
            raise
        self._failures = 0
        self._spares.append(session)
        log.debug(
            "claude.spare_ready",
            pid=session.pid,
            seconds=round(time.monotonic() - session.started, 3),
        )
        return True
