"""Thousands of odd requests to a real daemon: each gets an answer that the description has.

More of them, by the numbers of the requests: ``FUZZ_REQUESTS=20000 .venv/bin/pytest
tests/integration/test_fuzz.py``, with ``FUZZ_FIRST=N`` from number N on, with
``FUZZ_PATHS="/messages /completions"`` of these only. A failure tells its number, so that
``FUZZ_REQUESTS=1 FUZZ_FIRST=N`` repeats it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h11
import httpx
import jsonschema
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from pydantic import TypeAdapter

from tests import openai_types
from tests.fuzzing import Request, request
from tests.lab import Daemon

FAKE = Path(__file__).parents[1] / "fakes" / "claude-quick"
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "1500"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
CLIENTS = 4
PATIENCE = 30.0
NEVER = {500, 502, 503, 504, 529}
# Of what is no HTTP/1.1 that can be read; the connection itself refuses it.
OF_NO_REQUEST = {
    "invalid_http",
    "uri_too_long",
    "headers_too_large",
    "unsupported_transfer_encoding",
}
MESSAGE_EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
PING = '{"type":"ping"}'
EXTENSIONS = frozenset({"store", "presence_penalty", "frequency_penalty"})


@pytest.fixture(scope="module")
def cli(tmp_path_factory) -> str:
    """Run by this very Python: one on PATH may be a script that takes longer than all the rest."""
    _, _, program = FAKE.read_text().partition("\n")
    path = tmp_path_factory.mktemp("fake") / "claude"
    path.write_text(f"#!{sys.executable} -IS\n{program}")
    path.chmod(0o700)
    return str(path)


@pytest.fixture(scope="module")
def quick(cli):
    running = Daemon("--claude", cli, "--spares", "4", "--keep-alive", "0", "--log-level", "info")
    yield running
    running.close()


@pytest.fixture(scope="module")
def description(quick) -> dict[str, Any]:
    return quick.client.get("/v1/openapi.json").raise_for_status().json()


class Connection:
    """To the daemon, as raw as can be; it is opened anew when the daemon has closed it."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url).hostname, urlsplit(url).port
        self._socket: socket.socket | None = None

    def ask(self, asked: Request) -> httpx.Response:
        if self._socket is None:
            self._socket = socket.create_connection(self._place, PATIENCE)
        self._socket.settimeout(PATIENCE)
        # It may answer, and close, before it has read everything.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(asked.written())
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=asked.method.encode(), target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        answer, body = self._read(parser)
        closing = (b"connection", b"close") in answer.headers.raw_items() or not asked.is_http
        if closing or parser.their_state is not h11.DONE:
            self.close()
        headers = [(name.decode(), value.decode()) for name, value in answer.headers]
        return httpx.Response(answer.status_code, headers=headers, content=bytes(body))

    def _read(self, parser: h11.Connection) -> tuple[h11.Response, bytearray]:
        answer, body = None, bytearray()
        while True:
            event = parser.next_event()
            match event:
                case h11.NEED_DATA:
                    parser.receive_data(self._socket.recv(65_536))
                case h11.Response():
                    answer = event
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage():
                    return answer, body
                case h11.ConnectionClosed():
                    raise AssertionError("closed without an answer")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Judge:
    """Whether an answer is one that the description has."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._paths = description["paths"]
        self._components = description["components"]

    def problem(self, asked: Request, answer: httpx.Response) -> str | None:
        """None for a good answer."""
        if "x-request-id" not in answer.headers:
            of_no_request = any(f'"code":"{code}"' in answer.text for code in OF_NO_REQUEST)
            return openai_problem(answer) if of_no_request else "no id"
        if answer.status_code in NEVER:
            return "broken"
        if asked.statuses is not None and answer.status_code not in asked.statuses:
            return f"expected {set(asked.statuses)}"
        operation = self._paths.get(asked.path, {}).get(asked.method.lower(), {"responses": {}})
        told = operation["responses"].get(str(answer.status_code))
        if answer.status_code != 200:
            elsewhere = not asked.path or not asked.is_http
            return error_problem(asked, answer) if told or elsewhere else "not a described status"
        return "not described" if told is None else self._fine(asked, operation, answer)

    def _fine(self, asked: Request, operation: Any, answer: httpx.Response) -> str | None:
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            if not self._valid(schema, json.loads(asked.body)):
                return "the description does not allow that request"
        content = operation["responses"]["200"]["content"]
        media_type = answer.headers["content-type"].partition(";")[0]
        if media_type == "text/event-stream" and media_type in content:
            return self._events(asked, content[media_type]["x-event-schema"], answer)
        value = answer.json() if media_type == "application/json" else answer.text
        if media_type not in content or not self._valid(content[media_type]["schema"], value):
            return "the body is not as described"
        return foreign(value)

    def _events(self, asked: Request, schema: Any, answer: httpx.Response) -> str | None:
        frames = answer.content.decode().removesuffix("\n\n").split("\n\n")
        data = [frame.partition("data: ")[2] for frame in frames if not frame.startswith(":")]
        if asked.path.endswith("/completions") and data.pop() != "[DONE]":
            return "no end"
        if asked.path == "/chat/completions":
            for frame in data:
                ChatCompletionChunk.model_validate_json(frame, strict=True)
        if asked.path == "/messages":
            for frame in data:
                if frame != PING:  # which the SDK's types do not have
                    MESSAGE_EVENT.validate_json(frame)
        events = [json.loads(frame) for frame in data]
        wrong = [event for event in events if not self._valid(schema, event) or "error" in event]
        return f"not described: {wrong}" if wrong else None

    def _valid(self, schema: Any, value: Any) -> bool:
        return self._validator(json.dumps(schema)).is_valid(value)

    @functools.cache  # noqa: B019 - it lives as long as the test
    def _validator(self, schema: str) -> jsonschema.Draft202012Validator:
        whole = {**json.loads(schema), "components": self._components}
        return jsonschema.Draft202012Validator(whole)


def foreign(value: Any) -> str | None:
    """What OpenAI's own types, and Anthropic's, do not know."""
    kinds = {
        "chat.completion": ChatCompletion,
        "text_completion": Completion,
        "response": Response,
        "message": Message,
    }
    named = (value.get("object") or value.get("type")) if isinstance(value, dict) else None
    kind = kinds.get(named)
    if kind is None or "deleted" in value:
        return None
    if "tools" in value:
        value |= {"tools": [], "tool_choice": "auto"}  # they are what the client has sent
    return "; ".join(openai_types.problems(value, kind, extensions=EXTENSIONS)) or None


def error_problem(asked: Request, answer: httpx.Response) -> str | None:
    if answer.headers["content-type"] != "application/json":
        return "not JSON"
    path = asked.target.decode("latin-1").removeprefix("/v1").partition("?")[0]
    is_anthropics = path.startswith("/messages")
    return anthropic_problem(answer) if is_anthropics else openai_problem(answer)


def openai_problem(answer: httpx.Response) -> str | None:
    """Exactly what OpenAI's errors have."""
    body = answer.json()
    if set(body) != {"error"} or set(body["error"]) != {"message", "type", "param", "code"}:
        return "not an error of OpenAI's"
    return None if 0 < len(body["error"]["message"]) < 2_000 else "no good message"


