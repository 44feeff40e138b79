"""Model names: what the CLI lists, and which of them a client means.

``haiku``, ``sonnet`` and ``opus`` are always there, so that a list that could not be had yet
stops nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from claude_proxy.claude.context import size_of
from claude_proxy.errors import ModelNotFound

LONGEST_NAME = 256
ALWAYS = ("haiku", "sonnet", "opus")


class ModelInfo(msgspec.Struct, rename="camel"):
    """One entry of the CLI's ``list_models``."""

    value: str
    resolved_model: str = ""
    display_name: str = ""


class ModelList(msgspec.Struct):
    models: list[ModelInfo]


def parse_list(response: Any) -> list[ModelInfo]:
    """The models of a ``list_models`` or ``initialize`` response; none when it holds none."""
    try:
        return msgspec.convert(response, ModelList).models
    except msgspec.ValidationError:
        return []


class Models:
    """The names in force; ``update`` replaces what the CLI listed."""

    def __init__(self, default: str, aliases: Mapping[str, str]) -> None:
        self._names: dict[str, str] = {}
        self._families: tuple[str, ...] = ALWAYS
        self.configure(default, aliases)
        self.update(())

    def configure(self, default: str, aliases: Mapping[str, str]) -> None:
        self._default = default
        self._aliases = dict(aliases)

    def update(self, listed: Sequence[ModelInfo]) -> None:
        families = list(ALWAYS)
        exact: list[str] = []
        for model in listed:
            value = model.value
            if value == "default":
                exact.append(model.resolved_model)
            elif re.fullmatch(r"[a-z]+", value):
                families.append(value)
                exact.append(model.resolved_model)
            else:
                exact += [value, model.resolved_model]
        self._families = tuple(dict.fromkeys(families))
        self._shown = {model.resolved_model: model.display_name for model in listed}
        self._shown |= {model.value: model.display_name for model in listed}
        self._exact = {model.value.lower(): model.resolved_model for model in listed}
        ids = dict.fromkeys([*self._families, *filter(None, exact)])
        self._names = {name.lower(): name for name in ids}

    def ids(self) -> list[str]:
        """Everything that ``GET /v1/models`` names: families, exact ids, aliases without ``*``."""
        plain = [name for name in self._aliases if "*" not in name and name not in self._names]
        return [*self._names.values(), *plain]

    def exact(self, name: str) -> str | None:
        """The id of a model that ``ids`` names; None when the CLI has not told it."""
        return self._exact.get(name.lower()) or (name if name in self._shown else None)

    def describe(self, name: str) -> tuple[str, str, int, int]:
        """The name itself, and the one that people read; tokens that it takes, and gives."""
        exact = self.exact(name) or name
        size = size_of(exact)
        return name, self._shown.get(name) or name, size.context, size.output

    def described(self) -> list[tuple[str, str, int, int]]:
        return [self.describe(name) for name in self.ids()]

    def resolve(self, name: str) -> str:
        """The name that the CLI takes for ``name``. Raises ModelNotFound."""
        wanted = name.strip().lower()
        if len(wanted) > LONGEST_NAME:
            raise ModelNotFound("The name of the model is too long", param="model")
        for pattern, model in self._aliases.items():
            if wanted and re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), wanted, re.DOTALL):
                return self._known(model) or model
        if wanted in ("", "default", "claude"):
            return self._known(self._default) or self._default
        found = self._known(wanted)
        if found is None:
            raise ModelNotFound(
                f"The model '{name[:200]}' does not exist here. Known models: "
                f"{', '.join(self.ids())}. Others can be mapped: --model-alias 'gpt-*=sonnet'.",
                param="model",
            )
        return found

    def _known(self, name: str) -> str | None:
        """An exact id as the CLI writes it, else the family that the name belongs to."""
        whole = name.strip().lower()
        bare = whole.rsplit("/", 1)[-1]
        for exact in (whole, bare):
            if exact in self._names:
                return self._names[exact]
        bare = re.sub(r"[_.\s]+", "-", bare)
        if bare in self._names:
            return self._names[bare]
        families = "|".join(self._families)
        match = re.fullmatch(rf"(?:claude-)?(?:[\d-]+-)?({families})(?:[-@:][\w@:-]*)?", bare)
        return match[1] if match else None
