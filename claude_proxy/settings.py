"""One frozen ``Settings``: built-in defaults < environment < flags.

Each ``Option`` below is one setting: its flag, its environment variable, its help. Types and
ranges stand in ``Settings`` and are checked by msgspec, whichever way a value came in.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from claude_proxy import __version__

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=1_000)]
SecondsOrZero = Annotated[float, Meta(ge=0, le=86_400)]
NonEmpty = Annotated[str, Meta(min_length=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All that the program can be told. Durations are seconds, sizes are bytes."""

    def __repr__(self) -> str:
        """Without values, one of which is the key."""
        return "Settings(...)"

    host: NonEmpty = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    model: NonEmpty = "sonnet"
    api_key: NonEmpty | None = None
    api_key_file: NonEmpty | None = None
    claude: NonEmpty | None = None
    demo: bool = False
    model_alias: dict[str, str] = {}
    forward_sampling: bool = False
    max_concurrency: Count = 8
    queue: Annotated[int, Meta(ge=0, le=100_000)] = 64
    queue_timeout: Seconds = 120.0
    spares: Annotated[int, Meta(ge=0, le=64)] = 1
    spare_max_age: Seconds = 1_800.0
    keep_alive: SecondsOrZero = 300.0
    max_sessions: Annotated[int, Meta(ge=0, le=1_000)] = 8
    timeout: Seconds = 600.0
    retries: Annotated[int, Meta(ge=0, le=10)] = 2
    drain_timeout: Seconds = 30.0
    max_body_size: Annotated[int, Meta(ge=1_024, le=2**31)] = 32 * 2**20
    store_days: Annotated[float, Meta(ge=0, le=36_500)] = 30
    store_size: Annotated[int, Meta(ge=2**20, le=2**40)] = 2**28
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"


@dataclass(frozen=True, slots=True)
class Option:
    """``name`` is the field of Settings; the flag and ``CLAUDE_PROXY_*`` follow from it."""

    name: str
    help: str
    metavar: str | None = None
    env: str | None = None
    short: str | None = None

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return self.env or "CLAUDE_PROXY_" + self.name.upper()


GROUPS: dict[str, tuple[Option, ...]] = {
    "listening": (
        Option("host", "address to listen on", "ADDRESS", env="HOST"),
        Option("port", "port to listen on; 0 takes a free one", "PORT", env="PORT"),
        Option(
            "max_body_size", "largest request body taken: bytes, or with K, M, G", metavar="SIZE"
        ),
    ),
    "kept responses": (
        Option("store_days", "days for which responses are kept; 0: none, nowhere on disk", "DAYS"),
        Option("store_size", "most that they may take on disk, with K, M, G", "SIZE"),
    ),
    "the clients' key": (
        Option(
            "api_key",
            "key that clients must send; other users can see a flag, so prefer the variable or "
            "a file",
            "KEY",
            env="PROXY_API_KEY",
        ),
        Option("api_key_file", "file whose first line is the key", "PATH"),
    ),
    "models": (
        Option(
            "model",
            "model for requests that name none",
            "MODEL",
            env="CLAUDE_MODEL",
            short="-m",
        ),
        Option(
            "model_alias",
            "answer requests for NAME with MODEL; NAME may hold *; repeatable (in the variable: "
            "separated by commas)",
            "NAME=MODEL",
        ),
        Option("forward_sampling", "forward temperature and top_p, which newer models may refuse"),
    ),
    "Claude Code": (
        Option(
            "claude",
            "the CLI to run; default: claude on PATH, else the one inside an installed "
            "claude-agent-sdk",
            "PATH",
        ),
        Option("demo", "no account needed: the real CLI speaks to a built-in simulator"),
        Option("max_concurrency", "turns that run at the same time", "N"),
        Option("queue", "requests that may wait for a free turn; further ones get 429", "N"),
        Option("queue_timeout", "longest wait in the queue", "TIME"),
        Option("spares", "started processes kept waiting; 0 starts one per request", "N"),
        Option("spare_max_age", "age at which a waiting process is renewed", "TIME"),
        Option(
            "keep_alive",
            "how long a conversation's process waits for its next turn; 0: not at all",
            "TIME",
        ),
        Option("max_sessions", "conversations that wait so; each takes some 130 MB", "N"),
        Option("timeout", "longest silence of the CLI within a turn", "TIME"),
        Option("retries", "how often the CLI may retry a failing upstream call", "N"),
        Option("drain_timeout", "how long running answers may go on after SIGTERM", "TIME"),
    ),
    "log": (
        Option("log_level", "least level that is logged: debug, info, warning, error", "LEVEL"),
        Option(
            "log_format",
            "auto: console on a terminal, JSON lines otherwise",
            "auto|json|console",
        ),
    ),
}
OPTIONS = {option.name: option for group in GROUPS.values() for option in group}
SECRET = frozenset({"api_key"})
FLAGS = frozenset({"demo", "forward_sampling"})
DURATIONS = frozenset(
    name for name, field in Settings.__annotations__.items() if "Seconds" in str(field)
)
CHOICES = {
    name: get_args(kind)
    for name, kind in get_type_hints(Settings).items()
    if get_origin(kind) is Literal
}
BYTES = frozenset({"max_body_size", "store_size"})
UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "min": 60.0, "h": 3_600.0}
SIZES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


