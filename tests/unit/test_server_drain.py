"""The drain: whoever has begun to ask is answered, and nobody keeps the end waiting for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from claude_proxy.claude.pool import Pool
from claude_proxy.errors import NO_LONGER
from claude_proxy.http import server
from claude_proxy.http.server import LINGER
from claude_proxy.settings import Settings
from tests.unit.fake_cli import installation, run, until
from tests.unit.service import App, Client, Service, serving, whole

NO_SPARES = Settings(spares=0)
CLOSE = "connection: close"
# Far above all that is waited for here, and far below ``run``'s limit.
DRAIN = 20.0
SOON = 8.0


class Streaming(App):
    """``/stream`` begins at once and ends when ``go`` is set; each other path is App's."""

    async def __call__(self, scope, receive, send) -> None:
        if scope["path"] != "/stream":
            await super().__call__(scope, receive, send)
            return
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        self.asked.set()
        await self.go.wait()
        await send({"type": "http.response.body", "body": b"b"})


@pytest.fixture
def service(tmp_path):
    @asynccontextmanager
    async def service(app: App | None = None) -> AsyncGenerator[Service, None]:
        async with (
            Pool(installation(tmp_path), NO_SPARES) as pool,
            serving(app or App(), pool, DRAIN) as running,
        ):
            yield running

    return service


def send(client: Client, data: bytes) -> None:
    client._writer.write(data)


async def half_sent(service: Service) -> None:
    """Until the server has begun to read a request."""
    connections = service.server.server_state.connections
    await until(lambda: any(each.conn.trailing_data[0] for each in connections))


async def told_to_stop(service: Service) -> float:
    """When it began to drain."""
    service.server.should_exit = True
    await service.stopping.wait()
    return asyncio.get_running_loop().time()


async def end_of(service: Service) -> float:
    async with asyncio.timeout(SOON):
        await asyncio.shield(service.task)
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("late", [0.1, 2.5])
@pytest.mark.parametrize("first", ["G", "GET /half HTTP/1.1\r\nhos", "GET /half HTTP/1.1\r\n"])
def test_a_request_that_is_half_there_when_it_begins_to_drain_is_answered(service, first, late):
    """``late``: in LINGERs."""

    async def work() -> None:
        async with service() as here:
            client = await here.connect()
            send(client, first.encode())
            await half_sent(here)
            await told_to_stop(here)
            rest = "GET /half HTTP/1.1\r\nhost: x\r\n\r\n".removeprefix(first)
            asyncio.get_running_loop().call_later(late * LINGER, send, client, rest.encode())
            head, body = await client.answer()
            assert (head[0], body, head.count(CLOSE)) == ("http/1.1 200 ok", "/half", 1)
            assert await client.is_closed()
            await end_of(here)

    run(work)


def test_a_kept_connection_whose_next_request_is_half_there_is_answered(service):
    async def work() -> None:
        async with service() as here:
            client = await here.connect()
            client.ask("/first")
            assert (await client.answer())[1] == "/first"
            send(client, b"GET /second HTTP/1.1\r\n")
            await half_sent(here)
            await told_to_stop(here)
            asyncio.get_running_loop().call_later(2 * LINGER, send, client, b"host: x\r\n\r\n")
            head, body = await client.answer()
            assert (body, head.count(CLOSE)) == ("/second", 1)
            assert await client.is_closed()

    run(work)


@pytest.mark.parametrize("late", [0, 0.4])
def test_after_a_stream_that_outlasts_its_begin_one_more_request_is_answered(service, late):
    """Its head has promised that the connection stays."""

    async def work() -> None:
        app = Streaming()
        async with service(app) as here:
            loop = asyncio.get_running_loop()
            client = await here.connect()
            client.ask("/stream")
            await app.asked.wait()
            await told_to_stop(here)
            loop.call_later(2 * LINGER, app.go.set)
            head, body = await client.answer()
            assert (body, CLOSE in head) == ("ab", False)
            loop.call_later(late * LINGER, client.ask, "/more")
            head, body = await client.answer()
            assert (body, head.count(CLOSE)) == ("/more", 1)
            assert await client.is_closed()
            await end_of(here)

    run(work)


def test_after_a_stream_a_connection_that_stays_silent_is_closed(service):
    async def work() -> None:
        app = Streaming()
        async with service(app) as here:
            client = await here.connect()
            client.ask("/stream")
            await app.asked.wait()
            await told_to_stop(here)
            app.go.set()
            ended = asyncio.get_running_loop().time()
            assert (await client.answer())[1] == "ab"
            assert await client.is_closed()
            assert await end_of(here) - ended >= LINGER

    run(work)


