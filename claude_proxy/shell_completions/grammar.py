"""The command line as a shell has to know it, from the tables that also make ``--help``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from claude_proxy.command_line import COMMANDS, PLAIN
from claude_proxy.settings import CHOICES, FLAGS, OPTIONS, REPEATABLE, Option

PATH = "PATH"
MODEL = "MODEL"


@dataclass(frozen=True, slots=True)
class Flag:
    """``value`` is the name of what it takes, None where it takes nothing; ``words`` are all that
    this may be, or the best known ones.
    """

    names: Sequence[str]
    text: str
    value: str | None = None
    words: Sequence[str] = ()
    is_path: bool = False
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class Grammar:
    """``commands``: name and text. ``words``: what may stand behind a command."""

    flags: Sequence[Flag]
    commands: Mapping[str, str]
    words: Mapping[str, Sequence[str]]


def grammar(models: Sequence[str], words: Mapping[str, Sequence[str]]) -> Grammar:
    flags = [Flag(plain.names, brief(plain.help)) for plain in PLAIN]
    flags += [flag_of(option, models) for option in OPTIONS.values()]
    return Grammar(flags, {name: brief(text) for name, text in COMMANDS.items()}, words)


def flag_of(option: Option, models: Sequence[str]) -> Flag:
    names = [option.short, option.flag] if option.short else [option.flag]
    text = brief(option.help)
    if option.name in FLAGS:
        return Flag(names, text)
    known = CHOICES.get(option.name, models if option.metavar == MODEL else ())
    repeatable = option.name in REPEATABLE
    return Flag(names, text, option.metavar, tuple(known), option.metavar == PATH, repeatable)


def brief(text: str) -> str:
    """What stands before the first of the details, without what a shell would take as quoting."""
    return re.split(r"[;:] | \(|\. ", text)[0].replace("`", "").replace("'", "")
