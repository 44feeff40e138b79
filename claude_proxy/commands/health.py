"""What a daemon that runs says of itself: ``GET /health``, which asks for no key."""

from __future__ import annotations

import http.client
import ipaddress
import socket
from collections.abc import Iterable
from contextlib import closing

import msgspec

from claude_proxy.listeners import Place

# Seconds. Whether it lives is answered at once; for its login it may have to ask the CLI, and
# gives that 10 s.
LIFE_PATIENCE = 3.0
LOGIN_PATIENCE = 15.0
LONGEST_ANSWER = 65_536


class Health(msgspec.Struct, frozen=True):
    """The part of the answer that is told here."""

    version: str
    claude_version: str
    logged_in: bool | None = None
    login: str | None = None
    simulated: bool = False


def ask(places: Iterable[Place]) -> tuple[Place, Health] | None:
    """The first that answers as a claude-proxy does."""
    for place in places:
        if (health := answer_of(place)) is not None:
            return place, health
    return None


def answer_of(place: Place) -> Health | None:
    try:
        got(place, "text/plain", LIFE_PATIENCE)
        return msgspec.json.decode(got(place, "application/json", LOGIN_PATIENCE), type=Health)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError, UnicodeError):
        return None


def got(place: Place, kind: str, patience: float) -> bytes:
    """Raises OSError or HTTPException."""
    with closing(connected(place, patience)) as stream:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = stream
        connection.request("GET", "/health", headers={"Accept": kind, "Connection": "close"})
        return connection.getresponse().read(LONGEST_ANSWER)


def connected(place: Place, patience: float) -> socket.socket:
    """Raises OSError."""
    if place.path is not None:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.settimeout(patience)
        try:
            stream.connect(str(place.path))
        except OSError:
            stream.close()
            raise
        return stream
    return socket.create_connection((reachable(place.host), place.port), patience)


def reachable(host: str) -> str:
    """Where one connects to what listens on every address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"
