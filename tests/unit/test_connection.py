"""A connection and whoever is at its other end: real sockets, whatever is sent through them."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import structlog

from claude_proxy.claude.pool import Pool
from claude_proxy.errors import NO_LONGER
from claude_proxy.http import body, connection, lingering, server
from claude_proxy.http.connection import PATIENCE, Stage
from claude_proxy.http.parser import HEAD_SIZE, MOST_HEADERS
from claude_proxy.settings import Settings
from tests.unit.fake_cli import installation, run, until
from tests.unit.service import GET, App, Client, Service, serving, whole

SETTINGS = Settings(allow_host=("x",), spares=0, max_body_size=100_000)
KEY = b"authorization: Bearer sk-x\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + KEY
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
SOON = 8.0


class Varied(App):
    """``/deaf`` answers without reading, ``/read`` with the size of what it has read, ``/long``
    with more than all buffers hold, ``/stream`` begins at once and ends when ``go`` is set; each
    other path is App's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gone = asyncio.Event()

    async def __call__(self, scope, receive, send) -> None:
        if scope["path"] == "/deaf":
            await self._answer(send, [b"deaf"], [(b"connection", b"close")])
        elif scope["path"] == "/read":
            if (size := await self._read(receive)) is not None:
                await self._answer(send, [str(size).encode()])
        elif scope["path"] == "/long":
            await self._answer(send, [bytes(1 << 25)])
        elif scope["path"] == "/stream":
            await self._stream(receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _answer(self, send, parts, headers=()) -> None:
        length = str(sum(map(len, parts))).encode()
        named = [(b"content-length", length), *headers]
        await send({"type": "http.response.start", "status": 200, "headers": named})
        for part in parts:
            await send({"type": "http.response.body", "body": part})

    async def _read(self, receive) -> int | None:
        self.asked.set()
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.set()
                return None
            size, more = size + len(message["body"]), message["more_body"]
        return size

    async def _stream(self, receive, send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": []}
        await send(head)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        self.asked.set()
        ending = asyncio.create_task(self.go.wait())
        while not ending.done():
            receiving = asyncio.create_task(receive())
            await asyncio.wait({ending, receiving}, timeout=0.02, return_when="FIRST_COMPLETED")
            if receiving.done() and receiving.result()["type"] == "http.disconnect":
                self.gone.set()
                ending.cancel()
                return
            receiving.cancel()
        await send({"type": "http.response.body", "body": b"b"})


@pytest.fixture
def service(tmp_path):
    """A server with that application; by default all of ours, whose key is ``sk-x``."""

    @asynccontextmanager
    async def service(app: App | None = None, drain: float = 20.0) -> AsyncGenerator[Service, None]:
        async with Pool(installation(tmp_path), SETTINGS) as pool:
            ours = whole(SETTINGS, pool)
            async with serving(app or ours, pool, drain) as running:
                yield running

    return service


def impatient(monkeypatch, **seconds: float) -> None:
    for name, limit in seconds.items():
        monkeypatch.setitem(PATIENCE, Stage[name], limit)


async def tell(service: Service, data: bytes) -> Client:
    client = await service.connect()
    client._writer.write(data)
    return client


async def all_of(client: Client) -> bytes:
    """To the connection's end, which must be no reset."""
    return await asyncio.wait_for(client._reader.read(), SOON)


async def told(service: Service, data: bytes) -> bytes:
    client = await tell(service, data)
    try:
        return await all_of(client)
    finally:
        await client.close()


def connections(service: Service) -> int:
    return len(service.server.server_state.connections)


def parts(data: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, content = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().lower().split("\r\n")
    assert status.startswith("http/1.1 ")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), content


def refused(data: bytes) -> tuple[int, dict[str, str]]:
    """Status and error of an answer that is OpenAI's and its connection's last one."""
    status, headers, content = parts(data)
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(content))
    assert headers["connection"] == "close"
    error = json.loads(content)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return status, error


def with_header(*lines: bytes) -> bytes:
    return b"\r\n".join([b"GET /health HTTP/1.1", b"Host: x", *lines, b"", b""])


INVALID = (400, "invalid_http")
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(1, 33))
SECRET = b"sk-ant-secret"
REFUSED = {
    "no HTTP": (b"hello\r\n\r\n", INVALID, "illegal request line"),
    "control characters": (b"\x00\x01\x02", INVALID, "illegal request line"),
    "TLS": (HELLO, INVALID, "http, not https"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505, "unsupported_http_version"), "HTTP/1.1"),
    "HTTP/3.0": (b"GET / HTTP/3.0\r\nhost: x\r\n\r\n", (505, "unsupported_http_version"), ""),
    "HTTP/0.9": (b"GET /\r\n\r\n", INVALID, "illegal request line"),
    "HTTP/1.12": (b"GET / HTTP/1.12\r\nhost: x\r\n\r\n", INVALID, "illegal request line"),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", INVALID, "Host"),
    "two Hosts": (with_header(b"host: y"), INVALID, "Host"),
    "no path": (b"GET health HTTP/1.1\r\nhost: x\r\n\r\n", INVALID, "no path"),
    "raw bytes in the path": (b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n", INVALID, "request line"),
    "a folded header": (with_header(b"x: a", b" b"), INVALID, "next line"),
    "a folded first header": (b"GET / HTTP/1.1\r\n x: a\r\n\r\n", INVALID, "continuation"),
    "bare LF": (b"GET / HTTP/1.1\nhost: x\n\n", INVALID, "CR LF"),
    "one bare LF": (with_header(b"a: b\nc: d"), INVALID, "CR LF"),
    "bare CR": (with_header(b"a: b\rc: d"), INVALID, "illegal header line"),
    "NUL": (with_header(b"a: b\0c"), INVALID, "illegal header line"),
    "no colon": (with_header(b"authorization " + SECRET), INVALID, "illegal header line"),
    "blank before the colon": (with_header(b"x : y"), INVALID, "illegal header line"),
    "no number": (with_header(b"content-length: ten"), INVALID, "bad Content-Length"),
    "a sign": (with_header(b"content-length: +1"), INVALID, "bad Content-Length"),
    "negative": (with_header(b"content-length: -1"), INVALID, "bad Content-Length"),
    "endless digits": (with_header(b"content-length: " + b"9" * 21), INVALID, "Content-Length"),
    "two lengths": (with_header(*[b"Content-Length: 1"] * 2), INVALID, "more than one"),
    "two in one": (with_header(b"Content-Length: 1, 1"), INVALID, "more than one"),
    "other lengths": (
        with_header(b"content-length: 1", b"content-length: 2"),
        INVALID,
        "conflicting",
    ),
    "both": (
        with_header(b"content-length: 3", b"transfer-encoding: chunked"),
        INVALID,
        "both Content-Length and Transfer-Encoding",
    ),
    "gzip": (
        with_header(b"transfer-encoding: gzip, chunked"),
        (501, "unsupported_transfer_encoding"),
        "chunked",
    ),
    "chunked twice": (
        with_header(*[b"transfer-encoding: chunked"] * 2),
        (501, "unsupported_transfer_encoding"),
        "chunked",
    ),
    "chunked in HTTP/1.0": (b"POST / HTTP/1.0\r\n" + CHUNKED, INVALID, "HTTP/1.0"),
    "many headers": (
        with_header(*[b"x: y"] * MOST_HEADERS),
        (431, "headers_too_large"),
        str(MOST_HEADERS),
    ),
    "a large header": (
        with_header(b"x: " + bytes(HEAD_SIZE).replace(b"\0", b"y")),
        (431, "headers_too_large"),
        str(HEAD_SIZE),
    ),
    "headers without end": (
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000,
        (431, "headers_too_large"),
        "headers",
    ),
    "a huge URL": (
        b"GET /" + b"x" * HEAD_SIZE + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        (414, "uri_too_long"),
        "URL",
    ),
    "an endless URL": (b"GET /" + b"x" * 300_000, (414, "uri_too_long"), "URL"),
}


