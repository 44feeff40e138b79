"""The module's options are the program's settings: none is missing, none has another range."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from claude_proxy.settings import BYTES, CHOICES, DURATIONS, FLAGS, OPTIONS, Settings, UsageError
from claude_proxy.values import convert
from tests.nix.evaluation import HERE, ROOT, evaluate, needs_nix
from tests.nix.table import declared, table

pytestmark = needs_nix

# Settings of the program whose option has another name than theirs in camelCase.
RENAMED = {"model_alias": "modelAliases"}
# What the modules set themselves, and what a service has no use for.
WITHOUT_OPTION = {"claude", "config"}
# Of the modules alone.
OF_NIX = {
    *("enable", "package", "claudePackage", "socketActivation", "sandbox", "environment"),
    *("extraArgs", "settings", "users", "linger", "baseUrl", "keyCommand"),
}


@pytest.fixture(scope="module")
def options() -> dict[str, dict[str, Any]]:
    return {option["name"]: option for option in declared()}


def option_of(name: str, options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    camel = re.sub(r"_(\w)", lambda found: found[1].upper(), name)
    return options.get(RENAMED.get(name, camel)) or options[f"settings.{OPTIONS[name].key}"]


def bounds(name: str) -> dict[str, float]:
    """Of a number, as msgspec has them."""
    kind = msgspec.inspect.type_info(Settings).fields
    (field,) = [field for field in kind if field.name == name]
    return {"low": getattr(field.type, "ge", None), "high": getattr(field.type, "le", None)}


NAMES = [name for name in OPTIONS if name not in WITHOUT_OPTION]


def test_every_setting_is_an_option_and_there_are_no_others(options):
    found = {option_of(name, options)["name"] for name in NAMES}
    assert found | OF_NIX == options.keys()


@pytest.mark.parametrize("name", NAMES)
def test_the_default_is_the_programs(options, name):
    option = option_of(name, options)
    default = getattr(Settings(), name)
    if option["name"].startswith("settings."):
        stated = re.fullmatch(r".* Without it: (.+)\.", option["description"])
        assert stated is not None
        if name == "listen":
            assert stated[1] == "{option}`host` and {option}`port`"
            return
        if stated[1] == "none":
            assert default in ((), {})
            return
        assert convert(name, stated[1], name) == default
    else:
        given = json.loads(option["default"])
        assert (given if given is None else convert(name, given, name)) == (default or given)


@pytest.mark.parametrize("name", NAMES)
def test_the_type_takes_what_the_program_takes(options, name):
    kind = option_of(name, options)["type"]
    if name in CHOICES:
        assert tuple(kind["values"]) == CHOICES[name]
    elif name in FLAGS:
        assert "boolean" in kind["name"]
    elif name in DURATIONS | BYTES:
        assert kind["name"].startswith("number of ")
    elif bounds(name) != {"low": None, "high": None}:
        assert {"low": kind["low"], "high": kind["high"]} == bounds(name)
    else:
        assert "string" in kind["name"] or "path" in kind["name"]


NUMBERS = ["-1", "0", "0.5", "1", "5", "11", "65", "90000", "1e6", "5e9", "2e12"]
TIMES = ["0s", "0", "1s", "90", "0.5h", "9 s", "250ms", "2min", "3M", "24h"]
SIZES = ["1024", "1k", "64M", "1.5G", "2GiB", "70 MB", "0.3k", "1.0000001k"]
WRONG = ["", "soon", "1d", "25h", "-1s", "1T", "5000G", "1kk", "s", "1.s", "1,5h"]


def samples(name: str) -> list[Any]:
    """Numbers, and texts where there may be one."""
    numbers = [json.loads(number) for number in NUMBERS]
    if name in DURATIONS | BYTES:
        return [*numbers, *(TIMES if name in DURATIONS else SIZES), *WRONG]
    kind = type(getattr(Settings(), name))
    return [each for each in numbers if kind is float or isinstance(each, int)]


def taken(name: str, value: Any) -> bool:
    """By the program."""
    try:
        convert(name, value if isinstance(value, str) else str(value), name)
    except UsageError:
        return False
    return True


MEASURED = [name for name in NAMES if isinstance(getattr(Settings(), name), (int, float))]


@pytest.mark.parametrize("name", [name for name in MEASURED if name not in FLAGS])
def test_values_are_taken_by_both_or_by_none(options, name):
    """Else a configuration would be built that the program refuses when it starts."""
    option = option_of(name, options)["name"]
    values = samples(name)
    given = evaluate(
        f"""let declared = import {HERE}/declared.nix; in
          map (declared.takes "{option}") (builtins.fromJSON {json.dumps(json.dumps(values))})"""
    )
    assert dict(zip(map(str, values), given, strict=True)) == {
        str(value): taken(name, value) for value in values
    }


@pytest.mark.parametrize(
    "place",
    ["127.0.0.1:80", "[::1]:80", "/a b", "unix:/a", "~/a", "host:1", "nonsense", "a:", "[::1]"],
)
def test_places_are_taken_by_both_or_by_none(place):
    given = evaluate(
        f"""(import {HERE}/declared.nix).takes "settings.listen" [ {json.dumps(place)} ]"""
    )
    assert given == taken("listen", place)


def test_the_table_of_the_docs_is_true():
    assert table() in (ROOT / "docs" / "nix.md").read_text(), f"the table should be:\n{table()}"
