"""One frozen ``Settings``: built-in defaults < configuration file < environment < flags.

Each ``Option`` below is one setting: its flag, its environment variable, its help. Types and
ranges stand in ``Settings`` and are checked by msgspec, whichever way a value came in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=1_000)]
SecondsOrZero = Annotated[float, Meta(ge=0, le=86_400)]
NonEmpty = Annotated[str, Meta(min_length=1)]
Dollars = Annotated[float, Meta(gt=0, le=1_000_000)]
# Of a budget; they begin at local midnight, on Monday, on the first.
PERIODS = ("day", "week", "month")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All that the program can be told. Durations are seconds, sizes are bytes."""

    def __repr__(self) -> str:
        """Without values, one of which is the key."""
        return "Settings(...)"

    config: NonEmpty | None = None
    host: NonEmpty = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    listen: tuple[NonEmpty, ...] = ()
    allow_remote: bool = False
    allow_host: tuple[NonEmpty, ...] = ()
    allow_origin: tuple[NonEmpty, ...] = ()
    idle_exit: SecondsOrZero = 900.0
    model: NonEmpty = "sonnet"
    api_key: NonEmpty | None = None
    api_key_file: NonEmpty | None = None
    api_keys_file: NonEmpty | None = None
    budget: dict[str, Dollars] = {}
    rate: Annotated[int, Meta(ge=0, le=100_000)] = 0
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
    log_format: Literal["auto", "json", "console", "journal"] = "auto"


@dataclass(frozen=True, slots=True)
class Option:
    """``name`` is the field of Settings; the flag and ``CLAUDE_PROXY_*`` follow from it.

    ``fixed``: what a running program cannot change; all others are read again on SIGHUP.
    """

    name: str
    help: str
    metavar: str | None = None
    env: str | None = None
    short: str | None = None
    fixed: bool = False

    @property
    def key(self) -> str:
        """In the configuration file."""
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        return "--" + self.key

    @property
    def variable(self) -> str:
        return self.env or "CLAUDE_PROXY_" + self.name.upper()


GROUPS: dict[str, tuple[Option, ...]] = {
    "configuration": (
        Option(
            "config",
            "file with any of these settings (TOML, `max-concurrency = 4`); default: "
            "claude-proxy/config.toml in the XDG configuration home, where there is one",
            "PATH",
            fixed=True,
        ),
    ),
    "listening": (
        Option("host", "address to listen on", "ADDRESS", env="HOST", fixed=True),
        Option("port", "port to listen on; 0 takes a free one", "PORT", env="PORT", fixed=True),
        Option(
            "listen",
            "ADDRESS:PORT, [IPV6]:PORT or /path/of/a/socket to listen on instead; repeatable (in "
            "the variable: separated by commas). Sockets that systemd passes go before all of it",
            "WHERE",
            fixed=True,
        ),
        Option(
            "allow_remote",
            "listen also where others can reach it: whoever has the key spends your money, and "
            "what is said is not encrypted",
            fixed=True,
        ),
        Option(
            "allow_host",
            "a further name that clients may call this host by, such as one of a reverse proxy; "
            "repeatable (in the variable: separated by commas)",
            "NAME",
        ),
        Option(
            "allow_origin",
            "an origin, such as https://chat.example, whose pages may use this from a browser; it "
            "may hold *; repeatable (in the variable: separated by commas)",
            "ORIGIN",
        ),
        Option(
            "idle_exit",
            "with sockets of systemd's, end after that long without a request or a living "
            "conversation; the next connection starts it again; 0: never",
            "TIME",
        ),
        Option(
            "max_body_size", "largest request body taken: bytes, or with K, M, G", metavar="SIZE"
        ),
    ),
    "kept responses": (
        Option(
            "store_days",
            "days for which responses are kept; 0: none, nowhere on disk",
            "DAYS",
            fixed=True,
        ),
        Option("store_size", "most that they may take on disk, with K, M, G", "SIZE", fixed=True),
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
        Option(
            "api_keys_file",
            "file with further keys, one client each: NAME and KEY, or sha256: and the key's hash, "
            "then perhaps budget=1/day and rate=10",
            "PATH",
        ),
    ),
    "money": (
        Option(
            "budget",
            "US dollars per day, week or month, after which requests get 429 until the next one; "
            "repeatable (in the variable: separated by commas)",
            "USD/PERIOD",
        ),
        Option("rate", "requests per minute that a client may make; 0: any number", "N"),
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
            fixed=True,
        ),
        Option(
            "demo", "no account needed: the real CLI speaks to a built-in simulator", fixed=True
        ),
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
            "auto: fields in the journal under systemd, console on a terminal, else JSON lines",
            "auto|json|console|journal",
            fixed=True,
        ),
    ),
}
OPTIONS = {option.name: option for group in GROUPS.values() for option in group}
SECRET = frozenset({"api_key"})
FLAGS = frozenset({"demo", "forward_sampling", "allow_remote"})
DURATIONS = frozenset(
    name for name, field in Settings.__annotations__.items() if "Seconds" in str(field)
)
CHOICES = {
    name: get_args(kind)
    for name, kind in get_type_hints(Settings).items()
    if get_origin(kind) is Literal
}
BYTES = frozenset({"max_body_size", "store_size"})
REPEATABLE = frozenset({"model_alias", "listen", "allow_host", "allow_origin", "budget"})


class UsageError(Exception):
    """A flag or a variable that cannot be used; one line for the user (exit code 2)."""


class ConfigurationError(Exception):
    """The configuration is well-formed but cannot work (exit code 78, EX_CONFIG)."""


def shown_default(name: str) -> str:
    default = getattr(Settings(), name)
    if default in (None, {}, ()) or name in FLAGS:
        return ""
    if name in BYTES:
        return f"; default {default // 2**20}M"
    if name in DURATIONS:
        return f"; default {default:g}s"
    return f"; default {default}"
