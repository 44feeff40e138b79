"""One client's connection: uvicorn's, with bounds of time and number, and errors in JSON."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Any

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from claude_proxy.errors import RETRY_SOON, Overloaded, ProxyError, RequestTimeout
from claude_proxy.http import watched
from claude_proxy.http.lingering import Lingering
from claude_proxy.http.parser import Parser
from claude_proxy.http.refusal import response
from claude_proxy.repetition import Repetition

log = structlog.get_logger()


class Stage(Enum):
    """What a connection may not stay in for ever. (uvicorn bounds the wait for a next request,
    body.py that for a body.)
    """

    SILENT = auto()
    HEAD = auto()
    # What is left of a request that has been answered already.
    REST = auto()


# Browsers and SDKs connect ahead; but a request that has begun comes at once.
PATIENCE = {Stage.SILENT: 60.0, Stage.HEAD: 10.0, Stage.REST: 10.0}
# Of what a client sends while it is being answered: its next requests.
AHEAD_SIZE = 1 << 20
# So long must a connection have asked for nothing to be closed for another one.
SILENT_ENOUGH = 1.0
# Of those that were refused, so many are waited for at the same time.
MOST_LEAVING = 32


class Connections(ServerState):
    """All that are open. At most ``most``: above that one that never asked for anything makes
    room, or else the newcomer hears that there is none.
    """

    connections: set[Connection]  # type: ignore[assignment]

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        # Those without a request so far, the oldest first, and when they came.
        self._silent: dict[Connection, float] = {}
        self._leaving: set[Connection] = set()
        self._full = Repetition("connections.full")

    def admit(self, newcomer: Connection, now: float) -> None:
        if len(self.connections) - len(self._leaving) > self.most:
            oldest = next(iter(self._silent), None)
            if oldest is None or now - self._silent[oldest] < SILENT_ENOUGH:
                self._full.happened(f"there are {self.most}")
                newcomer.refuse(full())
                return
            oldest.refuse(full())
        self._silent[newcomer] = now

    def asked(self, connection: Connection) -> None:
        self._silent.pop(connection, None)

    def leaves(self, connection: Connection) -> bool:
        """Whether there is time to see it off."""
        self._silent.pop(connection, None)
        self._leaving.add(connection)
        return len(self._leaving) <= MOST_LEAVING

    def left(self, connection: Connection) -> None:
        self._silent.pop(connection, None)
        self._leaving.discard(connection)


def full() -> Overloaded:
    return Overloaded(
        "There are too many connections: close some, or try again", retry_after=RETRY_SOON
    )


class Connection(H11Protocol):
    conn: Parser
    server_state: Connections

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.conn = Parser()
        self._stage: Stage | None = None
        self._too_late: asyncio.TimerHandle | None = None

    @property
    def is_answered(self) -> bool:
        """Whether it has no request that has come."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def only_watches(self) -> bool:
        """Whether its request is one that nobody has to wait for."""
        return not self.is_answered and watched.is_marked(self.cycle.scope)

    @property
    def is_quiet(self) -> bool:
        """Whether it has no request, not even a part of one."""
        return self.is_answered and (self.transport.is_closing() or not self.conn.unread)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._lingering = Lingering(transport, lambda: self.conn.awaits_more)
        super().connection_made(self._lingering)
        self.server_state.admit(self, self.loop.time())
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._lingering.lost()
        self.server_state.left(self)
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        wanted = self.conn.wanted(data)
        if not self.is_answered and len(self.conn.unread) > AHEAD_SIZE:
            log.debug("connection.aborted", reason="it sends while it is being answered")
            self.transport.abort()
        elif wanted:
            super().data_received(wanted)

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.fault is not None:
            self.refuse(self.conn.fault)
        elif self.cycle is not None:
            self.server_state.asked(self)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._watch()

    def shutdown(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def refuse(self, error: ProxyError) -> None:
        """The last word, wherever there may be one: what has begun to be answered just ends."""
        if self.transport.is_closing():
            return
        log.debug("connection.refused", status=error.status, code=error.code, reason=error.message)
        if not self.is_answered:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.may_answer:
            self.transport.write(response(error))
        if self.server_state.leaves(self):
            self._lingering.see_off()
        else:
            self.transport.abort()

    def _get_upgrade(self) -> None:
        """None is known, and uvicorn would warn of each."""

    def _watch(self) -> None:
        """Starts the clock of the stage that it has come to."""
        stage = self._current_stage()
        if stage is self._stage:
            return
        self._stage = stage
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None
        if stage is not None:
            self._too_late = self.loop.call_later(PATIENCE[stage], self._give_up, stage)
        if stage is Stage.HEAD:
            self._unset_keepalive_if_required()

    def _current_stage(self) -> Stage | None:
        state, stage = self.conn.their_state, None
        if state is h11.IDLE and self.conn.unread:
            stage = Stage.HEAD
        elif state is h11.IDLE:
            stage = Stage.SILENT if self.cycle is None else None
        elif state is h11.SEND_BODY and self.is_answered:
            stage = Stage.REST
        return None if stage is None or self.transport.is_closing() else stage

    def _give_up(self, stage: Stage) -> None:
        if stage is Stage.HEAD:
            seconds = PATIENCE[stage]
            self.refuse(RequestTimeout(f"The request's head did not arrive within {seconds:g} s"))
        else:
            self.transport.close()