def test_silent_connections_are_closed(service):
    """One that never asked, and one that has its answer."""

    async def work() -> None:
        async with service() as here:
            fresh, kept = [await here.connect() for _ in range(2)]
            kept.ask()
            await kept.answer()
            await until(lambda: len(here.server.server_state.connections) == 2)
            assert all(each.is_quiet for each in here.server.server_state.connections)
            began = await told_to_stop(here)
            assert await fresh.is_closed()
            assert await kept.is_closed()
            assert LINGER <= await end_of(here) - began < SOON

    run(work)


def test_without_connections_the_end_comes_at_once(service):
    async def work() -> None:
        async with service() as here:
            began = await told_to_stop(here)
            assert await end_of(here) - began < LINGER

    run(work)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n"])
def test_whoever_is_told_to_stop_at_once_lingers_no_more(service, monkeypatch, sent):
    monkeypatch.setattr(server, "LINGER", DRAIN)

    async def work() -> None:
        async with service() as here:
            client = await here.connect()
            send(client, sent)
            await until(lambda: here.server.server_state.connections)
            if sent:
                await half_sent(here)
            await told_to_stop(here)
            here.server.force_exit = True
            await end_of(here)
            assert await client.is_closed()

    run(work)


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nhost: x"])
def test_half_a_request_that_stays_one_is_not_waited_for_long(service, monkeypatch, sent):
    """Whoever connects meanwhile would wait as well."""
    monkeypatch.setattr(server, "HALF_SENT", 0.6)

    async def work() -> None:
        app = Streaming()
        async with service(app) as here:
            client, running = await here.connect(), await here.connect()
            send(client, sent)
            await half_sent(here)
            running.ask("/stream")
            await app.asked.wait()
            began = await told_to_stop(here)
            asyncio.get_running_loop().call_later(1.5, app.go.set)
            assert (await running.answer())[1] == "ab"  # which has its time all the same
            assert await client.is_closed()
            assert 1.5 <= await end_of(here) - began < SOON

    run(work)


def test_half_a_request_is_one_that_is_served(service):
    """So that nothing ends for want of requests."""

    async def work() -> None:
        async with service() as here:
            client = await here.connect()
            await until(lambda: here.server.server_state.connections)
            assert not here.server.busy
            send(client, b"GET / HTTP/1.1\r\n")
            await half_sent(here)
            assert here.server.busy
            send(client, b"host: x\r\n\r\n")
            await client.answer()
            await until(lambda: not here.server.busy)

    run(work)


def test_half_a_request_that_stays_one_does_not_outlast_the_drain_time(service, monkeypatch):
    monkeypatch.setattr(server, "FAREWELL", 0.2)

    async def work() -> None:
        async with service() as here:
            here.server.drain_timeout = 0.1
            client = await here.connect()
            send(client, b"GET / HTTP/1.1\r\nhost")
            await half_sent(here)
            began = await told_to_stop(here)
            assert await client.is_closed()
            assert 0.3 <= await end_of(here) - began < SOON

    run(work)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize(
    "body",
    [b"content-length: 100\r\n\r\n", b"content-length: 100\r\n\r\n{", b"%s\r\n\r\n5\r\n{"],
    ids=["none", "half", "chunked"],
)
def test_a_body_that_never_comes_is_an_error_of_the_api_s_form(tmp_path, monkeypatch, path, body):
    monkeypatch.setattr(server, "FAREWELL", 0.2)

    async def work() -> None:
        async with Pool(installation(tmp_path), NO_SPARES) as pool:
            app = whole(NO_SPARES, pool)
            async with serving(app, pool, 0.1) as here:
                client = await here.connect()
                head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-x\r\n"
                send(client, head.encode() + body.replace(b"%s", b"transfer-encoding: chunked"))
                await until(lambda: here.server.busy)
                await told_to_stop(here)
                data = await asyncio.wait_for(client._reader.read(), SOON)
                await end_of(here)
        check_refused(data)

    run(work)


def check_refused(data: bytes) -> None:
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().lower().split("\r\n")
    assert status.startswith("http/1.1 503 ")
    assert lines.count(CLOSE) == 1
    assert lines.count("content-type: application/json") == 1
    assert any(line.startswith("x-request-id: req_") for line in lines)
    error = json.loads(body)["error"]  # which is all: nothing follows it
    assert (error["message"], error["code"]) == (NO_LONGER, "service_unavailable")
