"""The tools that a client offers, and the choice among them. Pure.

Claude knows functions only. A ``custom`` tool becomes one with a single string, and the tools of
a ``namespace`` functions whose names begin with it; the toolbox knows the way back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import msgspec

from claude_proxy.conversation import Tool, ToolChoice
from claude_proxy.dialect.body import MOST_TOOLS, decode_part
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai import functions
from claude_proxy.openai.functions import FunctionTool, by_mode, named
from claude_proxy.openai.responses import freeform


class Format(msgspec.Struct):
    """Of a custom tool's input: text, or what a grammar allows, which nobody enforces here."""

    type: str = "text"
    syntax: str | None = None
    definition: str | None = None


class CustomTool(msgspec.Struct):
    name: str
    description: str | None = None
    format: Format | None = None


class Namespace(msgspec.Struct):
    name: str
    tools: list[msgspec.Raw]
    description: str | None = None


class ChosenTool(msgspec.Struct):
    """One of ``tool_choice``'s, or of those that it allows."""

    type: str
    name: str | None = None
    namespace: str | None = None


class ChoiceSpec(ChosenTool):
    mode: str | None = None
    tools: list[ChosenTool] | None = None


class _Head(msgspec.Struct):
    type: str = "function"


_head = msgspec.json.Decoder(_Head)
_function = msgspec.json.Decoder(FunctionTool)
_custom = msgspec.json.Decoder(CustomTool)
_namespace = msgspec.json.Decoder(Namespace)


@dataclass(frozen=True, slots=True)
class Origin:
    """What the client calls a tool."""

    name: str
    namespace: str | None = None
    custom: bool = False


class Toolbox:
    """``tools`` as the model sees them; ``ignored`` are the types of those that cannot be had."""

    def __init__(self, specs: list[msgspec.Raw]) -> None:
        """Raises InvalidRequest."""
        self._hosted: dict[str, None] = {}
        self._origins: dict[str, Origin] = {}
        self._names: dict[tuple[str | None, str], str] = {}
        found = list(islice(self._read(specs, "tools", None), MOST_TOOLS + 1))
        self.ignored = list(self._hosted)
        taken = {origin.name for origin, *_ in found if origin.namespace is None}
        given: list[tuple[FunctionTool, str]] = []
        for origin, function, at in found:
            place = (origin.namespace, origin.name)
            if place not in self._names:
                made = self.name(origin.name, origin.namespace)
                self._names[place] = made if origin.namespace is None else unlike(taken, made)
                taken.add(self._names[place])
            name = self._names[place]
            self._origins[name] = origin
            given.append((msgspec.structs.replace(function, name=name), at))
        self.tools: tuple[Tool, ...] = functions.to_tools(given)

    def origin(self, name: str) -> Origin:
        """Of the tool that the model has called."""
        return self._origins.get(name, Origin(name))

    def name(self, name: str, namespace: str | None) -> str:
        """What the model knows it by, also when it is not offered any more."""
        made = name if namespace is None else f"{namespace}__{name}"
        return self._names.get((namespace, name), made)

    def choose(
        self, spec: str | ChoiceSpec | None, *, parallel: bool
    ) -> tuple[ToolChoice, tuple[Tool, ...]]:
        """The choice, and the tools that it leaves. Raises InvalidRequest."""
        if not isinstance(spec, ChoiceSpec):
            word = "auto" if spec is None else spec
            return by_mode(word, self.tools, parallel=parallel), self.tools
        if spec.type == "allowed_tools":
            names = {name for tool in spec.tools or () for name in self._chosen(tool)}
            left = functions.among(names, self.tools, "tool_choice.tools")
            use = functions.mode(spec.mode or "auto", "tool_choice.mode")
            return ToolChoice(use, parallel=parallel), left
        names = self._chosen(spec)
        if spec.type == "namespace" or not names:
            raise InvalidRequest(
                f"A tool_choice of type '{spec.type[:50]}' cannot be had here: name a function or "
                "a custom tool",
                param="tool_choice",
                code="unsupported_value",
            )
        return named(next(iter(names)), self.tools, "tool_choice", parallel=parallel), self.tools

    def _chosen(self, tool: ChosenTool) -> set[str]:
        if tool.type in ("function", "custom") and tool.name is not None:
            return {self.name(tool.name, tool.namespace)}
        if tool.type == "namespace":
            return {name for name, origin in self._origins.items() if origin.namespace == tool.name}
        return set()

    def _read(
        self, specs: list[msgspec.Raw], at: str, namespace: Namespace | None
    ) -> Iterator[tuple[Origin, FunctionTool, str]]:
        prefix = namespace.name if namespace else None
        for index, raw in enumerate(specs):
            here = f"{at}[{index}]"
            kind = decode_part(_head, raw, here).type
            if kind == "function":
                function = decode_part(_function, raw, here)
                yield Origin(function.name, prefix), function, here
            elif kind == "custom":
                tool = decode_part(_custom, raw, here)
                yield Origin(tool.name, prefix, custom=True), as_function(tool), here
            elif kind == "namespace" and namespace is None:
                inner = decode_part(_namespace, raw, here)
                yield from introduced(inner, self._read(inner.tools, f"{here}.tools", inner))
            elif re.fullmatch(r"[\w.-]{1,64}", kind, re.ASCII):
                self._hosted[kind] = None


def unlike(taken: set[str], name: str) -> str:
    while name in taken:
        name += "_"
    return name


def introduced(
    namespace: Namespace, tools: Iterator[tuple[Origin, FunctionTool, str]]
) -> Iterator[tuple[Origin, FunctionTool, str]]:
    """What the client says of them all stands with the first one, as there is no other place."""
    for place, (origin, function, at) in enumerate(tools):
        if place == 0 and namespace.description:
            about = f"About all tools whose names begin with {namespace.name}__: "
            own = [function.description] if function.description else []
            function.description = "\n\n".join([*own, about + namespace.description])
        yield origin, function, at


def as_function(tool: CustomTool) -> FunctionTool:
    description = [tool.description] if tool.description else []
    if tool.format is not None and tool.format.definition:
        syntax = tool.format.syntax or "following"
        description.append(
            f"The input must be what this {syntax} grammar allows:\n{tool.format.definition}"
        )
    schema = msgspec.Raw(freeform.SCHEMA.encode())
    return FunctionTool(tool.name, "\n\n".join(description) or None, schema)
