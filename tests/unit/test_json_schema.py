"""The copy of a schema for the CLI's validator: in draft 7's words, never stricter."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from claude_proxy.claude.json_schema import draft_7

STRING = {"type": "string"}
NEW = {"unevaluatedProperties": False}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        False,
        {"type": "object", "properties": {"a": STRING}, "required": ["a"]},
        {"type": "object", "additionalProperties": False, "patternProperties": {"^a": STRING}},
        {"type": "array", "items": STRING, "minItems": 1, "uniqueItems": True},
        {"type": "array", "items": [STRING, True], "additionalItems": False},
        {"anyOf": [STRING, {"type": "null"}], "default": None, "title": "t", "description": "d"},
        {"oneOf": [STRING, {"const": 1}], "not": {"enum": ["x"]}, "contains": {"minimum": 1}},
        {"if": STRING, "then": {"minLength": 1}, "else": {"maximum": 3}},
        {"$ref": "#/$defs/a", "$defs": {"a": STRING}, "definitions": {"b": {"$ref": "#"}}},
        {"type": "string", "format": "date-time", "pattern": "^x", "examples": ["x"]},
        {"type": "string", "nullable": True},
    ],
)
def test_what_draft_7_knows_stays_as_it_is(schema):
    assert draft_7(schema) == schema


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"$schema": "https://json-schema.org/draft/2020-12/schema", **STRING}, STRING),
        ({**STRING, "x-vendor": 1, "deprecated": True, "$comment": "c"}, STRING),
        ({"nullable": True}, {}),
        ({"properties": {"a": {**STRING, **NEW}}}, {"properties": {"a": STRING}}),
        ({"items": {"items": NEW}}, {"items": {"items": {}}}),
        ({"anyOf": [NEW, STRING], "allOf": [NEW]}, {"anyOf": [{}, STRING], "allOf": [{}]}),
        ({"$defs": {"a": NEW}}, {"$defs": {"a": {}}}),
        ({"additionalProperties": NEW}, {"additionalProperties": {}}),
        ({"prefixItems": [STRING, NEW]}, {"items": [STRING, {}]}),
        (
            {"prefixItems": [STRING], "items": False},
            {"items": [STRING], "additionalItems": False},
        ),
    ],
)
def test_what_draft_7_does_not_know_is_left_out_at_any_depth(schema, expected):
    assert draft_7(schema) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"not": NEW, **STRING}, STRING),
        ({"contains": NEW}, {}),
        ({"contains": STRING, "minContains": 0}, {}),
        ({"prefixItems": [{}], "additionalItems": False}, {"items": [{}]}),
        (
            {"not": {"$ref": "#/$defs/a"}, "$defs": {"a": NEW}},
            {"$defs": {"a": {}}},
        ),
        ({"if": NEW, "then": STRING, "else": False}, {}),
        ({"if": STRING, "then": NEW}, {}),
        ({"oneOf": [NEW, STRING]}, {"allOf": [{"anyOf": [{}, STRING]}]}),
        (
            {"oneOf": [NEW, STRING], "allOf": [STRING]},
            {"allOf": [STRING, {"anyOf": [{}, STRING]}]},
        ),
    ],
)
def test_what_would_get_stricter_with_a_looser_part_is_left_out_or_loosened(schema, expected):
    assert draft_7(schema) == expected


@pytest.mark.parametrize("name", ["unevaluatedProperties", "prefixItems", "$schema", "x"])
def test_the_name_of_a_property_is_no_keyword(name):
    schema = {"type": "object", "properties": {name: STRING}, "required": [name]}
    assert draft_7(schema) == schema


@pytest.mark.parametrize(
    "nonsense",
    [None, 1, "x", {"properties": 1}, {"anyOf": "x"}, {"allOf": 5, "oneOf": [{"x": 1}]}],
)
def test_nonsense_is_no_crash(nonsense):
    assert draft_7(draft_7(nonsense)) == draft_7(nonsense)


def test_the_original_is_left_alone():
    schema = {"oneOf": [dict(NEW)], "prefixItems": [{"a": 1}], "items": False}
    draft_7(schema)
    assert schema == {"oneOf": [dict(NEW)], "prefixItems": [{"a": 1}], "items": False}


def test_nesting_costs_no_more_than_its_depth():
    schema: dict[str, Any] = {"x": 1}
    for _ in range(60):
        schema = {"oneOf": [schema]}
    copy = draft_7(schema)
    for _ in range(60):
        ((_, [some]),) = copy.items()
        ((_, [copy]),) = some.items()
    assert copy == {}


# Whatever is valid stays valid

names = st.sampled_from(["a", "b", "c"])
scalars = st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from([0.5, "", "a", "ab"])
instances = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
kinds = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"])
sizes = st.integers(0, 2)
flags = st.booleans()
name_lists = st.lists(names, unique=True, max_size=2)


def keywords(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    many = st.dictionaries(names, inner, max_size=3)
    values = {
        "type": kinds | st.lists(kinds, min_size=1, max_size=3, unique=True),
        "enum": st.lists(scalars, min_size=1, max_size=3),
        "const": scalars,
        "minimum": sizes,
        "minLength": sizes,
        "maxItems": sizes,
        "minProperties": sizes,
        "required": name_lists,
        "uniqueItems": flags,
        "nullable": flags,
        **dict.fromkeys(["anyOf", "allOf", "oneOf", "prefixItems"], some),
        **dict.fromkeys(["properties", "patternProperties", "dependentSchemas"], many),
        **dict.fromkeys(["not", "contains", "if", "then", "else", "items"], inner),
        **dict.fromkeys(["additionalProperties", "propertyNames"], inner),
        **dict.fromkeys(["unevaluatedProperties", "unevaluatedItems"], inner),
        "dependentRequired": st.dictionaries(names, name_lists, max_size=2),
        "x-vendor": scalars,
    }
    pairs = st.sampled_from(sorted(values)).flatmap(
        lambda name: st.tuples(st.just(name), values[name])
    )
    return st.lists(pairs, max_size=4).map(dict)


schemas = st.recursive(flags | st.just({}), keywords, max_leaves=10)


@settings(max_examples=500)
@given(schemas, st.lists(instances, min_size=1, max_size=8))
def test_the_copy_takes_whatever_the_original_takes(schema, candidates):
    original, copy = Draft202012Validator(schema), Draft7Validator(draft_7(schema))
    valid = [instance for instance in candidates if original.is_valid(instance)]
    assert [instance for instance in valid if not copy.is_valid(instance)] == []


@given(schemas)
def test_the_copy_is_a_schema_of_draft_7_and_its_own_copy(schema):
    copy = draft_7(schema)
    Draft7Validator.check_schema(copy)
    assert draft_7(copy) == copy
