"""Thousands of odd requests to a real daemon: each gets an answer that the description has.

More of them, by the numbers of the requests: ``FUZZ_REQUESTS=20000 .venv/bin/pytest
tests/integration/test_fuzz.py``, with ``FUZZ_FIRST=N`` from number N on. A failure tells its
number, so that ``FUZZ_REQUESTS=1 FUZZ_FIRST=N`` repeats it.
"""

from __future__ import annotations

import functools
import json
import os
import socket
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
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from tests import openai_types
from tests.fuzzing import Request, request
from tests.lab import Daemon

FAKE = str(Path(__file__).parents[1] / "fakes" / "claude-quick")
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "2500"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
CLIENTS = 4
PATIENCE = 30.0
NEVER = {500, 502, 503, 504}
PLANS_LIMIT = {"resets_at", "resets_in_seconds"}
EXTENSIONS = frozenset({"store", "presence_penalty", "frequency_penalty"})


@pytest.fixture(scope="module")
def quick():
    running = Daemon("--claude", FAKE, "--spares", "4", "--keep-alive", "0", "--log-level", "info")
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
        try:
            self._socket.sendall(asked.written())
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may answer, and close, before it has read everything
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
        if not asked.is_http and answer.headers["content-type"].startswith("text/plain"):
            return None if answer.status_code == 400 else "not refused"  # by the server itself
        if answer.status_code in NEVER or "x-request-id" not in answer.headers:
            return "broken"
        if asked.statuses is not None and answer.status_code not in asked.statuses:
            return f"expected {set(asked.statuses)}"
        if answer.status_code in (404, 405) and answer.json()["error"]["code"] in (
            *("unknown_url", "method_not_supported"),
        ):
            return error_problem(answer)
        operation = self._paths.get(asked.path, {}).get(asked.method.lower(), {"responses": {}})
        described = operation["responses"].get(str(answer.status_code))
        if asked.path and described is None:
            return "not a described status"
        if answer.status_code != 200:
            return error_problem(answer)
        return self._fine(asked, operation, described["content"], answer)

    def _fine(
        self, asked: Request, operation: Any, content: Any, answer: httpx.Response
    ) -> str | None:
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            if not self._valid(schema, json.loads(asked.body)):
                return "the description does not allow that request"
        media_type = answer.headers["content-type"].partition(";")[0]
        if media_type not in content:
            return "not a described media type"
        if media_type == "text/plain":
            return None
        if media_type == "text/event-stream":
            return self._events(asked, content[media_type]["x-event-schema"], answer)
        value = answer.json()
        if not self._valid(content[media_type]["schema"], value):
            return "the body is not as described"
        kind = {"chat.completion": ChatCompletion, "response": Response}.get(value.get("object"))
        if kind is None or "deleted" in value:
            return None
        if "tools" in value:
            value |= {"tools": [], "tool_choice": "auto"}  # they are what the client has sent
        return "; ".join(openai_types.problems(value, kind, extensions=EXTENSIONS)) or None

    def _events(self, asked: Request, schema: Any, answer: httpx.Response) -> str | None:
        frames = answer.content.decode().removesuffix("\n\n").split("\n\n")
        data = [frame.partition("data: ")[2] for frame in frames if not frame.startswith(":")]
        if asked.path == "/chat/completions":
            if data.pop() != "[DONE]":
                return "no end"
            for frame in data:
                ChatCompletionChunk.model_validate_json(frame, strict=True)
        events = [json.loads(frame) for frame in data]
        wrong = [event for event in events if not self._valid(schema, event) or "error" in event]
        return f"not described: {wrong}" if wrong else None

    def _valid(self, schema: Any, value: Any) -> bool:
        return self._validator(json.dumps(schema)).is_valid(value)

    @functools.cache  # noqa: B019 - it lives as long as the test
    def _validator(self, schema: str) -> jsonschema.Draft202012Validator:
        whole = {**json.loads(schema), "components": self._components}
        return jsonschema.Draft202012Validator(whole)


def error_problem(answer: httpx.Response) -> str | None:
    """Exactly what OpenAI's errors have."""
    if answer.headers["content-type"] != "application/json":
        return "not JSON"
    body = answer.json()
    if set(body) != {"error"} or set(body["error"]) != {"message", "type", "param", "code"}:
        return "not an error of OpenAI's"
    message = body["error"]["message"]
    return None if 0 < len(message) < 2_000 else "no good message"


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
