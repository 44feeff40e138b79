"""The daemon: sockets, signals, readiness, drain, uvicorn."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import structlog
import uvicorn

from claude_proxy import __version__, app, demo
from claude_proxy.api_key import ApiKey
from claude_proxy.claude import cli as cli_on_disk
from claude_proxy.claude.pool import Pool
from claude_proxy.errors import ShuttingDown
from claude_proxy.settings import Settings

log = structlog.get_logger()

BACKLOG = 2_048
# After the drain time each turn gets its error frame; this is for sending it.
FAREWELL = 2.0


class PortTaken(Exception):
    """The address cannot be listened on (exit code 69, EX_UNAVAILABLE)."""


class Server(uvicorn.Server):
    """uvicorn, but signals drain the pool and the exit code stays ours."""

    def __init__(self, config: uvicorn.Config, pool: Pool, drain_timeout: float) -> None:
        super().__init__(config)
        self._pool = pool
        self._drain_timeout = drain_timeout

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """uvicorn's own raises the signal again at the end, which hides a clean exit."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.should_exit:
            log.warning("daemon.stop_at_once", signal=number.name)
            self._pool.stop(ShuttingDown("claude-proxy was told to stop at once"))
            loop = asyncio.get_running_loop()
            loop.call_later(FAREWELL, setattr, self, "force_exit", True)  # noqa: FBT003
            return
        stats = self._pool.stats
        log.info("daemon.draining", signal=number.name, running=stats.running, queued=stats.queued)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        error = ShuttingDown("claude-proxy is shutting down and could not wait any longer")
        deadline = loop.call_later(self._drain_timeout, self._pool.stop, error)
        try:
            await super().shutdown(sockets)
        finally:
            deadline.cancel()


def listen(settings: Settings) -> socket.socket:
    """Raises PortTaken.

    asyncio sets TCP_NODELAY only on sockets that know their protocol, and create_server's do not:
    without it every second small frame waits some 40 ms for an acknowledgement (measured).
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = (settings.host, settings.port)
    try:
        made = socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        if isinstance(error, socket.gaierror):
            hint = "this machine knows no such address; see --host and the variable HOST"
            raise PortTaken(f"cannot listen on {where}: {hint}") from None
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise PortTaken(f"cannot listen on {where}: {reason}; see --port and --host") from None
    return socket.socket(fileno=made.detach())


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def warn_without_login(pool: Pool) -> None:
    if (await pool.login()).logged_in is False:
        log.warning("claude.not_logged_in", note="run `claude` once as this user and log in")


def watch_children_without_threads() -> None:
    """Python 3.11 would start a thread per child; later versions do this by themselves."""
    if sys.version_info < (3, 12):
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.set_child_watcher(watcher)


async def serve(settings: Settings, key: ApiKey, environ: Mapping[str, str]) -> None:
    """Runs until SIGTERM or SIGINT. Raises ConfigurationError or PortTaken before it listens."""
    watch_children_without_threads()
    environment = cli_on_disk.child_environment(environ, settings.retries)
    async with AsyncExitStack() as stack:
        if settings.demo:
            simulated = await stack.enter_async_context(demo.simulator())
            environment = {
                name: value for name, value in environment.items() if name not in demo.OVERRIDING
            } | simulated
        cli = await cli_on_disk.examine(cli_on_disk.find(settings.claude, environ), environment)
        pool = Pool(cli, environment, settings)
        listener = stack.enter_context(listen(settings))

        @asynccontextmanager
        async def lifespan(_: Any) -> AsyncGenerator[None, None]:
            async with pool:
                asking = asyncio.create_task(warn_without_login(pool))
                try:
                    yield
                finally:
                    asking.cancel()
                    await asyncio.wait({asking})

        config = uvicorn.Config(
            app.build(settings, pool, key, lifespan),
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(settings.drain_timeout + FAREWELL),
        )
        log.info(
            "daemon.listening",
            address=address_of(listener),
            base_url=address_of(listener) + "/v1",
            version=__version__,
            claude=str(cli.path),
            claude_version=cli.version,
            key_from=key.source,
            simulated=settings.demo,
        )
        if settings.host not in ("127.0.0.1", "::1", "localhost"):
            log.warning("daemon.exposed", note="others can reach this address; the key protects it")
        if settings.demo:
            log.warning("daemon.demo", note="answers are simulated: no model is asked, no cost")
        server = Server(config, pool, settings.drain_timeout)
        await server.serve(sockets=[listener])
    log.info("daemon.stopped")
