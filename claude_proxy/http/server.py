"""uvicorn under this daemon's rules: when it is ready, how it drains, what a signal means."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress

import structlog
import uvicorn
from starlette.types import ASGIApp

from claude_proxy.claude.pool import Pool
from claude_proxy.errors import NO_LONGER, ShuttingDown
from claude_proxy.http import body
from claude_proxy.http.body import Bodies
from claude_proxy.http.connection import Connection, Connections
from claude_proxy.http.descriptors import ACCEPTED_IN_A_ROW, MOST_CONNECTIONS
from claude_proxy.listeners import Listener

log = structlog.get_logger()

# For a next request on the same connection.
KEEP_ALIVE = 5
# After the drain time each turn gets its error frame; this is for sending it.
FAREWELL = 2.0
# An open connection without a request may have one on its way to us.
LINGER = 0.5
LINGER_INTERVAL = 0.02
# One of which a part has come, of head or body, gets that long for the rest; whoever connects
# meanwhile waits for it.
HALF_SENT = 3.0


class Server(uvicorn.Server):
    """Signals drain the pool, no request is lost on the way, and the exit code stays ours.

    ``on_ready`` and ``on_stopping`` are called once each, when it listens and when it begins to
    drain. ``drain_timeout`` may be changed until then.
    """

    server_state: Connections

    def __init__(self, app: ASGIApp, pool: Pool, drain_timeout: float) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            backlog=ACCEPTED_IN_A_ROW,
            timeout_keep_alive=KEEP_ALIVE,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody is told who a client is by the client itself
        )
        super().__init__(config)
        self.server_state = Connections(MOST_CONNECTIONS)
        self.drain_timeout = drain_timeout
        self.on_ready: Callable[[], None] = lambda: None
        self.on_stopping: Callable[[], None] = lambda: None
        self._pool = pool
        self._bodies = Bodies()

    async def serve_on(self, listeners: Sequence[Listener]) -> None:
        """Until it is told to exit and everything has ended."""
        await self.serve(sockets=list(listeners))

    def limit_connections(self, most: int) -> None:
        self.server_state.most = most

    @property
    def busy(self) -> bool:
        """Whether there is a request, or a part of one, beside those that only watch."""
        connections = self.server_state.connections
        watching = sum(each.only_watches for each in connections)
        if len(self.server_state.tasks) > watching:
            return True
        return not all(each.is_quiet or each.only_watches for each in connections)

    @property
    def requests(self) -> int:
        """So far."""
        return self.server_state.total_requests

    def exit_soon(self, why: str) -> None:
        """Drains, then ends."""
        stats = self._pool.stats
        log.info("daemon.draining", why=why, running=stats.running, queued=stats.queued)
        self.should_exit = True

    def on_signal(self, number: signal.Signals) -> None:
        """The first one drains, the second one ends every answer with an error."""
        if not self.should_exit:
            self.exit_soon(number.name)
            return
        log.warning("daemon.stop_at_once", signal=number.name)
        self._pool.stop(ShuttingDown("claude-proxy was told to stop at once"))
        loop = asyncio.get_running_loop()
        loop.call_later(FAREWELL, setattr, self, "force_exit", True)  # noqa: FBT003

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Nothing: uvicorn's own raises the signal again at the end, which hides a clean exit."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.lifespan.state[body.STATE] = self._bodies
        await super().startup(sockets)
        self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.on_stopping()
        self._bodies.hurry(HALF_SENT)
        self._close_after_each_answer()
        await self._stop_accepting(sockets or [])
        loop = asyncio.get_running_loop()
        deadline = loop.call_later(self.drain_timeout, self._pool.stop, ShuttingDown(NO_LONGER))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.drain_timeout + FAREWELL):
                    await self._linger()
            self.config.timeout_graceful_shutdown = round(FAREWELL)
            await super().shutdown(sockets)
        finally:
            deadline.cancel()

    async def _stop_accepting(self, sockets: Sequence[socket.socket]) -> None:
        """Whoever connects from now on waits in the queue of a socket of systemd's, or is refused
        by one that was made here.

        asyncio drops connections that it has accepted in the very moment in which its server is
        closed; they get two rounds of the loop to be taken up first.
        """
        loop = asyncio.get_running_loop()
        for listener in sockets:
            loop.remove_reader(listener.fileno())
        for _ in range(2):
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()

    def _close_after_each_answer(self) -> None:
        """In place: answers that have not begun yet hold one of these lists, of which uvicorn
        makes a new one every second.
        """
        lists = [self.server_state.default_headers]
        cycles = [each.cycle for each in self.server_state.connections]
        lists += [cycle.default_headers for cycle in cycles if cycle is not None]
        for headers in {id(one): one for one in lists}.values():
            headers.append((b"connection", b"close"))

    async def _linger(self) -> None:
        """Until every connection has been without a request, save one that only watches, for
        LINGER seconds.

        uvicorn would close those that have none, for which one may be on its way, or half there,
        and those whose answers end, at that very moment, and not always with a word.
        """
        loop = asyncio.get_running_loop()
        quiet_since: dict[Connection, float] = {}
        patience = loop.time() + HALF_SENT
        while not self.force_exit:
            now = loop.time()
            quiet = [
                each
                for each in self.server_state.connections
                if each.only_watches or (each.is_quiet if now < patience else each.is_answered)
            ]
            quiet_since = {each: quiet_since.get(each, now) for each in quiet}
            settled = sum(now - since >= LINGER for since in quiet_since.values())
            if settled == len(self.server_state.connections):
                break
            await asyncio.sleep(LINGER_INTERVAL)  # uvicorn tells nobody when a request arrives
