"""The daemon: sockets, signals, readiness, drain, uvicorn."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Coroutine, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from typing import Self

import structlog
import uvicorn

from claude_proxy import __version__, app, demo
from claude_proxy.api_key import ApiKey
from claude_proxy.claude import cli as cli_on_disk
from claude_proxy.claude.cli import Cli
from claude_proxy.claude.pool import Pool
from claude_proxy.database import StoreUnusable
from claude_proxy.directories import state_directory
from claude_proxy.errors import ShuttingDown
from claude_proxy.kept import Kept
from claude_proxy.settings import Settings
from claude_proxy.store import Store

log = structlog.get_logger()

# Also how many connections asyncio takes at once; out of descriptors it logs each failure.
BACKLOG = 128
# After the drain time each turn gets its error frame; this is for sending it.
FAREWELL = 2.0
EXPIRE_INTERVAL = 3_600.0
EXPIRE_PAUSE = 0.1


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
        """Nothing: uvicorn's own raises the signal again at the end, which hides a clean exit."""
        yield

    def on_signal(self, number: signal.Signals) -> None:
        """The first one drains, the second one ends every answer with an error."""
        if self.should_exit:
            log.warning("daemon.stop_at_once", signal=number.name)
            self._pool.stop(ShuttingDown("claude-proxy was told to stop at once"))
            loop = asyncio.get_running_loop()
            loop.call_later(FAREWELL, setattr, self, "force_exit", True)  # noqa: FBT003
            return
        stats = self._pool.stats
        log.info(
            "daemon.draining",
            signal=number.name,
            running=stats.running,
            queued=stats.queued,
            note="once more ends it at once",
        )
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
    if (await pool.installation.login()).logged_in is False:
        log.warning("claude.not_logged_in", note="run `claude` once as this user and log in")


def watch_children_without_threads() -> None:
    """Python 3.11 would start a thread per child; later versions do this by themselves."""
    if sys.version_info < (3, 12):
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.set_child_watcher(watcher)


class Signals:
    """SIGTERM and SIGINT from the first moment to the last: to the server, or to what starts it."""

    def __init__(self) -> None:
        self.server: Server | None = None
        self._task = asyncio.current_task()

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # all that is left is to exit

    def _on_signal(self, number: signal.Signals) -> None:
        if self.server is not None:
            self.server.on_signal(number)
        elif self._task is not None:
            self._task.cancel()


async def serve(settings: Settings, key: ApiKey, environ: Mapping[str, str]) -> None:
    """Runs until SIGTERM or SIGINT. Raises ConfigurationError or PortTaken before it listens."""
    watch_children_without_threads()
    with Signals() as signals:
        async with AsyncExitStack() as stack:
            await run(settings, key, environ, stack, signals)
        log.info("daemon.stopped")


async def run(
    settings: Settings,
    key: ApiKey,
    environ: Mapping[str, str],
    stack: AsyncExitStack,
    signals: Signals,
) -> None:
    environment = cli_on_disk.child_environment(environ, settings.retries)
    if settings.demo:
        simulated = await stack.enter_async_context(demo.simulator())
        environment = {
            name: value for name, value in environment.items() if name not in demo.OVERRIDING
        } | simulated
    cli = await cli_on_disk.examine(cli_on_disk.find(settings.claude, environ), environment)
    listener = stack.enter_context(listen(settings))
    pool = await stack.enter_async_context(Pool(cli, environment, settings))
    kept = await stack.enter_async_context(keeping(settings, environ))
    config = uvicorn.Config(
        app.build(settings, pool, key, kept),
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_timeout + FAREWELL),
    )
    say_what_runs(settings, key, cli, listener)
    await stack.enter_async_context(running(warn_without_login(pool)))
    signals.server = Server(config, pool, settings.drain_timeout)
    await signals.server.serve(sockets=[listener])


@asynccontextmanager
async def running(work: Coroutine[None, None, None]) -> AsyncGenerator[None, None]:
    """A task for the time of the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def keeping(settings: Settings, environ: Mapping[str, str]) -> AsyncGenerator[Kept, None]:
    """The kept responses; a store that cannot be used is done without."""
    store = open_store(settings, environ)
    if store is None:
        yield Kept(None)
        return
    with closing(store):
        async with running(expire(store)):
            yield Kept(store)


def open_store(settings: Settings, environ: Mapping[str, str]) -> Store | None:
    try:
        path = state_directory(environ) / "responses.db"
        if not settings.store_days:
            if path.exists():
                log.warning("store.left", path=str(path), note="kept earlier; delete it by hand")
            return None
        return Store.open(path, days=settings.store_days, limit=settings.store_size)
    except (StoreUnusable, RuntimeError) as error:
        log.warning("store.unusable", reason=str(error), note="no response will be kept")
        return None


async def expire(store: Store) -> None:
    while True:
        more = False
        try:
            more = store.expire()
        except StoreUnusable as error:
            log.warning("store.unusable", reason=str(error))
        await asyncio.sleep(EXPIRE_PAUSE if more else EXPIRE_INTERVAL)


def say_what_runs(settings: Settings, key: ApiKey, cli: Cli, listener: socket.socket) -> None:
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