def test_what_is_no_request_is_answered_in_json_and_seen_off(service, caplog):
    async def work() -> None:
        async with service() as here:
            for name, (data, expected, message) in REFUSED.items():
                with structlog.testing.capture_logs() as logs:
                    answer = await told(here, data)
                status, error = refused(answer)
                assert (status, error["code"]) == expected, name
                assert message in error["message"], name
                assert SECRET not in answer, name
                lines = [line for line in logs if line["event"] == "connection.refused"]
                assert [line["status"] for line in lines] == [status], name
                assert {line["log_level"] for line in lines} == {"debug"}
                assert "secret" not in str(logs)

    with caplog.at_level(logging.WARNING):
        run(work)
    assert caplog.records == []


def test_who_is_refused_in_mid_sending_can_read_why(service):
    """Without a reset, though more comes than anybody reads."""

    async def work() -> None:
        async with service() as here:
            client = await tell(here, with_header(b"no header") + bytes(1 << 24))
            assert refused(await all_of(client))[0] == 400

    run(work)


def test_who_was_refused_and_stays_is_left_after_a_while(service, monkeypatch):
    monkeypatch.setattr(lingering, "LINGER", 0.05)

    async def work() -> None:
        async with service() as here:
            client = await tell(here, b"hello\r\n\r\n")
            await until(lambda: connections(here) == 1)
            await until(lambda: connections(here) == 0)
            assert refused(await all_of(client))[0] == 400

    run(work)


