"""The client's tools on the CLI: names, definitions, the choice, and what the MCP server says."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_proxy.claude.tools import (
    API_NAME,
    LONGEST_RESULT,
    STRUCTURED_OUTPUT,
    ToolNames,
    choice,
    definitions,
    forced,
    mcp_content,
    registration,
    serve,
)
from claude_proxy.conversation import Conversation, Options, Tool, ToolChoice, ToolUse

SCHEMA = '{"type":"object"}'
AWKWARD = ["search the web", "search_the web", "", "ü", "x" * 129, "x" * 130, "a.b", "a/b"]


def offering(*names: str, schema: str | None = None, **choice: object) -> Conversation:
    options = Options(tool_choice=ToolChoice(**choice))
    tools = tuple(Tool(name, SCHEMA) for name in names)
    return Conversation("m", "", (), options, tools, schema)


def made_for(name: str, schema: str | None = None) -> str:
    return ToolNames(offering(name, schema=schema)).to_api(name)


# Names


names = st.one_of(
    st.text(max_size=6),
    st.text("ab_-. ", max_size=4),
    st.sampled_from([*AWKWARD, *map(made_for, AWKWARD), STRUCTURED_OUTPUT, "Read", "x" * 128]),
)
schemas = st.sampled_from([None, SCHEMA])


@given(st.lists(names, unique=True, max_size=8), schemas)
@example([made_for("a b"), "a b"], None)
@example(["a b", made_for("a b")], None)
@example([STRUCTURED_OUTPUT, made_for(STRUCTURED_OUTPUT, SCHEMA)], SCHEMA)
def test_every_tool_has_a_name_of_its_own_that_the_api_takes_and_leads_back(offered, schema):
    tool_names = ToolNames(offering(*offered, schema=schema))
    mapped = [tool_names.to_api(name) for name in offered]
    assert all(API_NAME.fullmatch(name) for name in mapped)
    assert len(set(mapped)) == len(mapped)
    assert [tool_names.to_client(name) for name in mapped] == offered
    assert tool_names.offered == set(mapped)


@given(st.lists(names, unique=True, min_size=1, max_size=8), schemas)
def test_a_name_is_mapped_alike_whatever_else_is_offered(offered, schema):
    """Else a tool more would change the whole conversation, and no cache would hit it."""
    tool_names = ToolNames(offering(*offered, schema=schema))
    for name in offered:
        alone = made_for(name, schema)
        if alone not in {*offered} - {name}:
            assert tool_names.to_api(name) == alone


@given(names, st.lists(names, unique=True, max_size=5), schemas)
@example("a b", [], None)
def test_a_tool_of_the_past_keeps_its_name_when_it_is_not_offered_any_more(past, others, schema):
    others = [other for other in others if other != past]
    tool_names = ToolNames(offering(*others, schema=schema))
    alone = made_for(past, schema)
    if alone not in tool_names.offered:
        assert tool_names.to_api(past) == alone


@given(st.lists(names, unique=True, max_size=5), st.lists(names, unique=True), schemas)
@example(["a b"], [made_for("a b")], None)
def test_tools_of_the_past_are_never_taken_for_others(offered, past, schema):
    tool_names = ToolNames(offering(*offered, schema=schema))
    distinct = {*offered, *past}
    mapped = {tool_names.to_api(name) for name in [*past, *offered]}
    assert len(mapped) == len(distinct)
    assert all(API_NAME.fullmatch(name) for name in mapped)


@given(st.from_regex(API_NAME, fullmatch=True) | st.just(STRUCTURED_OUTPUT))
def test_a_name_that_the_api_takes_stays_as_it_is(name):
    assert ToolNames(offering(name)).to_api(name) == name


@pytest.mark.parametrize("name", AWKWARD)
def test_any_other_name_becomes_one_in_which_its_letters_can_still_be_read(name):
    made = made_for(name)
    assert API_NAME.fullmatch(made)
    assert made.startswith("".join(c if c.isascii() and c.isalnum() else "_" for c in name)[:64])


@pytest.mark.parametrize("offered", [[STRUCTURED_OUTPUT], []], ids=["offered", "of the past"])
def test_the_clis_own_tool_for_an_answer_is_never_one_of_the_clients(offered):
    tool_names = ToolNames(offering(*offered, schema=SCHEMA))
    assert tool_names.to_api(STRUCTURED_OUTPUT) != STRUCTURED_OUTPUT
    assert STRUCTURED_OUTPUT not in tool_names.offered


@pytest.mark.parametrize("name", ["Read", "unheard_of"])
def test_a_name_that_was_never_offered_is_passed_on(name):
    assert ToolNames(offering("f")).to_client(name) == name


# Definitions


tools = st.builds(
    Tool,
    st.text(min_size=1),
    st.sampled_from(
        [SCHEMA, '{ "type" :\n"object" }', '{"type":"object","x":1.0,"a":"\\u00fc","a":"ü"}']
    ),
    st.none() | st.text(),
)


@given(st.lists(tools, unique_by=lambda tool: tool.name, max_size=5))
def test_definitions_keep_order_descriptions_and_schemas_to_the_byte(offered):
    conversation = Conversation("m", "", (), tools=tuple(offered))
    tool_names = ToolNames(conversation)
    defined = definitions(conversation, tool_names)
    assert [tool_names.to_client(one["name"]) for one in defined] == [t.name for t in offered]
    assert [one.get("description", "") for one in defined] == [t.description or "" for t in offered]
    written = msgspec.json.encode(defined)
    for tool in offered:
        assert b'"input_schema":' + tool.schema.encode() in written


def test_a_description_that_says_nothing_is_left_out():
    conversation = Conversation("m", "", (), tools=(Tool("f", SCHEMA), Tool("g", SCHEMA, "")))
    assert [one.keys() for one in definitions(conversation, ToolNames(conversation))] == [
        {"name", "input_schema"}
    ] * 2


def test_the_tool_for_a_structured_answer_comes_last_with_the_clients_schema():
    schema = '{"type": "object", "unevaluatedProperties": false}'
    conversation = offering("f", schema=schema)
    first, last = definitions(conversation, ToolNames(conversation))
    assert (first["name"], last["name"]) == ("f", STRUCTURED_OUTPUT)
    assert bytes(last["input_schema"]) == schema.encode()
    assert last["description"]


# The choice

SERIAL = {"disable_parallel_tool_use": True}


def chosen(*offered: str, schema: str | None = None, **wanted: object) -> dict | None:
    conversation = offering(*offered, schema=schema, **wanted)
    return choice(conversation, ToolNames(conversation))


@pytest.mark.parametrize("schema", [None, SCHEMA], ids=["", "schema"])
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, None),
        ({"parallel": False}, {"type": "auto", **SERIAL}),
        ({"use": ToolUse.REQUIRED}, {"type": "any"}),
        ({"use": ToolUse.REQUIRED, "parallel": False}, {"type": "any", **SERIAL}),
        ({"use": ToolUse.REQUIRED, "name": "f"}, {"type": "tool", "name": "f"}),
        (
            {"use": ToolUse.REQUIRED, "name": "f", "parallel": False},
            {"type": "tool", "name": "f", **SERIAL},
        ),
    ],
)
def test_a_choice_is_the_apis(wanted, expected, schema):
    assert chosen("f", schema=schema, **wanted) == expected


def test_a_chosen_tool_is_named_as_the_api_knows_it():
    wanted = chosen("a b", use=ToolUse.REQUIRED, name="a b")
    assert wanted == {"type": "tool", "name": made_for("a b")}


@pytest.mark.parametrize("parallel", [True, False])
def test_no_tool_at_all_leaves_the_one_for_a_structured_answer(parallel):
    wanted = {"use": ToolUse.NONE, "parallel": parallel}
    assert chosen("f", **wanted) == {"type": "none"}
    assert chosen("f", schema=SCHEMA, **wanted) == {"type": "tool", "name": STRUCTURED_OUTPUT}


@pytest.mark.parametrize("use", ToolUse)
@pytest.mark.parametrize("schema", [None, SCHEMA])
def test_without_tools_there_is_nothing_to_choose(use, schema):
    assert chosen(use=use, schema=schema, parallel=False) is None


@pytest.mark.parametrize(
    ("wanted", "is_forced"),
    [
        (None, False),
        ({"type": "none"}, False),
        ({"type": "auto", **SERIAL}, False),
        ({"type": "any"}, True),
        ({"type": "tool", "name": "f"}, True),
    ],
)
def test_a_call_is_forced_by_any_and_by_a_name(wanted, is_forced):
    assert forced(wanted) is is_forced


# The MCP server


def test_the_cli_asks_after_every_round_of_tools_also_without_any_of_the_clients():
    hooks = [registration(ToolNames(offering(*names)))["hooks"] for names in ([], ["f"])]
    assert hooks[0] == hooks[1]
    assert hooks[0].keys() == {"PostToolBatch"}


def test_the_server_offers_one_tool_that_may_be_called_at_once_and_with_any_arguments():
    (tool,) = serve({"id": 1, "method": "tools/list"})["result"]["tools"]
    assert tool["inputSchema"] == {"type": "object"}
    assert tool["annotations"] == {"readOnlyHint": True}


def test_what_the_registration_says_is_what_the_server_would_answer():
    (manifest,) = registration(ToolNames(offering("f")))["sdkMcpServerManifests"].values()
    assert manifest == {
        "initializeResult": serve({"method": "initialize"})["result"],
        "toolsListResult": serve({"method": "tools/list"})["result"],
    }


def test_the_server_speaks_the_protocol_that_the_cli_asks_for():
    params = {"protocolVersion": "2031-01-01", "capabilities": {}}
    reply = serve({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
    assert reply["result"]["protocolVersion"] == "2031-01-01"
    assert "tools" in reply["result"]["capabilities"]


@pytest.mark.parametrize("method", ["ping", "notifications/initialized"])
def test_what_needs_no_answer_gets_an_empty_one(method):
    assert serve({"id": "x", "method": method}) == {"jsonrpc": "2.0", "id": "x", "result": {}}


@pytest.mark.parametrize("message", [{"id": 4, "method": "resources/list"}, {"id": 4}])
def test_other_methods_are_not_found(message):
    reply = serve(message)
    assert (reply["id"], reply["error"]["code"]) == (4, -32601)
    assert "result" not in reply


@given(st.dictionaries(st.sampled_from(["id", "method", "jsonrpc"]), st.none() | st.text()))
def test_any_message_is_answered_with_its_id_and_a_result_or_an_error(message):
    reply = json.loads(json.dumps(serve(message)))
    assert reply["jsonrpc"] == "2.0"
    assert reply["id"] == message.get("id", 0)
    assert len({"result", "error"} & reply.keys()) == 1


# Results


def text(value: str) -> dict:
    return {"type": "text", "text": value}


def test_texts_and_pictures_have_a_form_in_mcp():
    source = {"type": "base64", "media_type": "image/png", "data": "QQ=="}
    assert mcp_content([text("a"), {"type": "image", "source": source}, text(" b\n")]) == [
        text("a"),
        {"type": "image", "data": "QQ==", "mimeType": "image/png"},
        text(" b\n"),
    ]


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [{"type": "image", "source": {"type": "url", "url": "https://x.example/y.png"}}],
        [text("a"), {"type": "document", "source": {"type": "base64", "data": "QQ=="}}],
    ],
    ids=["nothing", "address", "document"],
)
def test_what_the_cli_would_change_has_none(blocks):
    assert mcp_content(blocks) is None


@pytest.mark.parametrize("pieces", [1, 4])
def test_a_result_may_be_as_long_as_the_cli_passes_it_on(pieces):
    longest = [text("x" * (LONGEST_RESULT // pieces))] * pieces
    assert mcp_content(longest) == longest
    assert mcp_content([*longest, text("x")]) is None