def anthropic_problem(answer: httpx.Response) -> str | None:
    """Exactly what Anthropic's errors have."""
    body = answer.json()
    if set(body) != {"type", "error", "request_id"} or body["type"] != "error":
        return "not an error of Anthropic's"
    if body["request_id"] != answer.headers["request-id"]:
        return "another id"
    if set(body["error"]) - {"details"} != {"type", "message"}:
        return "not an error of Anthropic's"
    return None if 0 < len(body["error"]["message"]) < 2_000 else "no good message"


def test_whatever_is_sent_is_answered_as_described(quick, description):
    known = quick.respond("keep this").raise_for_status().json()["id"]
    judge = Judge(description)
    ours = threading.local()
    connections: list[Connection] = []
    told: Counter[int] = Counter()

    def one(number: int) -> str | None:
        asked = request(number, description, known)
        if not hasattr(ours, "connection"):
            ours.connection = Connection(quick.url)
            connections.append(ours.connection)
        try:
            answer = ours.connection.ask(asked)
            told[answer.status_code] += 1
            problem = judge.problem(asked, answer)
        except (OSError, h11.ProtocolError, AssertionError, ValueError, KeyError) as error:
            ours.connection.close()
            return (
                f"{number}: {error!r} {asked.method} {asked.target[:200]!r} {asked.body[:1_000]!r}"
            )
        if problem is None:
            return None
        asked_for = f"{asked.method} {asked.target[:200]!r} {asked.body[:1_000]!r}"
        return f"{number}: {problem}: {answer.status_code} {answer.text[:300]} of {asked_for}"

    with ThreadPoolExecutor(CLIENTS) as pool:
        wrong = [found for found in pool.map(one, range(FIRST, FIRST + REQUESTS)) if found]
    for connection in connections:
        connection.close()
    assert not wrong, "\n".join([f"{len(wrong)} of {REQUESTS}:", *wrong[:20]])
    assert not quick.log.records("request.crashed")
    assert sum(told.values()) == REQUESTS
    assert REQUESTS < 1_000 or {200, 400, 401, 404, 405, 415} <= set(told)
    print(f"\n{REQUESTS} requests: {dict(sorted(told.items()))}")  # noqa: T201 - with -s


