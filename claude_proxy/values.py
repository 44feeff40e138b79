"""The value of a setting from what a person writes: text, or what TOML makes of it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from claude_proxy.listeners import Place
from claude_proxy.settings import (
    BYTES,
    CHOICES,
    DURATIONS,
    FLAGS,
    PERIODS,
    REPEATABLE,
    SECRET,
    ConfigurationError,
    Settings,
    UsageError,
)

UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "min": 60.0, "h": 3_600.0}
SIZES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
# How an entry of a table is written in a list.
TABLES = {"model_alias": "{}={}", "budget": "{1}/{0}"}
HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]|[0-9a-f:.]+")
ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s?#]+")
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def parse_number(text: str, units: Mapping[str, float]) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in units:
        raise UsageError(
            f"expected a number, with {', '.join(filter(None, units))} or no unit, got {text!r}"
        )
    return float(match[1]) * units[match[2]]


def parse_aliases(pairs: Sequence[Any]) -> dict[str, str]:
    aliases: dict[str, str] = {}
    for pair in pairs:
        name, sign, model = str(pair).partition("=")
        if not (name.strip() and sign and model.strip()):
            raise UsageError(f"expected NAME=MODEL, got {pair!r}")
        aliases[name.strip().lower()] = model.strip()
    return aliases


def parse_budget(items: Sequence[Any]) -> dict[str, float]:
    """US dollars by period."""
    budget: dict[str, float] = {}
    for item in items:
        found = re.fullmatch(r"\s*\$?(\d{1,9}(?:\.\d{1,9})?)\s*/\s*(\w+)\s*", str(item))
        if found is None or found[2] not in PERIODS:
            raise UsageError(
                f"expected a number of US dollars and /day, /week or /month, got {item!r}"
            )
        if found[2] in budget:  # which of them is meant, nobody can know; it must not be the larger
            raise UsageError(f"there are two for each {found[2]}")
        budget[found[2]] = float(found[1])
    return budget


def parse_host(item: Any) -> Any:
    """A name or an address; the port makes no difference to who it is."""
    if isinstance(item, str) and not is_host(item := item.strip().lower()):
        raise UsageError(f"expected the name of a host, without scheme and port, got {item!r}")
    return item


def is_host(text: str) -> bool:
    """``cafe:80`` is made of the digits of an IPv6 address, and is none."""
    if HOST.fullmatch(text) is None:
        return False
    with suppress(ValueError):
        return ":" not in text or bool(ipaddress.IPv6Address(text.strip("[]")))
    return False


def parse_origin(item: Any) -> Any:
    """As browsers write it; what it names is compared as text."""
    if isinstance(item, str) and not ORIGIN.fullmatch(item := item.strip().lower()):
        raise UsageError(f"expected an origin, such as https://chat.example:8443, got {item!r}")
    return item


def parse_repeatable(name: str, raw: Any) -> Any:
    """A list from flags or TOML, one text with commas, or TOML's own table."""
    if name in TABLES and isinstance(raw, Mapping):
        raw = [TABLES[name].format(key, value) for key, value in raw.items()]
    items = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(items, list):
        raise UsageError(f"expected a list, got {raw!r}")
    if name == "model_alias":
        return parse_aliases(items)
    if name == "budget":
        return parse_budget(items)
    return [EACH[name](item) for item in items]


def place(item: Any) -> Any:
    """One of ``listen``, seen to be a place. Raises UsageError."""
    if isinstance(item, str):
        item = item.strip()
        try:
            Place.of(item)
        except ConfigurationError as error:
            raise UsageError(str(error)) from None
    return item


EACH: Mapping[str, Callable[[Any], Any]] = {
    "listen": place,
    "allow_host": parse_host,
    "allow_origin": parse_origin,
}


def parse_text(name: str, raw: str) -> Any:
    if name in BYTES:
        size = parse_number(raw.lower().removesuffix("ib").removesuffix("b"), SIZES)
        return int(size) if size.is_integer() else size
    if name in DURATIONS:
        return parse_number(raw, UNITS)
    if name in FLAGS:
        lowered = raw.strip().lower()
        if lowered not in (*TRUE, *FALSE):
            raise UsageError(f"expected true or false, got {raw!r}")
        return lowered in TRUE
    return raw


def parse_value(name: str, raw: Any) -> Any:
    """What Settings wants, from a flag's or a variable's text or from a value of TOML's."""
    if name in REPEATABLE:
        return parse_repeatable(name, raw)
    if isinstance(raw, str):
        return parse_text(name, raw)
    if isinstance(raw, bool) != (name in FLAGS):
        raise UsageError(f"expected {'true or false' if name in FLAGS else 'a value'}, got {raw!r}")
    return raw


def convert(name: str, raw: Any, source: str) -> Any:
    """The checked value of one field; a UsageError names the flag or variable it came from."""
    try:
        value = parse_value(name, raw)
        return getattr(msgspec.convert({name: value}, Settings, strict=False), name)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None
    except UnicodeError:
        raise UsageError(f"{source}: not valid UTF-8") from None
    except msgspec.ValidationError as error:
        problem = str(error).split(" - at `$.")[0].split(", got")[0].replace("`", "")
        if name in CHOICES:
            problem = f"expected one of {', '.join(CHOICES[name])}"
        shown = "" if name in SECRET else f", got {raw!r}"
        raise UsageError(f"{source}: {problem[0].lower()}{problem[1:]}{shown}") from None
