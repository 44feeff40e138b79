"""``claude-proxy config CLIENT``: what to tell a client. It shows no key and starts nothing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from claude_proxy.client_settings import CLIENTS, Endpoint, Snippet
from claude_proxy.command_line import Invocation
from claude_proxy.commands import seen
from claude_proxy.commands.external import say
from claude_proxy.listeners import Place
from claude_proxy.settings import ConfigurationError, UsageError


def run(asked: Invocation, environ: Mapping[str, str]) -> int:
    """Raises UsageError or ConfigurationError."""
    if not asked.words:
        say("\n".join(CLIENTS))
        return 0
    (name,) = asked.words
    tell(snippet_of(name, asked, environ))
    return 0


def snippet_of(name: str, asked: Invocation, environ: Mapping[str, str]) -> Snippet:
    if name not in CLIENTS:
        near = difflib.get_close_matches(name, CLIENTS, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(CLIENTS)}"
        raise UsageError(f"unknown client {ascii(name)[1:-1]}{hint}")
    return CLIENTS[name](endpoint(asked, environ))


def endpoint(asked: Invocation, environ: Mapping[str, str]) -> Endpoint:
    return Endpoint(url_of(seen.look(environ).places(asked.settings)))


def url_of(places: list[Place]) -> str:
    for place in places:
        if place.path is None:
            return place.address
    raise ConfigurationError("it listens on a UNIX socket alone, which these clients cannot reach")


def tell(snippet: Snippet) -> None:
    say(f"# {snippet.title}: {snippet.where}")
    say(snippet.text.rstrip("\n"))
