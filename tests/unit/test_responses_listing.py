"""What is said about kept responses: their input items by pages, and that they are gone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types import responses

from claude_proxy.conversation import Reasoning
from claude_proxy.dialect.body import decode_query
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.responses import request as wire
from claude_proxy.openai.responses.listing import Page, deleted, list_items
from claude_proxy.openai.responses.reasoning import seal
from tests.openai_types import problems

# A busy machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

RESPONSE = "resp_1"
SEAL = seal(Reasoning("hm", "sig", "claude-x"))
PNG = "data:image/png;base64,iVBORw0KGgo="
TEXT = {"type": "input_text", "text": "x"}
IMAGE = {"type": "input_image", "image_url": PNG, "detail": "high"}
FILE = {"type": "input_file", "file_url": "https://example.org/a.pdf", "filename": "a.pdf"}
OUTPUT_TEXT = {"type": "output_text", "text": "x", "annotations": [], "logprobs": []}
REFUSAL = {"type": "refusal", "refusal": "no"}
EASY = {"role": "user", "content": "hello"}
TYPED = {"type": "message", "role": "user", "content": [TEXT, IMAGE, FILE]}
ANSWER = {
    "id": "msg_9",
    "type": "message",
    "role": "assistant",
    "status": "incomplete",
    "content": [OUTPUT_TEXT, REFUSAL],
}
CALL = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "a", "output": "done"}
CUSTOM = {"type": "custom_tool_call", "call_id": "b", "name": "c", "input": "ls"}
CUSTOM_OUTPUT = {"type": "custom_tool_call_output", "call_id": "b", "output": [TEXT, IMAGE, FILE]}
REASONING = {
    "type": "reasoning",
    "id": "rs_9",
    "summary": [{"type": "summary_text", "text": "hm"}],
    "encrypted_content": SEAL,
}
KINDS = [
    EASY,
    {**EASY, "type": None, "id": None, "status": None},
    {**EASY, "role": "system"},
    {"type": "message", "role": "developer", "content": [TEXT]},
    TYPED,
    {**TYPED, "id": "msg_1", "status": "completed"},
    {"role": "user", "content": []},
    {"role": "user", "content": [{"type": "input_image", "image_url": PNG}]},
    {"role": "user", "content": [{"type": "text", "text": "x"}, OUTPUT_TEXT]},
    {"role": "assistant", "content": "x"},
    {"role": "assistant", "content": [{"type": "output_text", "text": "x"}, REFUSAL]},
    {"role": "assistant", "content": [TEXT]},
    ANSWER,
    CALL,
    {**CALL, "id": "fc_1", "status": "completed", "namespace": "n"},
    OUTPUT,
    {**OUTPUT, "output": [TEXT, IMAGE, FILE]},
    CUSTOM,
    {**CUSTOM, "id": "ctc_1", "namespace": "n"},
    {**CUSTOM_OUTPUT, "output": "done"},
    CUSTOM_OUTPUT,
    REASONING,
    {"type": "reasoning"},
    {"type": "reasoning", "id": "rs_1", "summary": None, "encrypted_content": None},
    {"type": "reasoning", "summary": [], "content": None},
]


def raw(items: list[Any]) -> list[bytes]:
    """As they are kept, when a request has come with them."""
    data = json.dumps({"input": items}).encode()
    wanted = wire.resolve(wire.decode(data), lambda _: None, lambda _: None)
    return [given.raw for given in wanted.given.items]


def listed(items: list[Any], *, seals: bool = False, **query) -> dict[str, Any]:
    page = decode_query({name: str(value) for name, value in query.items()}, Page)
    kept = [json.dumps(item).encode() for item in items]
    return json.loads(list_items(RESPONSE, kept, page, seals=seals))


def one(item: Any, **more) -> dict[str, Any]:
    (found,) = listed([item], **more)["data"]
    return found


def ids(items: list[Any], **query) -> list[str]:
    return [item["id"] for item in listed(items, **query)["data"]]


@pytest.mark.parametrize("item", KINDS)
@pytest.mark.parametrize("seals", [True, False])
def test_an_item_of_any_kind_has_all_that_openai_requires(item, seals):
    page = listed([item], seals=seals)
    assert problems(page, responses.ResponseItemList) == []
    assert raw([item, EASY])[0] == json.dumps(item).encode()  # a request can come with it


PARTS_OF_AN_OUTPUT = [
    {"type": "input_image", "image_url": PNG},
    {"type": "text", "text": "x"},
    {"type": "output_text", "text": "x"},
]


@pytest.mark.parametrize("part", PARTS_OF_AN_OUTPUT)
@pytest.mark.parametrize("item", [OUTPUT, CUSTOM_OUTPUT])
def test_an_output_of_any_parts_has_all_that_openai_requires(item, part):
    assert problems(listed([{**item, "output": [part]}]), responses.ResponseItemList) == []


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "call_id": "a", "name": "f"},
        {"role": "user", "content": [{**IMAGE, "detail": None}]},
    ],
)
def test_what_a_client_left_out_is_there(item):
    assert raw([item, OUTPUT, EASY])
    assert problems(listed([item]), responses.ResponseItemList) == []


def test_a_string_is_listed_as_a_message():
    data = b'{"input": "hello"}'
    wanted = wire.resolve(wire.decode(data), lambda _: None, lambda _: None)
    page = json.loads(list_items(RESPONSE, [wanted.given.items[0].raw], Page(), seals=False))
    assert problems(page, responses.ResponseItemList) == []
    assert page["data"][0]["content"] == [{"type": "input_text", "text": "hello"}]


def test_texts_are_parts_of_the_one_who_says_them():
    assert one(EASY)["content"] == [{"type": "input_text", "text": "hello"}]
    assert one({"role": "assistant", "content": "x"})["content"] == [OUTPUT_TEXT]
    assert one(ANSWER) == ANSWER
    assert one(TYPED)["content"] == TYPED["content"]


def test_a_picture_without_a_detail_has_the_default():
    (part,) = one({"role": "user", "content": [{"type": "input_image", "image_url": PNG}]})[
        "content"
    ]
    assert part == {"type": "input_image", "image_url": PNG, "detail": "auto"}


@pytest.mark.parametrize(
    ("item", "prefix"),
    [
        *((EASY, "msg_"), (CALL, "fc_"), (OUTPUT, "fco_"), (CUSTOM, "ctc_")),
        *((CUSTOM_OUTPUT, "ctco_"), ({"type": "reasoning"}, "rs_")),
    ],
)
def test_an_item_without_an_id_gets_one_of_its_kind(item, prefix):
    id_ = one(item)["id"]
    assert id_.startswith(prefix)
    assert len(id_) == len(prefix) + 48
    assert one({**item, "id": "mine"})["id"] == "mine"


def test_reasoning_is_sealed_only_when_asked():
    assert one(REASONING, seals=True) == REASONING
    bare = {name: value for name, value in REASONING.items() if name != "encrypted_content"}
    assert one(REASONING) == bare
    assert "encrypted_content" not in one({"type": "reasoning"}, seals=True)


# Pages

FIVE = [{"role": "user", "content": str(number)} for number in range(5)]


def test_the_newest_comes_first_unless_asked_otherwise():
    page = listed(FIVE)
    assert [item["content"][0]["text"] for item in page["data"]] == list("43210")
    assert ids(FIVE, order="desc") == ids(FIVE)
    assert ids(FIVE, order="asc") == ids(FIVE)[::-1]
    assert page["object"] == "list"
    assert page["has_more"] is False
    assert (page["first_id"], page["last_id"]) == (ids(FIVE)[0], ids(FIVE)[-1])


def test_there_are_20_on_a_page_unless_asked_otherwise():
    page = listed([EASY] * 21)
    assert len(page["data"]) == 20
    assert page["has_more"] is True
    assert len(listed([EASY] * 101, limit=100)["data"]) == 100


@unhurried
@given(
    st.lists(st.sampled_from(KINDS), max_size=30),
    st.integers(1, 100),
    st.sampled_from(["asc", "desc"]),
)
def test_the_pages_hold_every_item_once(items, limit, order):
    distinct = [
        {**item, "id": f"id_{i}"} if item.get("id") else item for i, item in enumerate(items)
    ]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": limit, "order": order}
    while True:
        page = listed(distinct, **query)
        assert len(page["data"]) <= limit
        seen += [item["id"] for item in page["data"]]
        if not page["has_more"]:
            break
        assert page["last_id"] == seen[-1]
        query["after"] = page["last_id"]
    everything = ids(distinct, limit=100, order="asc")
    assert seen == (everything if order == "asc" else everything[::-1])
    assert len(set(seen)) == len(items)


def test_the_pages_come_to_an_end_when_an_item_came_twice():
    items = [{**EASY, "id": "msg_1"}, {**EASY, "id": "msg_1"}, EASY]
    query: dict[str, Any] = {"limit": 1, "order": "asc"}
    for _ in items:
        page = listed(items, **query)
        query["after"] = page["last_id"]
    assert page["has_more"] is False


def test_ids_are_the_same_every_time_and_others_in_another_response():
    assert ids(FIVE) == ids(FIVE)
    kept = [json.dumps(item).encode() for item in FIVE]
    other = json.loads(list_items("resp_2", kept, Page(), seals=False))["data"]
    assert not {item["id"] for item in other} & set(ids(FIVE))


def test_behind_the_last_one_there_is_nothing():
    page = listed(FIVE, after=ids(FIVE)[-1])
    assert page["data"] == []
    assert page["has_more"] is False


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"order": "up"}, "order"),
        ({"order": ""}, "order"),
        ({"after": "msg_unknown"}, "after"),
        ({"after": "x" * 10_000}, "after"),
    ],
)
def test_a_page_that_cannot_be_is_refused(query, param):
    with pytest.raises(InvalidRequest) as caught:
        listed(FIVE, **query)
    assert caught.value.param == param
    assert len(caught.value.message) < 1_000


def test_other_things_in_the_query_do_not_matter():
    assert decode_query({"include[]": "x", "foo": "bar", "limit": "3"}, Page) == Page(limit=3)


def test_a_deleted_response():
    assert json.loads(deleted("resp_1")) == {"id": "resp_1", "object": "response", "deleted": True}
