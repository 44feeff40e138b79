"""``claude-proxy config CLIENT``: what to tell a client. It shows no key and starts nothing."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from claude_proxy.client_settings import CLIENTS, File, Snippet
from claude_proxy.command_line import Invocation
from claude_proxy.commands import own_files, service_endpoint
from claude_proxy.commands.external import say
from claude_proxy.settings import UsageError


def run(asked: Invocation, environ: Mapping[str, str]) -> int:
    """Raises UsageError or ConfigurationError."""
    if asked.dry_run and not asked.write:
        raise UsageError("--dry-run: config does something with --write only")
    if asked.write and not asked.words:
        raise UsageError("--write: of which client? `claude-proxy config` lists them")
    if not asked.words:
        say("\n".join(CLIENTS))
        return 0
    (name,) = asked.words
    render = CLIENTS.get(name)
    if render is None:
        raise UsageError(f"unknown client {ascii(name)[1:-1]}{hint(name)}")
    snippets = render(service_endpoint.find(asked, environ))
    if asked.write:
        return write(snippets, environ, rehearsed=asked.dry_run)
    tell(snippets, environ)
    return 0


def hint(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), CLIENTS, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(CLIENTS)}"


def tell(snippets: Sequence[Snippet], environ: Mapping[str, str]) -> None:
    """Each below a line that says where it goes, a comment of its own language."""
    for number, snippet in enumerate(snippets):
        if number:
            say()
        where = str(path_of(snippet.file, environ)) if snippet.file else snippet.where
        sign = "//" if snippet.language in own_files.SLASHES else "#"
        say(f"{sign} --- {snippet.title}: {where}")
        say(snippet.text.rstrip("\n"))
    if any(snippet.file for snippet in snippets) and sys.stdout.isatty():
        say(f"\n# --write writes the files: claude-proxy config {snippets[0].client} --write")


def write(snippets: Sequence[Snippet], environ: Mapping[str, str], *, rehearsed: bool) -> int:
    """The files, all or none; what is no file is told. Raises ConfigurationError."""
    texts = {
        path_of(snippet.file, environ): own_files.marked(snippet.text, snippet.language)
        for snippet in snippets
        if snippet.file
    }
    for path in texts:
        own_files.refuse_foreign(path)
    if not rehearsed:
        own_files.write(texts)
    for path in texts:
        say(f"{'would write' if rehearsed else 'wrote'} {path}")
    if not texts:
        say(f"{snippets[0].title} reads no file that is its own: nothing is written, paste this")
    say()
    tell([snippet for snippet in snippets if not snippet.file], environ)
    return 0


def path_of(file: File, environ: Mapping[str, str]) -> Path:
    """Raises ConfigurationError for one that cannot be told in a line."""
    directory = environ.get(file.variable) or file.directory
    home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - no error without a home
    rest = directory.removeprefix("~/")
    path = Path(directory) if rest == directory else Path(home, rest)
    service_endpoint.check(str(path))
    return path.absolute() / file.name
