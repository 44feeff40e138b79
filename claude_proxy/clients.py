"""The clients of this proxy: each has a key, by which it is known, and perhaps limits of its own.

There is always ``default``, whose key is the one of ``api_key``. The file of ``--api-keys-file``,
or the systemd credential ``api-keys``, has one more in each line:

    NAME KEY [budget=USD/PERIOD]... [rate=REQUESTS]

where KEY may be ``sha256:`` and the hash of the key in hexadecimal digits. ``#`` begins a comment.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from claude_proxy import small_file
from claude_proxy.api_key import NO_FILE, ApiKey, checked, load_api_key
from claude_proxy.settings import ConfigurationError, Settings, UsageError
from claude_proxy.values import convert

DEFAULT = "default"
CREDENTIAL = "api-keys"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Of keys, by custom; as a name it would be in every log line.
KEY_PREFIX = "sk-"
HASH = re.compile(r"sha256:([0-9A-Fa-f]{64})")


@dataclass(frozen=True, slots=True, repr=False)
class Client:
    """``digest``: SHA-256 of its key. ``budget``: US dollars by period. ``rate`` 0: no limit."""

    name: str
    digest: bytes
    budget: Mapping[str, float] = field(default_factory=dict)
    rate: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Clients:
    """``source``: where the key of ``default`` is from, which may be logged."""

    all: Sequence[Client]
    source: str

    @classmethod
    def of(cls, key: ApiKey, others: Sequence[Client] = ()) -> Self:
        default = Client(DEFAULT, digest(key.value.encode()))
        return cls((default, *others), key.source)

    def has(self, client: Client) -> bool:
        """Whether its key is still one of theirs, with whatever limits."""
        return any(each.digest == client.digest for each in self.all)

    def whose(self, key: bytes) -> Client | None:
        """Takes the same time for every key of that length, whatever the clients' keys are."""
        given = digest(key)
        found = None
        for client in self.all:
            if hmac.compare_digest(client.digest, given):
                found = client
        return found


def digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def load_clients(settings: Settings, environ: Mapping[str, str]) -> Clients:
    """Those in force. Raises ConfigurationError."""
    default = load_api_key(settings, environ)
    path = keys_file(settings, environ)
    clients = Clients.of(default, read(path) if path else ())
    repeated = [one.name for one in clients.all[1:] if one.digest == clients.all[0].digest]
    if repeated:
        raise ConfigurationError(f"{path}: {repeated[0]} has the key of {DEFAULT}")
    return clients


def keys_file(settings: Settings, environ: Mapping[str, str]) -> Path | None:
    try:
        if settings.api_keys_file is not None:
            return Path(settings.api_keys_file).expanduser()
        path = Path(environ.get("CREDENTIALS_DIRECTORY", ""), CREDENTIAL)
        return path if path.is_absolute() and path.exists() else None
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigurationError(f"cannot look for the clients' keys: {error}") from None


def read(path: Path) -> list[Client]:
    """Raises ConfigurationError, which names the line and never shows it."""
    try:
        text = small_file.read(path).decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8, or too large"
        raise ConfigurationError(f"cannot read the keys file {path}: {reason}") from None
    if text.strip() == NO_FILE:
        raise ConfigurationError(
            f"the keys file that the unit's LoadCredential={path.name}:... names is not there"
        )
    clients: list[Client] = []
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.partition("#")[0].split():
            add(clients, words, f"{path}, line {number}")
    return clients


def add(clients: list[Client], words: Sequence[str], place: str) -> None:
    client = parsed(words, place)
    for other in clients:
        if other.name == client.name or other.digest == client.digest:
            raise ConfigurationError(f"{place}: the name or the key is {other.name}'s already")
    clients.append(client)


def parsed(words: Sequence[str], place: str) -> Client:
    """Raises ConfigurationError."""
    name, *rest = words
    if not NAME.fullmatch(name) or name == DEFAULT or name.startswith(KEY_PREFIX):
        raise ConfigurationError(
            f"{place}: a client's name holds letters, digits, '.', '_' and '-', and is not "
            f"{DEFAULT!r}, whose key has its own place"
        )
    if not rest:
        raise ConfigurationError(f"{place}: a name goes before the key, or a key is missing")
    key, *limits = rest
    hashed = HASH.fullmatch(key)
    if key.startswith("sha256:") and not hashed:
        raise ConfigurationError(f"{place}: sha256: takes the 64 hexadecimal digits of a hash")
    known = bytes.fromhex(hashed[1]) if hashed else digest(checked(key, place).encode())
    return Client(name, known, *parsed_limits(limits, place))


def parsed_limits(words: Sequence[str], place: str) -> tuple[Mapping[str, float], int]:
    """Budget and rate. Raises ConfigurationError, which does not say what there is instead."""
    budgets = [word.removeprefix("budget=") for word in words if word.startswith("budget=")]
    rates = [word.removeprefix("rate=") for word in words if word.startswith("rate=")]
    if len(budgets) + len(rates) != len(words) or len(rates) > 1:
        raise ConfigurationError(f"{place}: behind the key only budget=USD/PERIOD and rate=N go")
    try:
        budget: dict[str, float] = convert("budget", budgets, place)
        rate: int = convert("rate", rates[0], place) if rates else 0
    except UsageError:
        raise ConfigurationError(
            f"{place}: expected limits like budget=1.5/day, budget=20/month and rate=30"
        ) from None
    return budget, rate