LOCAL = ("http://{}/a.png", "HTTP://{}/a.png?x=1#y", "https://{}/a.png", "http://u:p@{}/")


def picture(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def test_addresses_are_passed_on_as_they_are_and_nothing_is_fetched(cli, tmp_path):
    """Also local ones: what lies there is for Anthropic to get, which it cannot."""
    heard = tmp_path / "heard"
    daemon = Daemon("--claude", cli, "--keep-alive", "0", env={"FAKE_CLAUDE_HEARD": str(heard)})
    with contextlib.closing(daemon), socket.create_server(("127.0.0.1", 0)) as server:
        urls = [url.format(f"127.0.0.1:{server.getsockname()[1]}") for url in LOCAL]
        assert daemon.chat([{"role": "user", "content": [*map(picture, urls)]}]).status_code == 200
        pictures = [{"type": "input_image", "image_url": url} for url in urls]
        files = [{"type": "input_file", "file_url": url} for url in urls]
        asked = daemon.respond([{"role": "user", "content": [*pictures, *files]}])
        assert asked.status_code == 200
        server.setblocking(False)  # noqa: FBT003 - the standard library's
        with pytest.raises(BlockingIOError):
            server.accept()
    told = [json.loads(line)["message"]["content"] for line in heard.read_text().splitlines()]
    sources = [[block["source"] for block in content if "source" in block] for content in told]
    expected = [{"type": "url", "url": url} for url in urls]
    assert sources == [expected, expected * 2]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "file:///etc/passwd",
            "FILE:///etc/passwd",
            "ftp://127.0.0.1/a.png",
            "javascript:alert(1)",
        ),
        *(
            "//127.0.0.1/a.png",
            "/etc/passwd",
            "unix:///run/x",
            " http://127.0.0.1/a.png",
            "http:/x",
        ),
        *("data:image/png;base64,%%%", "data:image/png;base64,A", "data:text/html;base64,PGI+"),
    ],
)
def test_other_addresses_are_refused(quick, url):
    chat = quick.chat([{"role": "user", "content": [picture(url)]}])
    response = quick.respond(
        [{"role": "user", "content": [{"type": "input_file", "file_url": url}]}]
    )
    for answer in (chat, response):
        assert answer.status_code == 400
        assert openai_problem(answer) is None
        assert answer.json()["error"]["param"]
