"""The list of models in Anthropic's form, as its own SDK reads it, page after page."""

from __future__ import annotations

import json

import pytest
from anthropic.types import ModelInfo
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.anthropic.models import Page, to_list, to_model
from claude_proxy.dialect.body import decode_query
from claude_proxy.errors import InvalidRequest

ids = st.lists(st.text(min_size=1, max_size=4), max_size=12, unique=True)


def listed(names: list[str], **query: str) -> dict:
    page = decode_query(query, Page)
    return json.loads(to_list([(name, name.upper(), 9, 3) for name in names], page))


def shown(page: dict) -> list[str]:
    return [model["id"] for model in page["data"]]


@settings(deadline=None)
@given(ids, st.integers(1, 5))
def test_pages_forwards_are_all_and_in_order(names, limit):
    found, after = [], {}
    while True:
        page = listed(names, limit=str(limit), **after)
        assert len(page["data"]) <= limit
        found += shown(page)
        if not page["has_more"]:
            break
        assert (page["first_id"], page["last_id"]) == (shown(page)[0], shown(page)[-1])
        after = {"after_id": page["last_id"]}
    assert found == names


@settings(deadline=None)
@given(ids.filter(bool), st.integers(1, 5))
def test_pages_backwards_are_all_that_stand_before(names, limit):
    found, before = [names[-1]], {"before_id": names[-1]}
    while True:
        page = listed(names, limit=str(limit), **before)
        found = shown(page) + found
        if not page["has_more"]:
            break
        before = {"before_id": page["first_id"]}
    assert found == names


def test_an_empty_page_names_nothing():
    assert listed([]) == {"data": [], "has_more": False, "first_id": None, "last_id": None}
    assert listed(["a"], after_id="a")["data"] == []


def test_an_id_that_is_not_there_cuts_nothing():
    assert shown(listed(["a", "b"], after_id="x")) == shown(listed(["a", "b"], before_id="x"))
    assert shown(listed(["a", "b"], after_id="x")) == ["a", "b"]


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "1001"}, {"limit": "many"}])
def test_a_limit_that_is_none(query):
    with pytest.raises(InvalidRequest) as caught:
        decode_query(query, Page)
    assert caught.value.param == "limit"


def test_a_model_is_what_the_list_says_of_it():
    described = ("claude-x-1", "Claude X", 200_000, 64_000)
    made = json.loads(to_model(described))
    model = ModelInfo.model_validate(made)
    assert set(model.model_extra or ()) <= {"lifecycle"}  # which older SDKs do not know
    assert (model.id, model.display_name, model.type) == ("claude-x-1", "Claude X", "model")
    assert model.created_at.timestamp() == 0
    assert (model.max_input_tokens, model.max_tokens) == (200_000, 64_000)
    assert json.loads(to_list([described], Page()))["data"] == [made]
