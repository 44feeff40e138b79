"""What was asked for: flags over environment over configuration file, and the command."""

from __future__ import annotations

import argparse
import difflib
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from claude_proxy import __version__, config_file
from claude_proxy.settings import (
    FLAGS,
    GROUPS,
    OPTIONS,
    REPEATABLE,
    ConfigurationError,
    Option,
    Settings,
    UsageError,
    shown_default,
)
from claude_proxy.values import convert

SERVE = "serve"
COMMANDS = {
    "key": "print the key that clients must send, making one if there is none yet",
    "install": "write the systemd units for the present user, with the flags given here, and "
    "enable the socket: the program then starts with the first connection",
    "uninstall": "stop it and remove the units that install wrote",
    "status": "say what runs, what it listens on, the login, what was spent today, the last "
    "errors; starts nothing",
    "check": "look for what keeps it from working, and say how to mend it; ends with 1 when "
    "something is wrong",
    "config": "print the settings that a client needs, ready to paste; without CLIENT, list the "
    "clients",
    "man": "print the manual page, for `man -l -`",
    "completions": "print what completes this command line in SHELL: bash, zsh or fish",
}
# What a command takes one of, and may do without.
WORDS = {"config": "CLIENT", "completions": "SHELL"}
DRY_RUN = frozenset({"install", "uninstall", "config"})
WRITE = frozenset({"config"})
# They are asked when something is wrong, so they work without the file that is.
WITHOUT_FILE = frozenset({"status", "check", "man", "completions"})
SUMMARY = "Your own Claude Code CLI as a local OpenAI and Anthropic API."
NOTES = (
    "TIME is seconds, or a number with ms, s, min or h. A flag wins over its variable, and that "
    "over the configuration file. Without a key one is made and kept; `claude-proxy key` prints it."
)


@dataclass(frozen=True, slots=True)
class Plain:
    """A flag that is no setting and takes no value."""

    flag: str
    help: str
    short: str | None = None

    @property
    def names(self) -> list[str]:
        return [self.short, self.flag] if self.short else [self.flag]


HELP = Plain("--help", "show this help and end", "-h")
VERSION = Plain("--version", "show the version and end")
OF_COMMANDS = (
    Plain(
        "--dry-run",
        "with install, uninstall and config --write: say what would be done, and do nothing",
    ),
    Plain(
        "--write",
        "with config: write them where a file of their own is enough; no file of yours is ever "
        "changed",
    ),
)
PLAIN = (HELP, VERSION, *OF_COMMANDS)


@dataclass(frozen=True, slots=True)
class Invocation:
    """``flags``: those that were given, as they were given, for whoever has to repeat them.
    ``problem``: why the configuration file was left out, which only some commands do.
    ``words``: what stands behind a command that takes something.
    """

    settings: Settings
    command: str = SERVE
    dry_run: bool = False
    flags: tuple[str, ...] = ()
    problem: str | None = None
    words: tuple[str, ...] = ()
    write: bool = False


class Formatter(argparse.HelpFormatter):
    """argparse's, which neither breaks a flag in two nor runs lines of their own together."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        own = text.splitlines()
        hang = "  " if len(own) > 1 else ""
        wrap = partial(textwrap.wrap, width=width, break_on_hyphens=False, subsequent_indent=hang)
        return [line for text in own for line in wrap(text)]


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(ascii(message)[1:-1])


def check_flags(argv: Sequence[str]) -> None:
    """Names a misspelt flag, without the value that may stand behind it."""
    known = [name for plain in PLAIN for name in plain.names]
    known += [option.flag for option in OPTIONS.values()]
    known += [option.short for option in OPTIONS.values() if option.short]
    for before, argument in zip(["", *argv], argv, strict=False):
        if before == "--api-key":
            continue  # argparse will say that the value is missing, and not what it is
        flag = argument.partition("=")[0] if argument.startswith("--") else argument[:2]
        if re.match(r"-[^\d]", flag) and flag not in known:
            near = difflib.get_close_matches(flag, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; see claude-proxy --help"
            raise UsageError(f"unknown flag {ascii(flag)[1:-1]}{hint}")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; unset flags are absent from the namespace."""
    parser = Parser(
        prog="claude-proxy",
        usage="claude-proxy [FLAG ...] [COMMAND]",
        formatter_class=Formatter,
        description=SUMMARY,
        epilog=NOTES,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    commands = parser.add_argument_group("commands; without one, it serves")
    commands.add_argument(
        "command",
        nargs="*",
        metavar="COMMAND",
        help="\n".join(f"{shown(name)}: {text}" for name, text in COMMANDS.items()),
    )
    for plain in OF_COMMANDS:
        commands.add_argument(*plain.names, action="store_true", help=plain.help)
    parser.add_argument(*HELP.names, action="help", help=HELP.help)
    version = f"claude-proxy {__version__}"
    parser.add_argument(*VERSION.names, action="version", version=version, help=VERSION.help)
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title)
        for option in options:
            add_option(group, option)
    return parser


