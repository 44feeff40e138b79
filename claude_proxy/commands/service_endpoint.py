"""Where the service is found, the way to its key, and its models: what clients are to be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from claude_proxy import small_file
from claude_proxy.api_key import ApiKey
from claude_proxy.claude.context import size_of
from claude_proxy.claude.models import ALWAYS
from claude_proxy.client_settings import Endpoint, Model, fits
from claude_proxy.command_line import Invocation
from claude_proxy.commands import program, seen
from claude_proxy.commands.health import reachable
from claude_proxy.commands.install import KEY_FILE, absolute
from claude_proxy.commands.key import key_of
from claude_proxy.directories import configuration_directory
from claude_proxy.listeners import Place, bracketed, places
from claude_proxy.settings import ConfigurationError, Settings
from claude_proxy.values import is_host

ADDRESS = frozenset({"--host", "--port", "--listen"})
ENVIRONMENT = "flag or environment"
CLIENTS = "clients"


def find(asked: Invocation, environ: Mapping[str, str]) -> Endpoint:
    """Of the flags given here, else of the service's unit, else of the settings here. It makes a
    key when there is none. Raises ConfigurationError.
    """
    given = {flag.partition("=")[0] for flag in asked.flags}
    now = seen.look(environ)
    try:
        home = environ.get("HOME") or str(Path.home())
        directory = configuration_directory(environ).absolute() / CLIENTS
    except RuntimeError:
        raise ConfigurationError("there is no home directory; set HOME") from None
    settings = now.settings(home) or asked.settings
    where = places(asked.settings) if given & ADDRESS else now.places(settings)
    key = key_of(asked, environ)
    endpoint = Endpoint(
        url_of(where),
        models(asked.settings.model if "--model" in given else settings.model, settings),
        file_of(key),
        command_of(key, asked, environ),
        str(directory),
    )
    for path in (endpoint.key_file or "", *endpoint.key_command, endpoint.directory):
        check(path)
    for model in endpoint.models:
        check(model.name)
    return endpoint


def check(text: str) -> None:
    """Raises ConfigurationError."""
    if not fits(text):
        raise ConfigurationError(
            f"no client can be told of {text!a}, which is not UTF-8, or not in one line"
        )


def url_of(where: Sequence[Place]) -> str:
    """Of the first place with a port, as a client on this machine reaches it."""
    open_ports = [place for place in where if place.path is None]
    if not open_ports:
        raise ConfigurationError(
            f"the service listens on {where[0]} alone, which these clients cannot reach: give it "
            "an address too, as `claude-proxy install --listen 127.0.0.1:8080` does"
        )
    found = next((place for place in open_ports if place.port), None)
    if found is None:
        raise ConfigurationError("it takes another port each time: say which with --port")
    host = reachable(found.host.strip("[]"))
    if not is_host(host.lower()):  # some texts hold it where a shell reads it
        raise ConfigurationError(
            f"the service listens on {found.host!a}, which is no name or address that a client "
            "could take: say one with --host"
        )
    return f"http://{bracketed(host)}:{found.port}"


def models(default: str, settings: Settings) -> list[Model]:
    """Those that are always there, and the aliases without ``*``, by the sizes of what they are."""
    aliases = {name: of for name, of in settings.model_alias.items() if "*" not in name}
    exact = {name: name for name in (default, *ALWAYS)} | aliases
    sizes = {name: size_of(of) for name, of in exact.items()}
    return [Model(name, size.context, size.output) for name, size in sizes.items()]


def file_of(key: ApiKey) -> str | None:
    """The file that holds this key and nothing else, so that a client may read it whole."""
    path = Path(key.source).expanduser()
    try:
        if path.is_file() and small_file.read(path).decode().strip() == key.value:
            return str(path.absolute())
    except (OSError, ValueError):
        return None
    return None


def command_of(key: ApiKey, asked: Invocation, environ: Mapping[str, str]) -> list[str]:
    """Prints the key."""
    if key.source == ENVIRONMENT:
        return ["printenv", "PROXY_API_KEY"]
    flags = absolute(flag for flag in asked.flags if flag.startswith(KEY_FILE))
    return [*program.words(environ), *flags, "key"]
