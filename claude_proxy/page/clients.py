"""What other programs are to be told of this one, as ``claude-proxy config`` prints it."""

from __future__ import annotations

from claude_proxy.claude.models import Models
from claude_proxy.client_settings import Endpoint, Model, Snippet, all_for, fits


def snippets(url: str, models: Models) -> list[Snippet]:
    """``url``: where the service was reached, without a path. The key is referred to by the command
    that prints it.
    """
    short = [name for name in models.ids() if is_short(name, models)]
    names = filter(fits, dict.fromkeys([models.resolve(""), *short]))
    return all_for(Endpoint(url, [model(name, models) for name in names]))


def is_short(name: str, models: Models) -> bool:
    """A family or an alias, which stays the same when a new model comes."""
    return models.exact(name) != name


def model(name: str, models: Models) -> Model:
    _, _, context, output = models.describe(models.resolve(name))
    return Model(name, context, output)