def shown(command: str) -> str:
    return f"{command} {WORDS[command]}" if command in WORDS else command


def add_option(group: argparse._ArgumentGroup, option: Option) -> None:
    names = [option.short, option.flag] if option.short else [option.flag]
    text = f"{option.help}{shown_default(option.name)} [{option.variable}]".replace("%", "%%")
    if option.name in FLAGS:
        group.add_argument(*names, dest=option.name, action="store_true", help=text)
    else:
        action = "append" if option.name in REPEATABLE else "store"
        group.add_argument(
            *names, dest=option.name, action=action, metavar=option.metavar, help=text
        )


def read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Raw values by field. Empty variables count as unset; misspelt ones of ours are an error."""
    known = {option.variable: option.name for option in OPTIONS.values()}
    for variable in environ:
        if variable.startswith("CLAUDE_PROXY_") and variable not in known:
            named = OPTIONS.get(variable.removeprefix("CLAUDE_PROXY_").lower())
            near = difflib.get_close_matches(variable, known, n=1)
            meant = named.variable if named else "".join(near)
            hint = f"; did you mean {meant}?" if meant else "; see claude-proxy --help"
            raise UsageError(f"unknown environment variable {ascii(variable)[1:-1]}{hint}")
    return {name: environ[variable] for variable, name in known.items() if environ.get(variable)}


def read_file(given: str | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """Checked values by field. Raises ConfigurationError that names the file and the setting."""
    path = config_file.find(given, environ)
    if path is None:
        return {}
    try:
        return {
            name: convert(name, raw, f"{path}: {OPTIONS[name].key}")
            for name, raw in config_file.read(path).items()
        }
    except UsageError as error:
        raise ConfigurationError(str(error)) from None


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Invocation:
    """Raises UsageError or ConfigurationError; --help exits 0."""
    check_flags(argv)
    given = vars(build_parser().parse_intermixed_args(argv))
    command, words = command_of(given.pop("command", []))
    dry_run, write = given.pop("dry_run", False), given.pop("write", False)
    for flag, asked, takers in (("--dry-run", dry_run, DRY_RUN), ("--write", write, WRITE)):
        if asked and command not in takers:
            raise UsageError(f"{flag}: goes with {listed(takers)} only")
    flags = {name: convert(name, raw, OPTIONS[name].flag) for name, raw in given.items()}
    variables = {
        name: convert(name, raw, OPTIONS[name].variable)
        for name, raw in read_environment(environ).items()
        if name not in given
    }
    stronger = variables | flags
    problem = None
    weaker: dict[str, Any] = {}
    try:
        weaker = read_file(stronger.get("config"), environ)
    except ConfigurationError as error:
        if command not in WITHOUT_FILE:
            raise
        problem = str(error)
    settings = Settings(**(weaker | stronger))
    flags_given = tuple(as_flags(given))
    return Invocation(settings, command, dry_run, flags_given, problem, words, write)


def command_of(words: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The command, and what stands behind one that takes something. Raises UsageError."""
    if not words:
        return SERVE, ()
    first, *others = words
    if first not in COMMANDS:
        near = difflib.get_close_matches(first, COMMANDS, n=1)
        meant = f"claude-proxy {HELP.flag}" if first == "help" else "".join(near)
        hint = f"did you mean {meant}?" if meant else f"there are {listed(COMMANDS)}"
        raise UsageError(f"unknown command {ascii(first)[1:-1]}; {hint}")
    if len(others) > (first in WORDS):
        takes = f"one {WORDS[first]}" if first in WORDS else "nothing more"
        raise UsageError(f"{first} takes {takes}, and there is {ascii(others[-1])[1:-1]} too")
    return first, tuple(others)


def listed(names: Iterable[str]) -> str:
    *others, last = sorted(names)
    return f"{', '.join(others)} and {last}" if others else last


def as_flags(given: Mapping[str, Any]) -> list[str]:
    """The flags of a parsed command line, one word each."""
    words: list[str] = []
    for name, raw in given.items():
        if name in FLAGS:
            words.append(OPTIONS[name].flag)
        else:
            values = raw if isinstance(raw, list) else [raw]
            words += [f"{OPTIONS[name].flag}={value}" for value in values]
    return words
