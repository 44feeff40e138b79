"""The module's options are the program's settings: none is missing, none has another range."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from claude_proxy.settings import BYTES, CHOICES, DURATIONS, FLAGS, OPTIONS, Settings, UsageError
from claude_proxy.values import convert
from tests.nix.evaluation import ROOT, needs_nix
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
    elif name in DURATIONS:
        assert "number of seconds" in kind["name"]
    elif name in BYTES:
        assert "number of bytes" in kind["name"]
    elif bounds(name) != {"low": None, "high": None}:
        assert {"low": kind["low"], "high": kind["high"]} == bounds(name)
    else:
        assert "string" in kind["name"] or "path" in kind["name"]


def pattern(of: str) -> re.Pattern[str]:
    """That of options.nix for texts of durations or sizes."""
    text = (ROOT / "nix" / "options.nix").read_text()
    found = re.search(rf"{of} =\n.*?strMatching \"(.*?)\"", text, re.DOTALL)
    assert found is not None
    return re.compile(found[1])


@pytest.mark.parametrize(
    ("of", "name", "text"),
    [("duration", "timeout", text) for text in ("1s", "0.5h", "90 s", "250ms", "2min", "3m", "1d")]
    + [("size", "store_size", text) for text in ("64M", "1.5G", "4096k", "2GiB", "70 MB", "1T")]
    + [("duration", "timeout", ""), ("size", "store_size", "M")],
)
def test_texts_are_taken_by_both_or_by_none(of, name, text):
    try:
        convert(name, text, name)
        taken = True
    except UsageError:
        taken = False
    assert bool(pattern(of).fullmatch(text)) == taken


def test_the_table_of_the_readme_is_true():
    assert table() in (ROOT / "README.md").read_text(), f"the table should be:\n{table()}"
