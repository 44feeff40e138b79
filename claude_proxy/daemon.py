"""The daemon: everything that runs, put together and taken apart in the right order."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Self

import structlog

from claude_proxy import __version__, demo, listeners
from claude_proxy import log as log_to
from claude_proxy.claude import cli as cli_on_disk
from claude_proxy.claude.cli import Cli
from claude_proxy.claude.examined import examine
from claude_proxy.claude.installation import Installation
from claude_proxy.claude.pool import Pool
from claude_proxy.directories import cache_directory, runtime_directory, state_directory
from claude_proxy.http import descriptors
from claude_proxy.kept import keeping
from claude_proxy.listeners import Listener
from claude_proxy.money import spending
from claude_proxy.money.spending import Spending
from claude_proxy.settings import Settings
from claude_proxy.start import Start

log = structlog.get_logger()

DEFAULTS = Settings()
ENDING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """From the first moment to the last: to the server, or to what starts it."""

    def __init__(self) -> None:
        self.on_end: Callable[[signal.Signals], None] | None = None
        self.on_reload: Callable[[], None] | None = None
        self._task = asyncio.current_task()

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in ENDING:
            loop.add_signal_handler(number, self._end, number)
        # A terminal that is closed says so by this signal as well.
        on_hangup = self._end if sys.stderr.isatty() else self._reload
        loop.add_signal_handler(signal.SIGHUP, on_hangup, signal.SIGHUP)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (*ENDING, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # all that is left is to exit

    def _end(self, number: signal.Signals) -> None:
        if self.on_end is not None:
            self.on_end(number)
        elif self._task is not None:
            self._task.cancel()

    def _reload(self, _: signal.Signals) -> None:
        """Before it is ready there is nothing to reload: what counts has just been read."""
        if self.on_reload is not None:
            self.on_reload()


def watch_children_without_threads() -> None:
    """Python 3.11 would start a thread per child; later versions do this by themselves."""
    if sys.version_info < (3, 12):
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.set_child_watcher(watcher)


async def serve(start: Start) -> None:
    """Runs until SIGTERM or SIGINT. Raises ConfigurationError or PortTaken before it listens."""
    watch_children_without_threads()
    descriptors.raise_limit()
    asyncio.get_running_loop().set_exception_handler(descriptors.LoopErrors())
    with Signals() as signals:
        async with AsyncExitStack() as stack:
            await run(start, stack, signals)
        log.info("daemon.stopped")


async def run(start: Start, stack: AsyncExitStack, signals: Signals) -> None:
    settings, environ = start.settings, start.environ
    stack.callback(log_to.progress, "")
    log_to.progress("claude-proxy: starting Claude Code ...")
    environment = await cli_environment(start, stack)
    cli = await examine(cli_on_disk.find(settings.claude, environ), environment, cache(environ))
    listening = start.passed or listeners.made(settings)
    stack.callback(listeners.leave, listening)
    exposed = [listener.address for listener in listening if not listener.is_loopback]
    listeners.check_reach(exposed, settings)
    spent = stack.enter_context(counting(settings, environ))
    installation = Installation(cli, environment, runtime_directory(environ))
    pool = await stack.enter_async_context(Pool(installation, settings, spent.add))
    await pool.spares.underway()
    kept = await stack.enter_async_context(keeping(settings, environ))
    # The other half of what there is to import, while the first process of the CLI starts.
    from claude_proxy.serving import Serving  # noqa: PLC0415

    serving = Serving(start, pool, kept, spent, listening)
    signals.on_end, signals.on_reload = serving.server.on_signal, serving.reload
    say_what_runs(start, cli, listening)
    gc.freeze()  # what is there by now stays
    gc.enable()
    await serving.run()


async def cli_environment(start: Start, stack: AsyncExitStack) -> dict[str, str]:
    environment = cli_on_disk.child_environment(start.environ, start.settings.retries)
    if not start.settings.demo:
        return environment
    simulated = await stack.enter_async_context(demo.simulator())
    own = {name: value for name, value in environment.items() if name not in demo.OVERRIDING}
    return own | simulated


def cache(environ: Mapping[str, str]) -> Path | None:
    with suppress(RuntimeError):  # there is no home directory
        return cache_directory(environ)
    return None


@contextmanager
def counting(settings: Settings, environ: Mapping[str, str]) -> Generator[Spending, None, None]:
    """Simulated money is counted in memory alone."""
    try:
        path = None if settings.demo else state_directory(environ) / spending.NAME
    except RuntimeError:  # there is no home directory
        path = None
    with closing(spending.opened(path) if path else Spending()) as spent:
        yield spent


def is_meant(settings: Settings, listener: Listener) -> bool:
    """Whether the settings name that one, or none in particular."""
    given = [settings.listen, settings.host, settings.port]
    if given == [DEFAULTS.listen, DEFAULTS.host, DEFAULTS.port]:
        return True
    return listener.address in {place.address for place in listeners.places(settings)}


def say_what_runs(start: Start, cli: Cli, listening: Sequence[Listener]) -> None:
    addresses = [listener.address for listener in listening]
    urls = [address for address in addresses if address.startswith("http")]
    log.info(
        "daemon.listening",
        address=(urls or addresses)[0],
        base_url=f"{urls[0]}/v1" if urls else None,
        addresses=addresses,
        socket_names=[listener.name for listener in listening if listener.name],
        version=__version__,
        claude=str(cli.path),
        claude_version=cli.version,
        key_from=start.clients.source,
        simulated=start.settings.demo,
    )
    if not all(listener.is_loopback for listener in listening):
        log.warning("daemon.exposed", note="others can reach this; the key alone protects it")
    if start.passed and not any(is_meant(start.settings, listener) for listener in listening):
        log.warning("daemon.addresses_ignored", note="systemd's sockets count, not these settings")
    if start.settings.demo:
        log.warning("daemon.demo", note="answers are simulated: no model is asked, no cost")
    if urls and sys.stderr.isatty():
        note = f"{urls[0]}/ is a page for your browser; `claude-proxy key` prints the key"
        log.info("daemon.hint", note=note)