class UsageError(Exception):
    """A flag or a variable that cannot be used; one line for the user (exit code 2)."""


class ConfigurationError(Exception):
    """The configuration is well-formed but cannot work (exit code 78, EX_CONFIG)."""


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(ascii(message)[1:-1])


def check_flags(argv: Sequence[str]) -> None:
    """Names a misspelt flag, without the value that may stand behind it."""
    known = ["-h", "--help", "--version", *(option.flag for option in OPTIONS.values())]
    known += [option.short for option in OPTIONS.values() if option.short]
    for before, argument in zip(["", *argv], argv, strict=False):
        if before == "--api-key":
            continue  # argparse will say that the value is missing, and not what it is
        flag = argument.partition("=")[0] if argument.startswith("--") else argument[:2]
        if re.match(r"-[^\d]", flag) and flag not in known:
            near = difflib.get_close_matches(flag, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"unknown flag {ascii(flag)[1:-1]}{hint}")


def shown_default(name: str) -> str:
    default = getattr(Settings(), name)
    if default is None or default == {} or name in FLAGS:
        return ""
    if name in BYTES:
        return f"; default {default // 2**20}M"
    if name in DURATIONS:
        return f"; default {default:g}s"
    return f"; default {default}"


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; unset flags are absent from the namespace."""
    parser = Parser(
        prog="claude-proxy",
        description="Your own Claude Code CLI as a local, OpenAI-compatible API.",
        epilog="TIME is seconds, or a number with ms, s, min or h. A flag wins over its variable. "
        "Without a key one is made and kept; `claude-proxy key` prints it.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"claude-proxy {__version__}")
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title)
        for option in options:
            add_option(group, option)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    commands.add_parser(
        "key",
        help="print the key that clients must send",
        description="Print the key that clients must send, making one if there is none yet.",
        argument_default=argparse.SUPPRESS,
    )
    return parser


def add_option(group: argparse._ArgumentGroup, option: Option) -> None:
    names = [option.short, option.flag] if option.short else [option.flag]
    text = f"{option.help}{shown_default(option.name)} [{option.variable}]".replace("%", "%%")
    if option.name in FLAGS:
        group.add_argument(*names, dest=option.name, action="store_true", help=text)
    else:
        action = "append" if option.name == "model_alias" else "store"
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
            hint = f"; did you mean {meant}?" if meant else ""
            raise UsageError(f"unknown environment variable {ascii(variable)[1:-1]}{hint}")
    return {name: environ[variable] for variable, name in known.items() if environ.get(variable)}


def parse_number(text: str, units: Mapping[str, float]) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in units:
        raise UsageError(
            f"expected a number, with {', '.join(filter(None, units))} or no unit, got {text!r}"
        )
    return float(match[1]) * units[match[2]]


def parse_aliases(pairs: Sequence[str]) -> dict[str, str]:
    aliases: dict[str, str] = {}
    for pair in pairs:
        name, sign, model = pair.partition("=")
        if not (name.strip() and sign and model.strip()):
            raise UsageError(f"expected NAME=MODEL, got {pair!r}")
        aliases[name.strip().lower()] = model.strip()
    return aliases


def parse_value(name: str, raw: Any) -> Any:
    """A flag's or a variable's text as the value that Settings wants."""
    if name == "model_alias":
        return parse_aliases(raw if isinstance(raw, list) else raw.split(","))
    if name in BYTES:
        size = parse_number(raw.lower().removesuffix("ib").removesuffix("b"), SIZES)
        return int(size) if size.is_integer() else size
    if name in DURATIONS:
        return parse_number(raw, UNITS)
    if name in FLAGS and isinstance(raw, str):
        lowered = raw.strip().lower()
        if lowered not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
            raise UsageError(f"expected true or false, got {raw!r}")
        return lowered in ("1", "true", "yes", "on")
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


def load(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[Settings, str]:
    """Settings and the command (``serve`` or ``key``). Raises UsageError; --help exits 0."""
    check_flags(argv)
    given = vars(build_parser().parse_args(argv))
    command = given.pop("command", None) or "serve"
    values = {
        name: convert(name, raw, OPTIONS[name].variable)
        for name, raw in read_environment(environ).items()
        if name not in given
    }
    values |= {name: convert(name, raw, OPTIONS[name].flag) for name, raw in given.items()}
    return Settings(**values), command
