"""What OpenAI has and this server has not: what it says of it is true of the routes."""

from __future__ import annotations

import json
import re

import pytest

from claude_proxy.description import document
from claude_proxy.openai.absent import HERE, NEAREST, explained, family

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
