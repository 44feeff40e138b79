"""Chat Completions: tools, the choice among them and the answer's format, in every form."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from claude_proxy.conversation import Tool, ToolChoice, ToolUse
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.chat.tools import (
    ChoiceSpec,
    Named,
    ResponseFormat,
    ToolSpec,
    old_to_choice,
    old_to_tools,
    to_choice,
    to_schema,
    to_tools,
)
from claude_proxy.openai.functions import LONGEST_NAME, FunctionTool

LONG = "x" * 100_000
NO_ARGUMENTS = {"type": "object", "properties": {}}


def received(value: object, kind: Any) -> Any:
    return msgspec.json.decode(json.dumps(value), type=kind)


def offered(*functions: dict) -> tuple[Tool, ...]:
    specs = [{"type": "function", "function": function} for function in functions]
    return to_tools(received(specs, list[ToolSpec]))


def offered_of_old(*functions: dict) -> tuple[Tool, ...]:
    return old_to_tools(received(functions, list[FunctionTool]))


def refused(translate, *arguments: Any, **named: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        translate(*arguments, **named)
    assert caught.value.message
    return caught.value


F, G = offered({"name": "f"}, {"name": "g"})
in_both_forms = pytest.mark.parametrize(
    ("offer", "at"),
    [(offered, "tools[{}].function"), (offered_of_old, "functions[{}]")],
    ids=["tools", "functions"],
)


# Tools


@in_both_forms
def test_tools_keep_their_order_names_and_descriptions(offer, at):
    tools = offer({"name": "z", "description": "last"}, {"name": "a"}, {"name": "search the web"})
    assert [(tool.name, tool.description) for tool in tools] == [
        ("z", "last"),
        ("a", None),
        ("search the web", None),
    ]


schemas = st.dictionaries(
    st.sampled_from(["properties", "title", "$defs"]) | st.text(),
    st.none() | st.integers() | st.text() | st.dictionaries(st.text(), st.booleans()),
)


@given(schemas, st.sampled_from([None, 0, 2]))
def test_a_schema_that_says_its_type_stays_as_it_is_to_the_byte(schema, indent):
    text = json.dumps({**schema, "type": "object"}, indent=indent)
    (tool,) = to_tools(
        [ToolSpec(function=FunctionTool("f", parameters=msgspec.Raw(text.encode())))]
    )
    assert tool.schema == text


@pytest.mark.parametrize(
    "schema", [{}, {"properties": {"a": {}}, "required": ["a"]}, {"$ref": "#"}, {"anyOf": [{}]}]
)
def test_a_schema_without_a_type_is_an_objects(schema):
    (tool,) = offered({"name": "f", "parameters": schema})
    assert json.loads(tool.schema) == {"type": "object", **schema}


@in_both_forms
@pytest.mark.parametrize("function", [{"name": "f"}, {"name": "f", "parameters": None}])
def test_a_function_without_parameters_takes_none(offer, at, function):
    (tool,) = offer(function)
    assert json.loads(tool.schema) == NO_ARGUMENTS


@pytest.mark.parametrize("strict", [True, False, None])
def test_strictness_changes_nothing(strict):
    assert offered({"name": "f", "strict": strict}) == (F,)


@in_both_forms
@pytest.mark.parametrize(
    "name", ["", " \n", "x" * (LONGEST_NAME + 1)], ids=["empty", "blank", "long"]
)
def test_a_name_must_be_one(offer, at, name):
    error = refused(offer, {"name": "f"}, {"name": name})
    assert error.param == f"{at.format(1)}.name"
    assert len(error.message) < 1_000


@in_both_forms
def test_two_tools_cannot_have_one_name(offer, at):
    error = refused(offer, {"name": "f"}, {"name": "g"}, {"name": "f"})
    assert error.param == f"{at.format(2)}.name"


@in_both_forms
@pytest.mark.parametrize("schema", [[], "object", 1, True, [{"type": "object"}]])
def test_a_schema_must_be_an_object(offer, at, schema):
    error = refused(offer, {"name": "f"}, {"name": "g", "parameters": schema})
    assert error.param == f"{at.format(1)}.parameters"


def test_a_schema_nested_too_deeply_is_refused_not_a_crash():
    deep = msgspec.Raw(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    error = refused(to_tools, [ToolSpec(function=FunctionTool("f", parameters=deep))])
    assert error.param == "tools[0].function.parameters"


def test_a_tool_needs_no_type():
    assert to_tools(received([{"function": {"name": "f"}}], list[ToolSpec])) == (F,)


@pytest.mark.parametrize("kind", ["custom", "web_search", LONG], ids=["custom", "web", "long"])
def test_only_functions_can_be_had(kind):
    specs = [{"function": {"name": "f"}}, {"type": kind, kind: {}}]
    error = refused(to_tools, received(specs, list[ToolSpec]))
    assert (error.param, error.code) == ("tools[1].type", "unsupported_value")
    assert len(error.message) < 1_000


def test_a_missing_function_is_refused_at_its_place():
    error = refused(to_tools, received([{"type": "function"}], list[ToolSpec]))
    assert error.param == "tools[0].function"


# The choice


def chosen(spec: Any, *tools: Tool, parallel: bool = True) -> tuple[ToolChoice, tuple[Tool, ...]]:
    return to_choice(received(spec, str | ChoiceSpec | None), tools, parallel=parallel)


def chosen_of_old(spec: Any, *tools: Tool) -> ToolChoice:
    return old_to_choice(received(spec, str | Named | None), tools)


def function(name: str) -> dict:
    return {"type": "function", "function": {"name": name}}


def allowed(*tools: dict, mode: str = "auto") -> dict:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize(
    ("spec", "use", "name"),
    [
        (None, ToolUse.AUTO, None),
        ("auto", ToolUse.AUTO, None),
        ("none", ToolUse.NONE, None),
        ("required", ToolUse.REQUIRED, None),
        (function("g"), ToolUse.REQUIRED, "g"),
        ({"function": {"name": "g"}}, ToolUse.REQUIRED, "g"),
    ],
)
def test_every_form_of_a_choice_leaves_all_tools(spec, use, name, parallel):
    choice = ToolChoice(use, name, parallel)
    assert chosen(spec, F, G, parallel=parallel) == (choice, (F, G))


@pytest.mark.parametrize("spec", [None, "auto", "none"])
def test_without_tools_nothing_need_be_chosen(spec):
    choice, tools = chosen(spec)
    assert choice.use is ToolUse(spec or "auto")
    assert tools == ()


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("mode", ["auto", "required"])
def test_of_allowed_tools_only_those_are_left_in_the_order_of_the_offer(mode, parallel):
    spec = allowed(function("g"), function("unknown"), function("f"), mode=mode)
    (h,) = offered({"name": "h"})
    choice = ToolChoice(ToolUse(mode), parallel=parallel)
    assert chosen(spec, F, h, G, parallel=parallel) == (choice, (F, G))


@pytest.mark.parametrize(
    ("spec", "param", "code"),
    [
        ("any", "tool_choice", "invalid_value"),
        ("f", "tool_choice", "invalid_value"),
        pytest.param(LONG, "tool_choice", "invalid_value", id="long"),
        (function("h"), "tool_choice", None),
        ({"type": "function"}, "tool_choice", "unsupported_value"),
        ({"type": "custom", "custom": {"name": "f"}}, "tool_choice", "unsupported_value"),
        ({**function("f"), "type": "custom"}, "tool_choice", "unsupported_value"),
        ({"type": "allowed_tools"}, "tool_choice.allowed_tools.tools", None),
        (allowed(), "tool_choice.allowed_tools.tools", None),
        (allowed(function("h")), "tool_choice.allowed_tools.tools", None),
        (allowed({"type": "mcp"}), "tool_choice.allowed_tools.tools", None),
        (
            allowed(function("f"), mode="any"),
            "tool_choice.allowed_tools.mode",
            "invalid_value",
        ),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused_at_its_place(spec, param, code):
    error = refused(chosen, spec, F, G)
    assert (error.param, error.code) == (param, code)
    assert len(error.message) < 1_000


@pytest.mark.parametrize("spec", ["required", function("f")])
def test_a_call_cannot_be_required_without_tools(spec):
    assert refused(chosen, spec).param == "tool_choice"


@pytest.mark.parametrize(
    ("spec", "use", "name"),
    [
        (None, ToolUse.AUTO, None),
        ("auto", ToolUse.AUTO, None),
        ("none", ToolUse.NONE, None),
        ({"name": "g"}, ToolUse.REQUIRED, "g"),
    ],
)
def test_the_old_form_of_a_choice_is_for_one_call(spec, use, name):
    assert chosen_of_old(spec, F, G) == ToolChoice(use, name, parallel=False)


@pytest.mark.parametrize(
    ("spec", "code"), [("any", "invalid_value"), ("f", "invalid_value"), ({"name": "h"}, None)]
)
def test_the_old_form_of_a_choice_is_refused_under_its_name(spec, code):
    error = refused(chosen_of_old, spec, F, G)
    assert (error.param, error.code) == ("function_call", code)


# The format of the answer


def schema_of(form: Any) -> str | None:
    return to_schema(received(form, ResponseFormat | None))


def named_schema(**fields: Any) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "x", **fields}}


@pytest.mark.parametrize("form", [None, {"type": "text"}, {**named_schema(), "type": "text"}])
def test_text_has_no_schema(form):
    assert schema_of(form) is None


@pytest.mark.parametrize(
    "form",
    [{"type": "json_object"}, named_schema(), named_schema(schema=None), named_schema(schema={})],
)
def test_json_without_a_schema_is_any_object(form):
    validator = Draft202012Validator(json.loads(schema_of(form)))
    assert all(map(validator.is_valid, [{}, {"a": 1}]))
    assert not any(map(validator.is_valid, [[], "a", None]))


@pytest.mark.parametrize("strict", [True, False, None])
def test_a_schema_is_passed_on_to_the_byte_strict_or_not(strict):
    schema = {"type": "object", "properties": {"a": {"type": "number", "default": 1.0}}}
    form = named_schema(schema=schema, strict=strict, description="d")
    assert schema_of(form) == json.dumps(schema)


@pytest.mark.parametrize("name", ["x", "a-B_9", "x" * 64])
def test_a_name_of_letters_digits_and_dashes_is_taken(name):
    assert schema_of(named_schema(name=name)) is not None


def test_a_schema_without_a_type_at_its_root_is_an_objects():
    schema = {"properties": {"a": {"type": "string"}}}
    assert json.loads(schema_of(named_schema(schema=schema))) == {"type": "object", **schema}


def test_a_recursive_schema_is_an_objects_too():
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}
    assert json.loads(schema_of(named_schema(schema=schema))) == {"type": "object", **schema}


def test_a_format_without_a_schema_is_any_object():
    assert json.loads(schema_of(named_schema(schema=None))) == {"type": "object"}


SCHEMA = "response_format.json_schema.schema"
NAME = "response_format.json_schema.name"


@pytest.mark.parametrize(
    ("form", "param", "code"),
    [
        ({"type": "xml"}, "response_format.type", "invalid_value"),
        ({"type": LONG}, "response_format.type", "invalid_value"),
        ({"type": ""}, "response_format.type", "invalid_value"),
        ({"type": "json_schema"}, "response_format.json_schema", None),
        (named_schema(name=""), NAME, None),
        (named_schema(name="a b"), NAME, None),
        (named_schema(name="x\n"), NAME, None),
        (named_schema(name="x" * 65), NAME, None),
        (named_schema(schema=[]), SCHEMA, None),
        (named_schema(schema="object"), SCHEMA, None),
        (named_schema(schema=True), SCHEMA, None),
        (named_schema(schema={"type": "array"}), SCHEMA, None),
        (named_schema(schema={"type": ["object", "null"]}), SCHEMA, None),
        (named_schema(schema={"anyOf": [{"type": "object"}]}), SCHEMA, None),
    ],
)
def test_a_format_that_cannot_be_had_is_refused_at_its_place(form, param, code):
    error = refused(schema_of, form)
    assert (error.param, error.code) == (param, code)
    assert len(error.message) < 1_000
