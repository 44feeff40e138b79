"""The value of a setting from what a person writes: text, or what TOML makes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from claude_proxy.listeners import Place
from claude_proxy.settings import (
    BYTES,
    CHOICES,
    DURATIONS,
    FLAGS,
    REPEATABLE,
    SECRET,
    ConfigurationError,
    Settings,
    UsageError,
)

UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "min": 60.0, "h": 3_600.0}
SIZES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
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


def parse_repeatable(name: str, raw: Any) -> Any:
    """A list from flags or TOML, one text with commas, or for aliases TOML's own table."""
    if name == "model_alias" and isinstance(raw, Mapping):
        raw = [f"{alias}={model}" for alias, model in raw.items()]
    items = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(items, list):
        raise UsageError(f"expected a list, got {raw!r}")
    if name == "model_alias":
        return parse_aliases(items)
    return [place(item) for item in items]


def place(item: Any) -> Any:
    """One of ``listen``, seen to be a place. Raises UsageError."""
    if isinstance(item, str):
        item = item.strip()
        try:
            Place.of(item)
        except ConfigurationError as error:
            raise UsageError(str(error)) from None
    return item


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
