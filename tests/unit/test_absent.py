"""What OpenAI has and this server has not: what it says of it is true of the routes."""

from __future__ import annotations

import json
import re

import pytest

from claude_proxy.description import document
from claude_proxy.openai.absent import ENDPOINTS, HERE, NEAREST, explained, family

PATHS = json.loads(document())["paths"]


@pytest.mark.parametrize("text", [HERE, *NEAREST.values()])
def test_every_route_that_is_named_is_there(text):
    named = re.findall(r"([A-Z]{3,}) /v1(/[\w./{}]*[\w}])", text)
    assert len(named) == text.count("/v1")
    for method, path in named:
        assert method.lower() in PATHS[path]


@pytest.mark.parametrize("prefix", ["", "/v1"])
@pytest.mark.parametrize("word", NEAREST)
def test_the_nearest_is_named_and_then_all(word, prefix):
    for path in (f"{prefix}/{word}", f"{prefix}/{word}/x/y"):
        assert family(path) == word
        assert explained(path).startswith(NEAREST[word])
        assert explained(path).endswith(HERE)


@pytest.mark.parametrize("path", ["/", "", "/v1", "/v1/", "/nothing", "/v1/embeddingsx", "/v1x"])
def test_of_anything_else_it_is_only_said_what_there_is(path):
    assert family(path) is None
    assert explained(path) == HERE


def test_the_endpoints_that_may_be_meant_are_there():
    for path, method in ENDPOINTS.items():
        assert method.lower() in PATHS[path]


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/v1/v1/messages", "POST /v1/messages"),
        ("/v1/messages/v1/messages/count_tokens", "POST /v1/messages/count_tokens"),
        ("/v1/chat/completion", "POST /v1/chat/completions"),
        ("/chat/complete", "POST /v1/chat/completions"),
        ("/v1/chat/completions/", "POST /v1/chat/completions"),
        ("/v1/chat/completions/chat/completions", "POST /v1/chat/completions"),
        ("/api/v1/responses", "POST /v1/responses"),
        ("/v1/model", "GET /v1/models"),
    ],
)
def test_a_wrong_base_url_and_a_slip_are_seen_through(path, endpoint):
    assert explained(path).startswith(f"Did you mean {endpoint}? The base URL is ")


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions/chatcmpl-0123456789", "/v1/threads/thread_1/messages"]
)
def test_what_openai_has_there_is_not_taken_for_a_slip(path):
    assert not explained(path).startswith("Did you mean")
