"""What a process is told: what is fixed with it, and the options of one turn."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.claude.configuration import Identity, effort_level, flag_settings, initialize
from claude_proxy.claude.stream_json import control
from claude_proxy.claude.tools import STRUCTURED_OUTPUT, ToolNames
from claude_proxy.conversation import (
    Conversation,
    Effort,
    Message,
    Options,
    Text,
    Tool,
    ToolChoice,
    ToolUse,
)

PLAIN = Conversation("opus", "Be brief.", (Message("user", (Text("hi"),)),))
SCHEMA = '{"type":"object","properties":{"a":{"type":"string"}},"unevaluatedProperties":false}'
TOOLS = (Tool("f", '{"type":"object"}', "does f"), Tool("g", '{"type":"object"}'))


def settings(conversation: Conversation) -> dict:
    """As the CLI reads them."""
    line = control("1", "apply", settings=flag_settings(conversation, ToolNames(conversation)))
    return json.loads(line)["request"]["settings"]


def environment(**options) -> dict[str, str]:
    return settings(replace(PLAIN, options=Options(**options)))["env"]


def extra_body(conversation: Conversation) -> dict:
    return json.loads(settings(conversation)["env"]["CLAUDE_CODE_EXTRA_BODY"])


def test_a_plain_conversation_changes_no_default_but_names_every_setting():
    assert settings(PLAIN) == {
        "env": {
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "",
            "CLAUDE_CODE_DISABLE_THINKING": "",
            "CLAUDE_CODE_EXTRA_BODY": "{}",
        },
        "effortLevel": None,
    }


@pytest.mark.parametrize("limit", [1, 64_000])
def test_the_limit_of_tokens_is_passed_on(limit):
    assert environment(max_tokens=limit)["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == str(limit)


@pytest.mark.parametrize("effort", [None, *Effort])
def test_every_effort_has_a_level_and_only_none_does_not_think(effort):
    options = Options(effort=effort)
    assert settings(replace(PLAIN, options=options))["effortLevel"] == effort_level(options)
    disabled = environment(effort=effort)["CLAUDE_CODE_DISABLE_THINKING"]
    assert disabled == ("1" if effort is Effort.NONE else "")


def test_more_effort_is_never_a_lower_level():
    levels = [effort_level(Options(effort=effort)) for effort in Effort]
    assert levels == sorted(levels, key=["low", "medium", "high", "xhigh", "max"].index)
    assert effort_level(Options()) is None


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (Options(stop=("END", "\n\n")), {"stop_sequences": ["END", "\n\n"]}),
        (Options(temperature=0.0, top_p=0.5), {"temperature": 0.0, "top_p": 0.5}),
        (Options(top_p=0.0), {"top_p": 0.0}),
        (Options(tool_choice=ToolChoice(ToolUse.NONE, parallel=False)), {}),
    ],
)
def test_what_the_cli_has_no_way_for_goes_into_the_body_of_the_request(options, body):
    assert extra_body(replace(PLAIN, options=options)) == body


def test_tools_and_the_choice_go_into_the_body_of_the_request():
    options = Options(tool_choice=ToolChoice(ToolUse.REQUIRED))
    assert extra_body(replace(PLAIN, tools=TOOLS, options=options)) == {
        "tools": [
            {"name": "f", "description": "does f", "input_schema": {"type": "object"}},
            {"name": "g", "input_schema": {"type": "object"}},
        ],
        "tool_choice": {"type": "any"},
    }


@pytest.mark.parametrize(
    ("choice", "thinks"),
    [
        (ToolChoice(), True),
        (ToolChoice(parallel=False), True),
        (ToolChoice(ToolUse.NONE), True),
        (ToolChoice(ToolUse.REQUIRED), False),
        (ToolChoice(ToolUse.REQUIRED, "g"), False),
    ],
)
def test_the_model_does_not_think_before_a_call_that_is_forced(choice, thinks):
    options = Options(tool_choice=choice, effort=Effort.HIGH)
    disabled = settings(replace(PLAIN, tools=TOOLS, options=options))["env"]
    assert disabled["CLAUDE_CODE_DISABLE_THINKING"] == ("" if thinks else "1")


@given(st.text())
def test_the_system_prompt_is_the_clients_and_nothing_else(system):
    conversation = replace(PLAIN, system=system)
    assert initialize(conversation, ToolNames(conversation))["systemPrompt"] == [system]


@pytest.mark.parametrize("more", ["", " cc_version=1;", "\n\nBe brief."])
def test_what_the_cli_would_take_for_a_header_of_its_own_is_not_lost(more):
    """It drops it with all that follows in the same text."""
    system = f"x-anthropic-billing-header:{more}"
    conversation = replace(PLAIN, system=system)
    told = initialize(conversation, ToolNames(conversation))["systemPrompt"]
    assert told == [f"\n{system}"]


def test_without_tools_no_server_of_tools_is_registered():
    fields = initialize(PLAIN, ToolNames(PLAIN))
    assert not {"sdkMcpServers", "toolAliases", "jsonSchema"} & fields.keys()


def test_every_tool_leads_to_the_one_that_the_server_has():
    conversation = replace(PLAIN, tools=(*TOOLS, Tool("search the web", "{}")))
    names = ToolNames(conversation)
    fields = initialize(conversation, names)
    (server,) = fields["sdkMcpServers"]
    (relay,) = fields["sdkMcpServerManifests"][server]["toolsListResult"]["tools"]
    assert fields["toolAliases"] == dict.fromkeys(names.offered, relay["name"])


def test_the_validator_gets_the_schema_in_its_words_and_the_model_as_it_is():
    conversation = replace(PLAIN, schema=SCHEMA)
    schema = json.loads(SCHEMA)
    (tool,) = extra_body(conversation)["tools"]
    assert (tool["name"], tool["input_schema"]) == (STRUCTURED_OUTPUT, schema)
    del schema["unevaluatedProperties"]
    assert initialize(conversation, ToolNames(conversation))["jsonSchema"] == schema


@pytest.mark.parametrize(
    "change",
    [
        {"model": "haiku"},
        {"system": "Be brief. "},
        {"tools": TOOLS},
        {"tools": TOOLS[:1]},
        {"schema": SCHEMA},
    ],
    ids=["model", "system", "tools", "one tool", "schema"],
)
def test_what_is_fixed_with_a_process_makes_another_identity(change):
    assert Identity.of(replace(PLAIN, **change)) != Identity.of(PLAIN)


def test_the_order_of_tools_and_their_words_make_another_identity():
    one = replace(PLAIN, tools=TOOLS)
    for tools in [TOOLS[::-1], (TOOLS[0], replace(TOOLS[1], description="does g"))]:
        assert Identity.of(replace(one, tools=tools)) != Identity.of(one)


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (Message("user", (Text("other"),)),)},
        {"options": Options(max_tokens=5, effort=Effort.LOW, stop=("x",), temperature=0.5)},
        {"options": Options(tool_choice=ToolChoice(ToolUse.REQUIRED, parallel=False))},
    ],
    ids=["messages", "options", "choice"],
)
def test_what_may_change_from_turn_to_turn_makes_no_other_identity(change):
    assert Identity.of(replace(PLAIN, **change)) == Identity.of(PLAIN)
