"""The OpenAPI description: whole, and true of the routes that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from claude_proxy import app, errors
from claude_proxy.description import document
from claude_proxy.errors import ProxyError
from claude_proxy.measures import Measures
from claude_proxy.operation import ERRORS

DOCUMENT = json.loads(document())
SCHEMAS = DOCUMENT["components"]["schemas"]
ANTHROPICS_OWN = {402, 529}
METHODS = {"get", "post", "put", "patch", "delete"}


def routes() -> Iterator[tuple[str, str]]:
    """Of the application itself, as the description names them."""
    front: Any = app.build(None, None, None, None, Measures())
    inner = front._app
    assert isinstance(inner, Starlette)
    for route in inner.routes:
        assert isinstance(route, Route)
        for method in route.methods or ():
            yield route.path.replace(":path}", "}"), method.lower()


def described() -> set[tuple[str, str]]:
    return {
        (path, method)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations.keys() & METHODS
    }


def test_every_route_is_described_and_nothing_else():
    there = set(routes()) - {(path, "head") for path, method in routes() if method == "head"}
    assert there == {
        (prefix + path, method) for path, method in described() for prefix in ("", "/v1")
    }
    assert [server["url"] for server in DOCUMENT["servers"]] == ["/v1", "/"]


def test_every_status_that_an_error_can_have_is_described():
    statuses = {kind.status for kind in vars(errors).values() if is_error(kind)}
    # Of methods that are no operations, and of what is no HTTP/1.1 in the first place.
    assert (statuses | ANTHROPICS_OWN) - {405, 414, 431, 501, 505} == set(ERRORS)
    chat, messages = (
        set(DOCUMENT["paths"][path]["post"]["responses"])
        for path in ("/chat/completions", "/messages")
    )
    assert messages - chat == {str(status) for status in ANTHROPICS_OWN}


def is_error(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, ProxyError)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_leads_somewhere():
    found = set(references(DOCUMENT))
    assert "#/components/schemas/ChatRequest" in found
    for reference in found:
        place: Any = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one(name):
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_every_operation_says_what_openapi_demands(path):
    operations = DOCUMENT["paths"][path]
    names = [parameter["name"] for parameter in operations.get("parameters", ())]
    assert names == re.findall(r"{(\w+)}", path)
    for method in operations.keys() & METHODS:
        operation = operations[method]
        assert operation["responses"]
        for status, answer in operation["responses"].items():
            assert answer["description"]
            assert "x-request-id" in answer["headers"]
            if status != "200":
                schema = answer["content"]["application/json"]["schema"]
                told = schema["anyOf"][-1] if path == "/ready" and status == "503" else schema
                broken = "AnthropicError" if path.startswith("/messages") else "OpenAIError"
                assert told == {"$ref": f"#/components/schemas/{broken}"}
        assert ("401" in operation["responses"]) == (operation.get("security") != [])


def valid(name: str, value: Any) -> bool:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema.Draft202012Validator(schema).is_valid(value)


HELLO = {"role": "user", "content": "hello"}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ChatRequest", {"messages": [HELLO]}, True),
        ("ChatRequest", {"messages": [HELLO], "unknown": 1}, True),
        ("ChatRequest", {"messages": []}, False),
        ("ChatRequest", {"messages": [{"role": "nobody", "content": "x"}]}, False),
        ("ChatRequest", {"messages": [HELLO], "temperature": 3}, False),
        ("CompletionRequest", {"prompt": "x"}, True),
        ("CompletionRequest", {"prompt": ["x"], "n": 1, "logprobs": None}, True),
        ("CompletionRequest", {"prompt": []}, False),
        ("CompletionRequest", {"prompt": "x", "max_tokens": 0}, False),
        ("MessagesRequest", {"model": "m", "max_tokens": 9, "messages": [HELLO]}, True),
        ("MessagesRequest", {"model": "m", "messages": [HELLO]}, False),
        ("CountRequest", {"model": "m", "messages": [HELLO]}, True),
        ("CountRequest", {"model": "m", "messages": [{"role": "tool", "content": ""}]}, False),
        ("ResponsesRequest", {"input": "x"}, True),
        ("ResponsesRequest", {"input": [HELLO]}, True),
        ("ResponsesRequest", {"input": [{"type": "reasoning"}]}, True),
        ("ResponsesRequest", {"input": [{"type": "mcp_call", "x": 1}]}, True),
        ("ResponsesRequest", {"input": [{"type": "nothing"}]}, False),
        ("ResponsesRequest", {"input": "x", "tools": [{"type": "web_search"}]}, True),
        ("ResponsesRequest", {"input": "x", "tool_choice": 3}, False),
    ],
)
def test_what_may_be_sent(name, value, expected):
    assert valid(name, value) == expected
