"""Whose dialect a request is in, and what of an error is Anthropic's: shape, status and headers."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.datastructures import Headers

from claude_proxy import errors
from claude_proxy.claude.pool import Pool
from claude_proxy.errors import ProxyError, anthropic_body, anthropic_status
from claude_proxy.http.exchange import is_anthropics
from claude_proxy.settings import Settings
from tests.unit.fake_cli import installation, run
from tests.unit.service import serving, whole

VERSION = {"anthropic-version": "2023-06-01"}
KEY = {"x-api-key": "sk-x"}
HELLO = {"model": "sonnet", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize("prefix", ["", "/v1"])
@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/messages", {}, True),
        ("/messages/count_tokens", {}, True),
        ("/messages/batches", {}, True),
        ("/messagesx", {}, False),
        ("/messagesx", VERSION, True),
        ("/models", {}, False),
        ("/models", VERSION, True),
        ("/models/opus", VERSION, True),
        ("/modelsx", {}, False),
        ("/modelsx", VERSION, True),
        ("/chat/completions", VERSION, False),
        ("/responses", VERSION, False),
    ],
)
def test_whose_dialect_it_is(prefix, path, headers, expected):
    assert is_anthropics(prefix + path, Headers(headers)) is expected


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.InvalidRequest("x"), 400, "invalid_request_error"),
        (errors.ContextLengthExceeded("x"), 400, "invalid_request_error"),
        (errors.InvalidApiKey("x"), 401, "authentication_error"),
        (errors.NotLoggedIn("x"), 401, "authentication_error"),
        (errors.PermissionDenied("x"), 403, "permission_error"),
        (errors.ModelNotFound("x"), 404, "not_found_error"),
        (errors.MethodNotAllowed("x"), 405, "invalid_request_error"),
        (errors.RequestTimeout("x"), 408, "invalid_request_error"),
        (errors.RequestTooLarge("x"), 413, "request_too_large"),
        (errors.UnsupportedMediaType("x"), 415, "invalid_request_error"),
        (errors.RateLimited("x"), 429, "rate_limit_error"),
        (errors.UsageLimitReached("x", retry_after=9), 429, "rate_limit_error"),
        (errors.InsufficientQuota("x"), 402, "billing_error"),
        (errors.InsufficientQuota("x", retry_after=9), 429, "rate_limit_error"),
        (ProxyError("x"), 500, "api_error"),
        (errors.BadUpstream("x"), 502, "api_error"),
        (errors.Overloaded("x"), 529, "overloaded_error"),
        (errors.ShuttingDown("x"), 503, "api_error"),
        (errors.UpstreamTimeout("x"), 504, "timeout_error"),
    ],
)
def test_statuses_and_types_are_anthropics(error, status, kind):
    assert anthropic_status(error) == status
    body = json.loads(anthropic_body(error, "req_1"))
    told = {"type": kind, "message": "x"}
    assert body == {"type": "error", "error": told, "request_id": "req_1"}


@pytest.mark.parametrize(
    ("param", "message", "told"),
    [
        (None, "x", "x"),
        ("messages[0].content[12].type", "x", "messages.0.content.12.type: x"),
        ("model", "model: x", "model: x"),
        ("tools[1]", "tools[1]: x", "tools.1: x"),
    ],
)
def test_the_place_stands_in_the_message_once(param, message, told):
    error = errors.InvalidRequest(message, param=param)
    assert json.loads(anthropic_body(error, "r"))["error"]["message"] == told


def test_an_sdk_is_told_in_its_words_that_no_conversation_is_held_for_it():
    body = json.loads(anthropic_body(errors.ThreadUnsupported("x", param="thread"), "req_1"))
    assert body["error"]["details"] == {"error_code": "thread_unsupported_request"}


@asynccontextmanager
async def service(place, **settings) -> AsyncGenerator[httpx.AsyncClient, None]:
    given = Settings(spares=0, **settings)
    async with (
        Pool(installation(place), given) as pool,
        serving(whole(given, pool), pool) as running,
    ):
        url = "http://{}:{}".format(*running.listener.getsockname()[:2])
        async with httpx.AsyncClient(base_url=url, headers=KEY) as client:
            yield client


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and type of an error that has all that Anthropic's have."""
    body = answer.json()
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message"}
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    assert not [name for name in answer.headers if name.startswith("openai-")]
    return answer.status_code, body["error"]["type"]


def test_refusals_on_every_floor_are_anthropics(tmp_path):
    async def work() -> None:
        async with service(tmp_path, max_body_size=1_000, rate=1) as client:
            text, origin = {"content-type": "text/plain"}, {"origin": "https://evil.example"}
            wrong = [
                (401, {"headers": {"x-api-key": "sk-wrong"}}),
                (403, {"headers": origin}),
                (413, {"json": HELLO | {"system": "x" * 1_000}}),
                (415, {"content": b"{}", "headers": text}),
                (400, {"json": HELLO | {"max_tokens": 0}}),
                (404, {"json": HELLO | {"model": "nothing"}}),
            ]
            for path in ("/v1/messages/count_tokens", "/messages/count_tokens"):
                for status, request in wrong:
                    if status != 400:  # which asks for no number of tokens
                        assert problem(await client.post(path, **request))[0] == status
            assert problem(await client.put("/v1/messages")) == (405, "invalid_request_error")
            assert problem(await client.get("/v1/messages/batches")) == (404, "not_found_error")
            assert problem(await client.get("/v1/models/nothing", headers=VERSION))[0] == 404
            assert problem(await client.get("/v1/models?limit=0", headers=VERSION))[0] == 400
            one = await client.post("/v1/messages", json=HELLO | {"max_tokens": 0})
            assert problem(one) == (400, "invalid_request_error")
            limited = await client.post("/v1/messages", json=HELLO)
            assert problem(limited) == (429, "rate_limit_error")
            assert int(limited.headers["retry-after"]) > 0

    run(work)


def test_an_answer_has_an_id_and_no_headers_of_openais(tmp_path):
    async def work() -> None:
        async with service(tmp_path) as client:
            given = VERSION | {"x-request-id": "mine-1"}
            answer = await client.post("/v1/messages", json=HELLO, headers=given)
            assert answer.status_code == 200, answer.text
            assert answer.headers["request-id"] == "mine-1"
            assert not [name for name in answer.headers if name.startswith("openai-")]
            assert answer.json()["content"] == [{"type": "text", "text": "hello"}]

    run(work)


def test_models_are_in_the_dialect_of_whoever_asks(tmp_path):
    async def work() -> None:
        async with service(tmp_path) as client:
            ours = (await client.get("/v1/models")).json()
            theirs = (await client.get("/v1/models?limit=2", headers=VERSION)).json()
            assert ours["object"] == "list"
            assert theirs["has_more"] is True
            assert [one["id"] for one in theirs["data"]] == [one["id"] for one in ours["data"]][:2]
            one = (await client.get("/v1/models/opus", headers=VERSION)).json()
            assert (one["id"], one["type"]) == ("opus", "model")

    run(work)