CORRECT = {
    "HTTP/1.0": (b"GET /health HTTP/1.0\r\n\r\n", 200, b"ok"),
    "absolute": (b"GET http://x:1/health HTTP/1.1\r\nhost: x\r\n", 200, b"ok"),
    "absolute, capitals": (b"GET HTTPS://X/v1/health?a=b HTTP/1.1\r\nhost: x\r\n", 200, b"ok"),
    "absolute, no path": (b"GET http://x HTTP/1.1\r\nhost: x\r\n", 200, b"http://x/v1"),
    "absolute, a query": (b"GET http://x?/health HTTP/1.1\r\nhost: x\r\n", 200, b"http://x/v1"),
    "HEAD": (b"HEAD /health HTTP/1.1\r\nhost: x\r\n", 200, b""),
    "OPTIONS": (b"OPTIONS /health HTTP/1.1\r\nhost: x\r\n", 405, b"OPTIONS is not possible"),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n" + KEY, 404, b"unknown_url"),
    "TRACE": (b"TRACE /health HTTP/1.1\r\nhost: x\r\n", 405, b"TRACE is not possible"),
    "CONNECT": (b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n" + KEY, 404, b"unknown_url"),
    "unknown": (b"BREW /health HTTP/1.1\r\nhost: x\r\n", 405, b"method_not_supported"),
    "NUL": (b"GET /v1/responses/%00 HTTP/1.1\r\nhost: x\r\n" + KEY, 404, b"not found"),
    "NUL, elsewhere": (b"GET /%00 HTTP/1.1\r\nhost: x\r\n" + KEY, 404, b"unknown_url"),
    "no UTF-8": (b"GET /%ff%fe HTTP/1.1\r\nhost: x\r\n" + KEY, 404, b"unknown_url"),
    "//": (b"GET //health HTTP/1.1\r\nhost: x\r\n" + KEY, 404, b"unknown_url"),
    "..": (b"GET /v1/../health HTTP/1.1\r\nhost: x\r\n" + KEY, 404, b"unknown_url"),
    "empty lines before": (b"\r\n\r\nGET /health HTTP/1.1\r\nhost: x\r\n", 200, b"ok"),
    "compressed": (POST + b"content-encoding: gzip\r\ncontent-length: 2\r\n", 415, b"compressed"),
    "too large": (POST + b"content-length: 100001\r\n", 413, b"request_too_large"),
    "far too large": (POST + b"content-length: 99999999999999999999\r\n", 413, b"too_large"),
}


def test_what_is_unusual_but_correct_is_answered(service, caplog):
    async def work() -> None:
        async with service() as here:
            for name, (data, status, content) in CORRECT.items():
                whole = data if data.endswith(b"\r\n\r\n") else data + b"connection: close\r\n\r\n"
                answer = parts(await told(here, whole))
                assert answer[0] == status, name
                assert content in answer[2], name
                assert bool(answer[2]) is (name != "HEAD")
                if status >= 400:
                    error = json.loads(answer[2])["error"]
                    assert set(error) == {"message", "type", "param", "code"}, name

    with caplog.at_level(logging.WARNING):
        run(work)
    assert caplog.records == []


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_another_protocol_that_is_offered_is_not_taken_up(service, caplog, protocol):
    async def work() -> None:
        async with service() as here:
            offer = b"connection: upgrade\r\nupgrade: " + protocol + b"\r\n\r\n"
            client = await tell(here, b"GET /health HTTP/1.1\r\nhost: x\r\n" + offer)
            for _ in range(2):
                head, content = await client.answer()
                assert (head[0], content) == ("http/1.1 200 ok", "ok")
                client.ask("/health")

    with caplog.at_level(logging.WARNING):
        run(work)
    assert caplog.records == []


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(service):
    async def work() -> None:
        async with service(Varied()) as here:
            head = (
                b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nexpect: 100-continue\r\n"
            )
            client = await tell(here, head + b"\r\n")
            assert await client._reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client._writer.write(b"hello")
            assert (await client.answer())[1] == "5"

    run(work)


def test_a_client_that_would_be_refused_gets_no_leave(service):
    async def work() -> None:
        async with service() as here:
            data = POST + b"content-length: 100001\r\nexpect: 100-continue\r\n\r\n"
            assert parts(await told(here, data))[0] == 413

    run(work)


def test_requests_in_a_row_are_answered_in_their_order(service):
    async def work() -> None:
        app = Varied()
        async with service(app) as here:
            bodies = b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
            client = await tell(here, GET.replace(b"/", b"/wait", 1) + GET + bodies)
            await app.asked.wait()
            client._writer.write(GET.replace(b"/", b"/last", 1))
            app.go.set()
            answers = [(await client.answer())[1] for _ in range(4)]
            assert answers == ["/wait", "/", "3", "/last"]

    run(work)


def test_what_comes_behind_a_last_request_is_no_matter(service):
    """As some send an empty line behind a body, or more than they have announced."""

    async def work() -> None:
        app = Varied()
        async with service(app) as here:
            client = await tell(here, b"POST /wait HTTP/1.0\r\ncontent-length: 1\r\n\r\na")
            await app.asked.wait()
            client._writer.write(b"\r\nand so on")
            assert await told(here, LAST)  # by when that has been read
            app.go.set()
            assert parts(await all_of(client))[2] == b"/wait"

    run(work)


def test_who_says_nothing_is_closed_without_a_word(service, monkeypatch):
    impatient(monkeypatch, SILENT=0.1)

    async def work() -> None:
        async with service() as here:
            assert await told(here, b"") == b""
            assert await told(here, b"\r\n\r\n") == b""
            await until(lambda: connections(here) == 0)

    run(work)


@pytest.mark.parametrize("first", ["", "/health"])
def test_a_head_that_does_not_come_to_its_end_is_a_timeout(service, monkeypatch, first):
    """Also that of a next request, also when it comes byte by byte."""
    impatient(monkeypatch, HEAD=0.3)

    async def work() -> None:
        async with service() as here:
            client = await here.connect()
            if first:
                client.ask(first)
                await client.answer()
            loop = asyncio.get_running_loop()
            client._writer.write(b"G")
            for number, character in enumerate(b"ET /health HTTP/1.1"):
                loop.call_later(0.02 * number, client._writer.write, bytes([character]))
            status, error = refused(await all_of(client))
            assert (status, error["code"]) == (408, "request_timeout")
            assert "0.3 s" in error["message"]

    run(work)


def test_a_half_request_behind_another_has_its_time_from_that_one_s_answer(service, monkeypatch):
    impatient(monkeypatch, HEAD=0.2)
    monkeypatch.setattr(server, "KEEP_ALIVE", 0.05)  # which is that of whoever sends nothing

    async def work() -> None:
        app = Varied()
        async with service(app) as here:
            client = await tell(here, GET.replace(b"/", b"/wait", 1) + b"GET / HT")
            await app.asked.wait()
            asyncio.get_running_loop().call_later(0.4, app.go.set)
            assert (await client.answer())[1] == "/wait"
            assert refused(await all_of(client))[0] == 408

    run(work)


def test_a_connection_that_is_kept_is_closed_when_nothing_comes(service, monkeypatch):
    monkeypatch.setattr(server, "KEEP_ALIVE", 0.1)

    async def work() -> None:
        async with service() as here:
            client = await here.connect()
            client.ask("/health")
            assert (await client.answer())[1] == "ok"
            assert await client.is_closed()

    run(work)


def test_what_is_left_of_an_answered_request_is_read_for_a_while_only(service, monkeypatch):
    impatient(monkeypatch, REST=0.3)

    async def work() -> None:
        async with service(Varied()) as here:
            whole, half = [
                await tell(here, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\na")
                for _ in range(2)
            ]
            for client in (whole, half):
                assert (await client.answer())[1] == "/"
            whole._writer.write(b"bcd" + GET)
            assert (await whole.answer())[1] == "/"
            half._writer.write(b"b")
            assert await half.is_closed()

    run(work)


def test_an_answer_before_the_body_s_end_is_no_reset(service):
    """As httpx, and most others, read it: when they have sent everything."""

    async def work() -> None:
        async with service(Varied()) as here:
            size = 1 << 24
            head = b"POST /deaf HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size
            client = await tell(here, head)
            client._writer.write(bytes(size))
            await asyncio.wait_for(client._writer.drain(), SOON)
            assert parts(await all_of(client))[2] == b"deaf"

    run(work)


def test_who_does_not_take_its_answer_is_left(service, monkeypatch):
    monkeypatch.setattr(lingering, "TAKEN", 0.1)
    monkeypatch.setattr(server, "KEEP_ALIVE", 0.05)

    async def work() -> None:
        async with service(Varied()) as here:
            with socket.create_connection(here.listener.getsockname()) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                client.sendall(b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n")
                await until(lambda: connections(here) == 1)
                await until(lambda: connections(here) == 0)

    run(work)


BROKEN = {
    "no chunk": (b"hello\r\n", (400, "invalid_http")),
    "no end of a chunk": (b"1\r\nab", (400, "invalid_http")),
    "one extension": (b"1;" + b"x" * 70_000, (413, "request_too_large")),
    "extensions": ((b"1;" + b"x" * 1_000 + b"\r\na\r\n") * 100, (413, "request_too_large")),
    "trailers": (b"0\r\n" + b"x: y\r\n" * 20_000, (413, "request_too_large")),
    "a single byte each": (b"1\r\na\r\n" * 30_000, (413, "request_too_large")),
}


def test_a_body_whose_chunks_are_broken_or_nearly_all_framing_is_refused(service, caplog):
    async def work() -> None:
        app = Varied()
        async with service(app) as here:
            for name, (data, expected) in BROKEN.items():
                app.asked.clear()
                app.gone.clear()
                client = await tell(here, b"POST /read HTTP/1.1\r\nhost: x\r\n" + CHUNKED)
                await app.asked.wait()
                client._writer.write(data)
                status, error = refused(await all_of(client))
                assert (status, error["code"]) == expected, name
                await app.gone.wait()

    with caplog.at_level(logging.WARNING):
        run(work)
    assert caplog.records == []


def test_chunks_of_any_size_are_a_body_as_any_other(service):
    async def work() -> None:
        async with service(Varied()) as here:
            client = await tell(here, b"POST /read HTTP/1.1\r\nhost: x\r\n" + CHUNKED)
            client._writer.write(b"1\r\na\r\n" * 10_000)
            client._writer.write(b"10000;a=b\r\n" + bytes(65_536) + b"\r\n" * 1)
            client._writer.write(b"0\r\ntrailer: x\r\n\r\n")
            assert (await client.answer())[1] == "75536"

    run(work)


def test_a_body_is_counted_while_it_is_read(service):
    async def work() -> None:
        async with service() as here:
            client = await tell(here, POST + CHUNKED)
            client._writer.write(b"10000\r\n" + bytes(65_536) + b"\r\n")
            client._writer.write(b"10000\r\n" + bytes(65_536) + b"\r\n")
            status, error = refused(await all_of(client))
            assert (status, error["code"]) == (413, "request_too_large")

    run(work)


def test_a_body_that_does_not_come_is_a_timeout(service, monkeypatch):
    monkeypatch.setattr(body, "BODY_TIMEOUT", 0.1)

    async def work() -> None:
        async with service() as here:
            status, error = refused(await told(here, POST + b"content-length: 2\r\n\r\n{"))
            assert (status, error["code"]) == (408, "request_timeout")

    run(work)


@pytest.mark.parametrize("late", [False, True])
def test_a_body_that_does_not_come_keeps_the_end_waiting_for_a_moment_only(
    service, monkeypatch, late
):
    """``late``: it begins to come when the end has begun already."""
    monkeypatch.setattr(server, "HALF_SENT", 0.3)

    async def work() -> None:
        async with service() as here:
            head = POST + b"content-length: 2\r\n"
            client = await tell(here, head if late else head + b"\r\n{")
            await until(lambda: here.server.busy)
            here.server.should_exit = True
            await here.stopping.wait()
            if late:
                client._writer.write(b"\r\n{")
            status, error = refused(await all_of(client))
            assert (status, error["code"]) == (503, "service_unavailable")
            assert error["message"] == NO_LONGER
            await asyncio.wait_for(asyncio.shield(here.task), SOON)

    run(work)


def test_a_body_that_comes_in_a_hurry_is_taken(service):
    async def work() -> None:
        async with service() as here:
            client = await tell(here, POST + b"content-length: 2\r\n\r\n{")
            await until(lambda: here.server.server_state.tasks)
            here.server.should_exit = True
            await here.stopping.wait()
            client._writer.write(b"}")
            assert refused(await all_of(client))[0] == 400  # for it has no messages

    run(work)


def test_who_pours_while_it_is_answered_is_left(service):
    async def work() -> None:
        app = Varied()
        async with service(app) as here:
            client = await tell(here, b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
            await app.asked.wait()
            client._writer.write(bytes(1 << 24))
            await asyncio.wait_for(app.gone.wait(), SOON)
            await until(lambda: connections(here) == 0)

    run(work)


async def several(service: Service, count: int, path: str = "") -> list[Client]:
    """One after the other, as the server sees them too."""
    clients: list[Client] = []
    for _ in range(count):
        before = connections(service)
        clients.append(await service.connect())
        await until(lambda before=before: connections(service) == before + 1)
        if path:
            clients[-1].ask(path)
    return clients


async def full(client: Client) -> bool:
    status, headers, content = parts(await all_of(client))
    assert headers["retry-after"] == "5"
    return (status, json.loads(content)["error"]["code"]) == (503, "overloaded")


def test_who_comes_when_all_places_are_taken_hears_so(service):
    async def work() -> None:
        app = Varied()
        async with service(app) as here:
            here.server.limit_connections(3)
            taken = await several(here, 3, "/wait")
            await until(lambda: len(here.server.server_state.tasks) == 3)
            late = [await tell(here, GET) for _ in range(5)]
            with structlog.testing.capture_logs() as logs:
                assert [await full(client) for client in late] == [True] * 5
            assert len([one for one in logs if one["event"] == "connections.full"]) <= 1
            app.go.set()
            for client in taken:
                assert (await client.answer())[1] == "/wait"
                await client.close()
            await until(lambda: connections(here) == 0)
            assert parts(await told(here, LAST))[0] == 200

    run(work)


def test_the_one_that_has_been_silent_longest_makes_room(service, monkeypatch):
    monkeypatch.setattr(connection, "SILENT_ENOUGH", 0.0)

    async def work() -> None:
        async with service(Varied()) as here:
            here.server.limit_connections(4)
            (kept,) = await several(here, 1)
            kept.ask("/kept")
            await kept.answer()
            silent = await several(here, 3)
            silent[0]._writer.write(b"GET / HT")
            for position in range(3):
                client = await here.connect()
                client.ask("/new")
                assert (await client.answer())[1] == "/new"
                assert await full(silent[position])
            assert await full(await here.connect())  # all of them have asked for something
            kept.ask("/again")
            assert (await kept.answer())[1] == "/again"

    run(work)


def test_a_connection_that_has_only_just_come_makes_no_room(service):
    async def work() -> None:
        async with service(Varied()) as here:
            here.server.limit_connections(1)
            (fresh,) = await several(here, 1)
            assert await full(await here.connect())
            fresh.ask("/first")
            assert (await fresh.answer())[1] == "/first"

    run(work)


def test_few_are_seen_off_at_the_same_time(service, monkeypatch):
    """Those that are refused must not take the descriptors that they were refused for."""
    monkeypatch.setattr(connection, "MOST_LEAVING", 2)
    monkeypatch.setattr(lingering, "LINGER", SOON)

    async def work() -> None:
        async with service(Varied()) as here:
            here.server.limit_connections(1)
            await several(here, 1, "/wait")
            refusals = [await here.connect() for _ in range(10)]
            for client in refusals:
                assert await full(client)
            await until(lambda: connections(here) == 3)

    run(work)


@pytest.mark.parametrize(
    "data", [b"", b"GET", GET, b"x\r\n\r\n", b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n"]
)
def test_a_reset_leaves_nothing_behind(service, caplog, data):
    async def work() -> None:
        async with service(Varied()) as here:
            for _ in range(20):
                client = await tell(here, data)
                client._writer.transport.abort()
            await until(lambda: connections(here) == 0 and not here.server.server_state.tasks)

    with caplog.at_level(logging.WARNING):
        run(work)
    assert caplog.records == []
