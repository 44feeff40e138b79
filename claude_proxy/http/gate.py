"""Who may speak to this program at all, before any key is looked at: hosts and origins.

A page in the user's browser can reach loopback. It is kept out in two ways. A page whose own
name was pointed at 127.0.0.1 (DNS rebinding) has that name in ``Host``. Any other page is of
another origin, which browsers send along, and which they ask for in a preflight (Fetch standard;
Private Network Access for what is public and wants to reach what is local).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from claude_proxy.errors import PermissionDenied
from claude_proxy.settings import Settings

LONGEST_SHOWN = 100
# A name has 253 characters at most. Against a pattern with several * a much longer one would take
# seconds, in which nobody else is served.
LONGEST_ORIGIN = 300
PREFLIGHT_SECONDS = 600
# Beyond what browsers show of any answer.
EXPOSED = (
    "x-request-id, request-id, retry-after, x-should-retry, openai-processing-ms, "
    "x-claude-proxy-ignored, x-claude-proxy-budget, x-claude-proxy-plan, "
    "x-ratelimit-limit-requests, "
    "x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-reset-tokens"
)
TOKENS = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:@/\[\]]+)(:\d{0,5})?")


class HostNotAllowed(PermissionDenied):
    code = "host_not_allowed"


class OriginNotAllowed(PermissionDenied):
    code = "origin_not_allowed"


def check(scope: Scope, headers: Headers, settings: Settings) -> str | None:
    """The origin of the page that asks, None when it is no page. Raises PermissionDenied."""
    check_host(scope, headers, settings)
    origin = headers.get("origin")
    if origin is None:
        check_fetch_site(headers)
        return None
    if not is_allowed_origin(origin, headers, settings.allow_origin):
        raise OriginNotAllowed(
            f"Pages of {shown(origin)} may not use claude-proxy from a browser; "
            "--allow-origin lets them"
        )
    return origin


def check_host(scope: Scope, headers: Headers, settings: Settings) -> None:
    """``Host`` must be a name of this machine. An HTTP/1.0 client need not send one; browsers do,
    and they do not reach UNIX sockets.
    """
    server = scope.get("server")
    given = headers.get("host")
    if given is None or server is None or server[1] is None:
        return
    host = host_of(given)
    if host is None or not (is_loopback(host) or host in known(server[0], settings)):
        raise HostNotAllowed(
            f"{shown(given)} is no name of this server that it knows; --allow-host adds one"
        )


def check_fetch_site(headers: Headers) -> None:
    """What a page fetches without an origin: a picture, a script. A link that is followed is not
    that.
    """
    foreign = headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
    if foreign and headers.get("sec-fetch-mode") != "navigate":
        raise OriginNotAllowed("Pages of other sites may not use claude-proxy from a browser")


def host_of(authority: str) -> str | None:
    """Without port and brackets, in lower case; None when it is none."""
    found = AUTHORITY.fullmatch(authority.strip())
    return found[1].strip("[]").rstrip(".").lower() if found else None


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def known(server: str, settings: Settings) -> set[str]:
    """The address that the connection came to, and what the user has named."""
    listened = [host_of(where) for where in settings.listen if not where.startswith("/")]
    named = [host.strip("[]") for host in settings.allow_host]
    return {
        # IPv4 on a socket of both (systemd's are) has its address in IPv6's form.
        server.partition("%")[0].lower().removeprefix("::ffff:"),
        settings.host.lower(),
        *filter(None, listened),
        *named,
    }


def is_allowed_origin(origin: str, headers: Headers, allowed: Sequence[str]) -> bool:
    """Its own pages, whose ``Host`` has been seen to be good, and those that the user has named."""
    if origin.lower() == f"http://{headers.get('host', '').lower()}":
        return True
    return any(matches(pattern, origin.lower()) for pattern in allowed)


def matches(pattern: str, origin: str) -> bool:
    """``*`` stands for a part of the name, or, alone, for everybody."""
    if len(origin) > LONGEST_ORIGIN:
        return False
    if pattern == "*":
        return True
    return bool(re.fullmatch("[^/]*".join(map(re.escape, pattern.split("*"))), origin))


def shown(text: str) -> str:
    return ascii(text[:LONGEST_SHOWN])[1:-1]


def is_preflight(scope: Scope, headers: Headers) -> bool:
    return (
        scope["method"] == "OPTIONS"
        and "origin" in headers
        and "access-control-request-method" in headers
    )


def preflight(headers: Headers) -> Response:
    """What an allowed page may send. It cannot send the key along yet, so none is asked for."""
    answer = {
        "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
        "access-control-max-age": str(PREFLIGHT_SECONDS),
    }
    wanted = headers.get("access-control-request-headers", "").strip()
    if TOKENS.fullmatch(wanted):
        answer["access-control-allow-headers"] = wanted
    if headers.get("access-control-request-private-network") == "true":
        answer["access-control-allow-private-network"] = "true"
    return Response(status_code=204, headers=answer)


def cors(origin: str) -> Mapping[str, str]:
    """For every answer to a page that is allowed, errors included."""
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": EXPOSED,
        "vary": "Origin, Access-Control-Request-Headers",
    }
