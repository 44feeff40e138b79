"""uvicorn under our rules: what it calls, and that no request is lost while it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable

import pytest

from claude_proxy.claude.pool import Pool
from claude_proxy.errors import ShuttingDown
from claude_proxy.http.server import LINGER, Server
from claude_proxy.listeners import Place, adopted, bound
from claude_proxy.settings import Settings
from tests.unit.fake_cli import answer, installation, run, until
from tests.unit.service import GET, App, Service, serving

NO_SPARES = Settings(spares=0)
CLOSE = "connection: close"


@pytest.fixture
def served(tmp_path):
    """Runs a test with a server, a pool that starts nothing by itself, and a small application."""

    def served(work: Callable[[Service, App, Pool], Awaitable[None]], drain: float = 20.0) -> None:
        async def main() -> None:
            app = App()
            async with (
                Pool(installation(tmp_path), NO_SPARES) as pool,
                serving(app, pool, drain) as service,
            ):
                await work(service, app, pool)

        run(main)

    return served


def test_it_says_when_it_is_ready_and_when_it_begins_to_stop_once_each(tmp_path):
    async def main() -> None:
        said: list[str] = []
        listener = bound(Place("127.0.0.1"))
        async with Pool(installation(tmp_path), NO_SPARES) as pool:
            server = Server(App(), pool, 5)

            def on_ready() -> None:
                said.append("ready")
                socket.create_connection(listener.getsockname()).close()
                server.exit_soon("the test is over")

            server.on_ready = on_ready
            server.on_stopping = lambda: said.append("stopping")
            await server.serve_on([listener])
        assert said == ["ready", "stopping"]
        assert listener.fileno() == -1

    run(main)


def test_signals_are_left_to_the_daemon(tmp_path):
    """uvicorn would take them over, and raise them again at the end."""

    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async def main() -> None:
        before = handlers()
        async with Pool(installation(tmp_path), NO_SPARES) as pool, serving(App(), pool):
            assert handlers() == before
        assert handlers() == before

    run(main)


def test_requests_are_counted_and_seen_while_they_run(served):
    async def work(service: Service, app: App, _) -> None:
        client = await service.connect()
        assert (service.server.busy, service.server.requests) == (False, 0)
        client.ask("/wait")
        await app.asked.wait()
        assert (service.server.busy, service.server.requests) == (True, 0)
        app.go.set()
        await client.answer()
        await until(lambda: not service.server.busy)
        assert service.server.requests == 1

    served(work)


@pytest.mark.parametrize("ticks", [0, 1, 2])
def test_an_answer_that_begins_while_it_drains_is_its_connection_s_last(served, ticks):
    """uvicorn makes a new list of headers every second; a running request has an older one."""

    async def work(service: Service, app: App, _) -> None:
        client = await service.connect()
        client.ask("/wait")
        await app.asked.wait()
        for _ in range(ticks):
            await service.server.on_tick(0)
        service.server.should_exit = True
        await service.stopping.wait()
        app.go.set()
        head, body = await client.answer()
        assert body == "/wait"
        assert head.count(CLOSE) == 1
        assert await client.is_closed()

    served(work)


def test_running_requests_with_one_list_of_headers_have_one_line_each(served):
    async def work(service: Service, app: App, _) -> None:
        clients = [await service.connect() for _ in range(3)]
        for client in clients:
            client.ask("/wait")
        await until(lambda: len(service.server.server_state.tasks) == 3)
        service.server.should_exit = True
        await service.stopping.wait()
        app.go.set()
        for client in clients:
            head, _ = await client.answer()
            assert head.count(CLOSE) == 1

    served(work)


def test_a_kept_connection_whose_next_request_meets_the_end_is_answered(served):
    async def work(service: Service, *_) -> None:
        client = await service.connect()
        client.ask("/first")
        head, body = await client.answer()
        assert (body, CLOSE in head) == ("/first", False)
        service.server.should_exit = True
        await service.stopping.wait()
        client.ask("/second")
        head, body = await client.answer()
        assert (body, head.count(CLOSE)) == ("/second", 1)
        assert await client.is_closed()

    served(work)


def test_a_connection_that_has_not_asked_yet_may_do_so_for_a_while(served):
    async def work(service: Service, *_) -> None:
        slow, silent = [await service.connect() for _ in range(2)]
        await until(lambda: len(service.server.server_state.connections) == 2)
        loop = asyncio.get_running_loop()
        service.server.should_exit = True
        await service.stopping.wait()
        began = loop.time()
        loop.call_later(LINGER / 2, slow.ask, "/late")
        head, body = await slow.answer()
        assert (body, head.count(CLOSE)) == ("/late", 1)
        assert await silent.is_closed()
        assert loop.time() - began > LINGER / 2

    served(work)


@pytest.mark.parametrize("rounds", range(6))
def test_whoever_connects_in_the_moment_of_the_end_is_served_or_waits_for_the_next(
    tmp_path, rounds
):
    """Whichever round of the loop it is: the socket is systemd's, and stays open."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as systemds:
            systemds.settimeout(0)
            listener = adopted(os.dup(systemds.fileno()), "")
            app = App()
            async with Pool(installation(tmp_path), NO_SPARES) as pool:
                server = Server(app, pool, 20)
                server.config.load()
                server.lifespan = server.config.lifespan_class(server.config)
                await server.startup([listener])
                await server.on_tick(0)
                clients = [socket.create_connection(systemds.getsockname()) for _ in range(5)]
                for client in clients:
                    client.sendall(GET)
                for _ in range(rounds):
                    await asyncio.sleep(0)
                clients += [socket.create_connection(systemds.getsockname()) for _ in range(5)]
                for client in clients[5:]:
                    client.sendall(GET)
                await server.shutdown([listener])
            assert app.answered + take_the_rest(systemds) == len(clients)
            for client in clients:
                client.settimeout(5)
                assert client.recv(100).startswith(b"HTTP/1.1 200 ")
                client.close()

    run(main)


def take_the_rest(systemds: socket.socket) -> int:
    """What the next start finds in the queue."""
    taken = 0
    while True:
        try:
            connection, _ = systemds.accept()
        except BlockingIOError:
            return taken
        taken += 1
        connection.sendall(b"HTTP/1.1 200 from the next one")
        connection.close()


def test_after_the_drain_time_what_runs_is_ended(served):
    async def work(service: Service, _, pool: Pool) -> None:
        turn = asyncio.create_task(answer(pool, "silent"))
        client = await service.connect()
        client.ask("/wait")
        await until(lambda: pool.stats.running == 1 and service.server.busy)
        service.server.drain_timeout = 0.1
        service.server.should_exit = True
        with pytest.raises(ShuttingDown, match="could not wait any longer"):
            await turn
        await service.task

    served(work)


def test_the_first_signal_drains_and_the_second_ends_every_answer(served):
    async def work(service: Service, app: App, pool: Pool) -> None:
        turn = asyncio.create_task(answer(pool, "silent"))
        client = await service.connect()
        client.ask("/wait")
        await until(lambda: pool.stats.running == 1 and service.server.busy)
        service.server.on_signal(signal.SIGTERM)
        await service.stopping.wait()
        assert not turn.done()
        service.server.on_signal(signal.SIGINT)
        with pytest.raises(ShuttingDown, match="at once"):
            await turn
        assert not app.go.is_set()
        await service.task
        assert service.server.force_exit

    served(work)
