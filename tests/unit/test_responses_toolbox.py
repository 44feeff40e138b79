"""The tools of the Responses API: as functions to the model, under their own names back."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_proxy.conversation import Tool, ToolChoice, ToolUse
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.responses import freeform
from claude_proxy.openai.responses.toolbox import ChoiceSpec, Origin, Toolbox

# A busy machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SCHEMA = '{"type":"object", "properties": {"b":{},"a":{}}}'
NO_ARGUMENTS = '{"type":"object","properties":{}}'


def function(name: str = "f", **more) -> dict:
    return {"type": "function", "name": name, **more}


def custom(name: str = "shell", **more) -> dict:
    return {"type": "custom", "name": name, **more}


def namespace(name: str, *tools, **more) -> dict:
    return {"type": "namespace", "name": name, "tools": list(tools), **more}


def toolbox(*specs) -> Toolbox:
    return Toolbox([msgspec.Raw(json.dumps(spec).encode()) for spec in specs])


def refused(*specs) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        toolbox(*specs)
    return caught.value


def chosen(box: Toolbox, spec, *, parallel: bool = True):
    if isinstance(spec, dict):
        spec = msgspec.convert(spec, ChoiceSpec)
    return box.choose(spec, parallel=parallel)


def choice_refused(box: Toolbox, spec) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        chosen(box, spec)
    return caught.value


# What the model sees


def test_a_function_is_one_with_its_schema_byte_for_byte():
    raw = b'{"type":"function","name":"f","strict":true,"description":"d","parameters":%b}'
    box = Toolbox([msgspec.Raw(raw % SCHEMA.encode())])
    assert box.tools == (Tool("f", SCHEMA, "d"),)
    assert box.origin("f") == Origin("f")


@pytest.mark.parametrize("spec", [function(), function(parameters=None), {"name": "f"}])
def test_a_function_without_parameters_takes_none(spec):
    assert toolbox(spec).tools == (Tool("f", NO_ARGUMENTS),)


def test_a_custom_tool_is_a_function_of_one_string():
    box = toolbox(custom(description="Runs it", format={"type": "text"}))
    assert box.tools == (Tool("shell", freeform.SCHEMA, "Runs it"),)
    assert box.origin("shell") == Origin("shell", None, custom=True)


@pytest.mark.parametrize("description", [None, "Edits files"])
def test_a_grammar_is_told(description):
    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "x"\n'}
    (tool,) = toolbox(custom(description=description, format=grammar)).tools
    told = 'The input must be what this lark grammar allows:\nstart: "x"\n'
    assert tool.description == (f"{description}\n\n{told}" if description else told)


def test_a_custom_tool_that_says_nothing_has_no_description():
    assert toolbox(custom()).tools[0].description is None


def test_the_tools_of_a_namespace_have_its_name_before_theirs():
    box = toolbox(namespace("files", function("read"), custom("patch")), function("read"))
    assert [tool.name for tool in box.tools] == ["files__read", "files__patch", "read"]
    assert box.origin("files__read") == Origin("read", "files")
    assert box.origin("files__patch") == Origin("patch", "files", custom=True)
    assert box.origin("read") == Origin("read")


def test_what_a_namespace_says_of_itself_stands_with_its_first_tool():
    box = toolbox(
        namespace("n", function("a", description="A."), function("b"), description="All."),
        namespace("m", custom("c"), description="Mine."),
        namespace("o", function("d"), description=""),
    )
    assert [tool.description for tool in box.tools] == [
        "A.\n\nAbout all tools whose names begin with n__: All.",
        None,
        "About all tools whose names begin with m__: Mine.",
        None,
    ]


def test_a_made_name_steps_aside_for_a_tool_that_has_it():
    box = toolbox(namespace("a", function("b")), function("a__b"))
    assert [tool.name for tool in box.tools] == ["a__b_", "a__b"]
    assert box.origin("a__b_") == Origin("b", "a")
    assert box.origin("a__b") == Origin("a__b")
    assert box.name("b", "a") == "a__b_"


def test_two_namespaces_may_have_tools_of_one_name():
    box = toolbox(namespace("a", function("x")), namespace("b", custom("x")), function("x"))
    assert [tool.name for tool in box.tools] == ["a__x", "b__x", "x"]


def test_two_namespaces_never_get_in_each_others_way():
    box = toolbox(namespace("a", function("b__c")), namespace("a__b", function("c")))
    assert len({tool.name for tool in box.tools}) == 2


def test_a_tool_that_is_not_offered_has_its_name_all_the_same():
    box = toolbox(function())
    assert box.name("g", None) == "g"
    assert box.name("g", "n") == "n__g"
    assert box.origin("g") == Origin("g")


names = st.sampled_from(["a", "b", "a__b", "c_", "Größe", "x y"])
functions = st.builds(function, names) | st.builds(custom, names)
namespaces = st.builds(
    lambda name, tools: namespace(name, *tools), names, st.lists(functions, max_size=3)
)


@unhurried
@given(st.lists(functions | namespaces, max_size=6))
def test_the_way_back_leads_to_every_tool(specs):
    try:
        box = toolbox(*specs)
    except InvalidRequest:  # two of one name
        return
    expected = [
        (tool["name"], prefix, tool["type"] == "custom")
        for spec in specs
        for prefix, tools in [(spec["name"], spec["tools"]) if "tools" in spec else (None, [spec])]
        for tool in tools
    ]
    origins = [box.origin(tool.name) for tool in box.tools]
    assert [(origin.name, origin.namespace, origin.custom) for origin in origins] == expected
    assert [box.name(name, prefix) for name, prefix, _ in expected] == [t.name for t in box.tools]


HOSTED = ["web_search", "tool_search", "file_search", "mcp", "image_generation", "local_shell"]


def test_hosted_tools_are_left_out_and_named_once():
    specs = [{"type": kind} for kind in HOSTED]
    box = toolbox(specs[0], function(), *specs, namespace("n", {"type": "computer"}))
    assert box.ignored == [*HOSTED, "computer"]
    assert [tool.name for tool in box.tools] == ["f"]


@pytest.mark.parametrize("kind", ["", "a b", "x\r\nset-cookie: a=b", "é", "x" * 65])
def test_what_is_named_fits_into_a_header(kind):
    assert toolbox({"type": kind}).ignored == []


def test_a_namespace_in_a_namespace_is_left_out():
    box = toolbox(namespace("n", namespace("m", function())))
    assert (box.tools, box.ignored) == ((), ["namespace"])


@pytest.mark.parametrize(
    ("specs", "param"),
    [
        ([7], "tools[0]"),
        ([function(), []], "tools[1]"),
        ([{}], "tools[0].name"),
        ([{"type": None, "name": "f"}], "tools[0].type"),
        ([{"type": 7}], "tools[0].type"),
        ([{"type": "function"}], "tools[0].name"),
        ([function(name=7)], "tools[0].name"),
        ([function("")], "tools[0].name"),
        ([function(" ")], "tools[0].name"),
        ([function("x" * 1_025)], "tools[0].name"),
        ([function(), function()], "tools[1].name"),
        ([function(), custom("f")], "tools[1].name"),
        ([function(description=1)], "tools[0].description"),
        ([function(parameters=[])], "tools[0].parameters"),
        ([function(parameters="{}")], "tools[0].parameters"),
        ([{"type": "custom"}], "tools[0].name"),
        ([custom("")], "tools[0].name"),
        ([custom(format="text")], "tools[0].format"),
        ([custom(format={"type": "grammar", "definition": 1})], "tools[0].format.definition"),
        ([{"type": "namespace", "name": "n"}], "tools[0].tools"),
        ([{"type": "namespace", "tools": []}], "tools[0].name"),
        ([namespace("n", function(), 7)], "tools[0].tools[1]"),
        ([function(), namespace("n", function(1))], "tools[1].tools[0].name"),
        ([namespace("n", function(), function())], "tools[0].tools[1].name"),
        ([namespace("n", function(parameters=7))], "tools[0].tools[0].parameters"),
    ],
)
def test_a_broken_tool_is_refused_at_its_place(specs, param):
    assert refused(*specs).param == param


# The choice

BOX = toolbox(function(), custom(), namespace("n", function("g"), custom("h")), {"type": "mcp"})
ALL = BOX.tools


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize(
    ("spec", "use"),
    [
        (None, ToolUse.AUTO),
        ("auto", ToolUse.AUTO),
        ("none", ToolUse.NONE),
        ("required", ToolUse.REQUIRED),
    ],
)
def test_modes(spec, use, parallel):
    assert chosen(BOX, spec, parallel=parallel) == (ToolChoice(use, None, parallel), ALL)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ({"type": "function", "name": "f"}, "f"),
        ({"type": "custom", "name": "shell"}, "shell"),
        ({"type": "function", "name": "g", "namespace": "n"}, "n__g"),
        ({"type": "custom", "name": "h", "namespace": "n"}, "n__h"),
        ({"type": "function", "name": "n__g"}, "n__g"),
    ],
)
def test_a_named_tool_must_be_called(spec, name):
    choice = ToolChoice(ToolUse.REQUIRED, name, parallel=False)
    assert chosen(BOX, spec, parallel=False) == (choice, ALL)


@pytest.mark.parametrize(
    ("mode", "use"),
    [
        (None, ToolUse.AUTO),
        ("auto", ToolUse.AUTO),
        ("required", ToolUse.REQUIRED),
        ("none", ToolUse.NONE),
    ],
)
@pytest.mark.parametrize(
    ("tools", "left"),
    [
        ([{"type": "function", "name": "f"}], ["f"]),
        ([{"type": "custom", "name": "shell"}, {"type": "mcp"}], ["shell"]),
        ([{"type": "namespace", "name": "n"}], ["n__g", "n__h"]),
        (
            [{"type": "custom", "name": "h", "namespace": "n"}, {"type": "function", "name": "f"}],
            ["f", "n__h"],
        ),
        ([{"type": "function", "name": "f"}, {"type": "function", "name": "gone"}], ["f"]),
    ],
)
def test_of_the_allowed_tools_only_is_offered(mode, use, tools, left):
    spec = {"type": "allowed_tools", "mode": mode, "tools": tools}
    choice, offered = chosen(BOX, spec)
    assert choice == ToolChoice(use)
    assert [tool.name for tool in offered] == left


@pytest.mark.parametrize(
    ("spec", "param"),
    [
        ("wizard", "tool_choice"),
        ({"type": "function", "name": "gone"}, "tool_choice"),
        ({"type": "function", "name": "g"}, "tool_choice"),
        ({"type": "function", "name": "f", "namespace": "n"}, "tool_choice"),
        ({"type": "function"}, "tool_choice"),
        ({"type": "namespace", "name": "n"}, "tool_choice"),
        ({"type": "wizard"}, "tool_choice"),
        ({"type": "allowed_tools", "mode": "auto"}, "tool_choice.tools"),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, "tool_choice.tools"),
        ({"type": "allowed_tools", "tools": [{"type": "mcp"}]}, "tool_choice.tools"),
        (
            {"type": "allowed_tools", "mode": "x", "tools": [{"type": "function", "name": "f"}]},
            "tool_choice.mode",
        ),
    ],
)
def test_a_choice_that_cannot_be_is_refused(spec, param):
    assert choice_refused(BOX, spec).param == param


@pytest.mark.parametrize("kind", [*HOSTED, "shell", "apply_patch", "code_interpreter"])
def test_a_hosted_tool_cannot_be_forced(kind):
    error = choice_refused(BOX, {"type": kind})
    assert (error.status, error.param, error.code) == (400, "tool_choice", "unsupported_value")
    assert kind in error.message


@pytest.mark.parametrize("specs", [(), ({"type": "web_search"},)])
def test_no_call_can_be_required_without_tools(specs):
    assert choice_refused(toolbox(*specs), "required").param == "tool_choice"


def test_an_empty_choice_is_none():
    assert choice_refused(BOX, "").param == "tool_choice"
