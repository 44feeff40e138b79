"""JSON against the types that OpenAI publishes, strictly; and a Responses stream's order.

The models of the `openai` package allow unknown fields, and its client builds them without
validation: what they take in proves nothing. Their annotations are the published schema,
so they are read here as one. Two things they cannot say: a field that the schema requires but
lets be null has the default None in them, and looks optional; and bounds and patterns are lost.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

import pydantic
from typing_extensions import get_type_hints, is_typeddict

SCALARS = {str: "str", int: "int", float: "float", bool: "bool", type(None): "null"}
ARRAYS = ("list", "Iterable", "Sequence", "SequenceNotStr")
TAGS = ("type", "role", "object")


def problems(value: Any, kind: Any, *, extensions: frozenset[str] = frozenset()) -> list[str]:
    """What is wrong with decoded JSON as that type: `$.output[0].id: missing`, and so on.

    `extensions` are the fields that may be there although the type does not know them, each
    as the way from the root in names joined by dots, without indices: `error`,
    `output.content.foo`, `response.output.foo` of an event. What is in them is not looked at.
    """
    return list(_Checker(extensions).check(value, kind, _Place()))


@dataclass(frozen=True)
class _Place:
    path: str = "$"  # to be read
    name: str = ""  # as extensions name it

    def of(self, name: str) -> _Place:
        shown = f".{name}" if name.isidentifier() else f"[{name!r}]"
        return _Place(self.path + shown, f"{self.name}.{name}" if self.name else name)

    def at(self, index: int) -> _Place:
        return _Place(f"{self.path}[{index}]", self.name)


@dataclass(frozen=True)
class _Field:
    kind: Any
    required: bool


def _plain(kind: Any) -> tuple[Any, list[str]]:
    """The type without what only surrounds it, and the discriminators found there."""
    found = []
    while (origin := get_origin(kind)) in (Annotated, Required, NotRequired):
        kind, *metadata = get_args(kind)
        if origin is Annotated:
            found += [tag for data in metadata if (tag := getattr(data, "discriminator", None))]
    return kind, found


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _variants(kind: Any) -> tuple[list[Any], list[str]]:
    """A union's members, those of the unions in it too, and its discriminators."""
    kind, tags = _plain(kind)
    if not _is_union(kind):
        return [kind], tags
    members: list[Any] = []
    for member in get_args(kind):
        inner, more = _variants(member)
        members += inner
        tags += more
    return members, tags


def _item_kind(kind: Any) -> Any:
    """What a list holds; None if the type is no list."""
    base = get_origin(kind) or kind
    if getattr(base, "__name__", None) not in ARRAYS:
        return None
    return next(iter(get_args(kind)), Any)


@functools.cache
def _fields(kind: Any) -> dict[str, _Field] | None:
    """The fields of an object by their names on the wire; None if the type is no such object."""
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        return {
            info.alias or name: _Field(
                Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation,
                info.is_required(),
            )
            for name, info in kind.model_fields.items()
        }
    if is_typeddict(kind):
        # Their own account of what is required knows nothing of annotations kept as strings.
        return {
            name: _Field(hint, _is_required(hint, total=name in kind.__required_keys__))
            for name, hint in get_type_hints(kind, include_extras=True).items()
        }
    return None


def _is_required(hint: Any, *, total: bool) -> bool:
    origin = get_origin(hint)
    return origin is Required or (total and origin is not NotRequired)


def _options(kind: Any, name: str) -> tuple[list[Any], bool] | None:
    """The literals that an object has in that field, and whether it may be left out."""
    known = (_fields(kind) or {}).get(name)
    if known is None:
        return None
    members, _ = _variants(known.kind)
    members = [member for member in members if member is not type(None)]
    if any(get_origin(member) is not Literal for member in members):
        return None
    return [option for member in members for option in get_args(member)], not known.required


def _is_one_of(value: Any, options: Iterable[Any]) -> bool:
    return any(type(value) is type(option) and value == option for option in options)


def _none_of(place: _Place, value: Any, options: Iterable[Any]) -> str:
    shown = ", ".join(dict.fromkeys(map(repr, options)))
    return f"{place.path}: {value!r} is none of {shown}"


def _admits(kind: Any, value: Any) -> bool:
    """Whether the JSON type is the right one, whatever is in it."""
    if kind in (Any, object):
        return True
    if get_origin(kind) is Literal:
        return any(type(value) is type(option) for option in get_args(kind))
    if kind in SCALARS:
        return type(value) is kind or (kind is float and type(value) is int)
    if _item_kind(kind) is not None:
        return isinstance(value, list)
    if (get_origin(kind) or kind) is dict or _fields(kind) is not None:
        return isinstance(value, dict)
    raise TypeError(f"there is no rule for the type {kind!r}")


def _expected(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if kind in SCALARS:
        return SCALARS[kind]
    return "object" if _item_kind(kind) is None else "list"


def _got(value: Any) -> str:
    return {dict: "object", type(None): "null"}.get(type(value), type(value).__name__)


def _mismatch(place: _Place, value: Any, kinds: Iterable[Any]) -> str:
    kinds = list(kinds)
    if str in kinds:  # the known ones of any strings are of no interest
        kinds = [kind for kind in kinds if get_origin(kind) is not Literal]
    expected = " or ".join(dict.fromkeys(map(_expected, kinds)))
    return f"{place.path}: expected {expected}, got {_got(value)}"


class _Checker:
    def __init__(self, extensions: frozenset[str]) -> None:
        self.extensions = extensions

    def check(self, value: Any, kind: Any, place: _Place) -> Iterator[str]:
        members, tags = _variants(kind)
        if len(members) > 1:
            yield from self._union(value, members, tags, place)
            return
        kind = members[0]
        if get_origin(kind) is Literal:
            if not _is_one_of(value, get_args(kind)):
                yield _none_of(place, value, get_args(kind))
        elif not _admits(kind, value):
            yield _mismatch(place, value, [kind])
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{place.path}: {value} is not JSON"
        else:
            yield from self._inside(value, kind, place)

    def _inside(self, value: Any, kind: Any, place: _Place) -> Iterator[str]:
        if (known := _fields(kind)) is not None:
            yield from self._object(value, known, place)
        elif (item := _item_kind(kind)) is not None:
            for index, each in enumerate(value):
                yield from self.check(each, item, place.at(index))
        elif get_origin(kind) is dict:
            *_, values = get_args(kind) or (Any,)
            for name, each in value.items():
                yield from self.check(each, values, place.of(name))

    def _object(
        self, value: dict[str, Any], known: dict[str, _Field], place: _Place
    ) -> Iterator[str]:
        for name, expected in known.items():
            if name in value:
                yield from self.check(value[name], expected.kind, place.of(name))
            elif expected.required:
                yield f"{place.of(name).path}: missing"
        for name in value:
            if name not in known and place.of(name).name not in self.extensions:
                yield f"{place.of(name).path}: unknown field"

    def _union(
        self, value: Any, members: list[Any], tags: list[str], place: _Place
    ) -> Iterator[str]:
        suited = [member for member in members if _admits(member, value)]
        if not suited:
            yield _mismatch(place, value, members)
            return
        if isinstance(value, dict):
            for tag in dict.fromkeys([*tags, *TAGS]):
                if len(suited) == 1:
                    break
                narrowed = _narrowed(value, tag, suited)
                if not narrowed:
                    yield _unknown_tag(value, tag, suited, place.of(tag))
                    return
                suited = narrowed
        yield from min((list(self.check(value, member, place)) for member in suited), key=len)


def _narrowed(value: dict[str, Any], tag: str, members: list[Any]) -> list[Any]:
    """The members that this value of the tag names; else those that do not insist on one."""
    said = value.get(tag)
    options = [_options(member, tag) for member in members]
    if not any(options):
        return members
    pairs = list(zip(members, options, strict=True))
    named = [member for member, known in pairs if known and _is_one_of(said, known[0])]
    if named or said is None:
        return named or [member for member, known in pairs if known is None or known[1]]
    return [
        member
        for member, known in pairs
        if known is None and tag in (fields if (fields := _fields(member)) is not None else value)
    ]


def _unknown_tag(value: dict[str, Any], tag: str, members: list[Any], place: _Place) -> str:
    if tag not in value:
        return f"{place.path}: missing"
    known = [options for member in members if (options := _options(member, tag)) is not None]
    return _none_of(place, value[tag], [option for options, _ in known for option in options])


# The order of a stream

STATUS = {
    "response.created": "in_progress",
    "response.in_progress": "in_progress",
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}
OPENING = ("response.created", "response.in_progress")
TERMINAL = frozenset(STATUS) - frozenset(OPENING)
WITH_USAGE = TERMINAL
# What an item keeps from its beginning to its end.
KEPT = ("id", "type", "role", "call_id", "name", "namespace")
CALLS = ("function_call", "custom_tool_call")
# The list in the item, and the field in the event that counts it.
PARTS = {
    "response.content_part": ("content", "content_index"),
    "response.reasoning_summary_part": ("summary", "summary_index"),
}
INDICES = dict(PARTS.values())


@dataclass(frozen=True)
class _Text:
    """A text that comes in deltas: the type and the field of what it ends up in."""

    kind: str
    field: str
    parts: str | None = None  # the list of parts that it is in one of; else it is the item's own


TEXTS = {
    "response.output_text": _Text("output_text", "text", "content"),
    "response.refusal": _Text("refusal", "refusal", "content"),
    "response.reasoning_text": _Text("reasoning_text", "text", "content"),
    "response.reasoning_summary_text": _Text("summary_text", "text", "summary"),
    "response.function_call_arguments": _Text("function_call", "arguments"),
    "response.custom_tool_call_input": _Text("custom_tool_call", "input"),
}
BY_KIND = {text.kind: text for text in TEXTS.values()}


@dataclass
class _Open:
    """An item or a part between its beginning and its end."""

    added: dict[str, Any]
    index: int
    deltas: list[str] = field(default_factory=list)
    done: bool = False  # its text's own .done has come

    @property
    def kind(self) -> Any:
        return self.added.get("type")

    @property
    def text(self) -> str:
        return "".join(self.deltas)


@dataclass
class _OpenItem(_Open):
    parts: dict[str, list[Any]] = field(default_factory=lambda: {"content": [], "summary": []})
    part: _Open | None = None
    part_in: str = ""


def sequence_problems(events: Sequence[dict[str, Any]]) -> list[str]:
    """What is wrong with a whole Responses stream, one event with the others.

    Each event by itself is `problems(event, ResponseStreamEvent)`'s business. Only the events of
    texts, reasoning, refusals, functions and custom tools are known; others are problems.
    """
    if not events:
        return ["no events"]
    stream = _Stream(len(events))
    for event in events:
        stream.take(event)
    return stream.problems


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _differences(value: Any, expected: Any, path: str) -> Iterator[str]:
    """Where two JSON values first differ in each branch."""
    if isinstance(value, dict) and isinstance(expected, dict):
        for name in dict.fromkeys([*expected, *value]):
            if (name in value) != (name in expected):
                yield f"{path}.{name}: {'not there before' if name in value else 'missing'}"
            else:
                yield from _differences(value[name], expected[name], f"{path}.{name}")
    elif isinstance(value, list) and isinstance(expected, list):
        if len(value) != len(expected):
            yield f"{path}: {len(value)} of them, not {len(expected)}"
        for index, (one, other) in enumerate(zip(value, expected, strict=False)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif value != expected or type(value) is not type(expected):
        yield f"{path}: {value!r} is not {expected!r}"


class _Stream:
    def __init__(self, length: int) -> None:
        self.length = length
        self.problems: list[str] = []
        self.position = -1
        self.event: dict[str, Any] = {}
        self.previous: Any = None
        self.response_id: Any = None
        self.item: _OpenItem | None = None
        self.added = 0
        self.finished: list[dict[str, Any]] = []
        self.seen: set[tuple[str, str]] = set()

    def take(self, event: dict[str, Any]) -> None:
        self.position += 1
        self.event = event
        kind = event.get("type")
        self._check_order(kind)
        stem, _, end = str(kind).rpartition(".")
        if kind in STATUS:
            self._take_response(kind)
        elif stem == "response.output_item" and end in ("added", "done"):
            self._take_item(end)
        elif stem in PARTS and end in ("added", "done"):
            self._take_part(stem, end)
        elif stem in TEXTS and end in ("delta", "done"):
            self._take_text(TEXTS[stem], end)
        elif kind != "error":
            self._wrong("there is no rule for this type")
        self.previous = kind

    def _wrong(self, what: str) -> None:
        self.problems.append(f"events[{self.position}] {self.event.get('type')}: {what}")

    def _same(self, what: str, value: Any, expected: Any) -> bool:
        """Whether it is, saying so otherwise; True is not 1."""
        same = type(value) is type(expected) and value == expected
        if not same:
            self._wrong(f"{what} is {value!r}, not {expected!r}")
        return same

    def _check_order(self, kind: Any) -> None:
        self._same("sequence_number", self.event.get("sequence_number"), self.position)
        expected = OPENING[self.position] if self.position < len(OPENING) else None
        if kind != expected and (expected is not None or kind in OPENING):
            self._wrong(f"expected {expected or 'no such event'} here")
        is_last = self.position == self.length - 1
        if kind in TERMINAL and not is_last:
            self._wrong("a terminal event is not the last one")
        if is_last and kind not in TERMINAL:
            self._wrong("the last event is not a terminal one")
        if self.previous == "error" and kind != "response.failed":
            self._wrong("only response.failed comes after an error")

    # Responses

    def _take_response(self, kind: str) -> None:
        response = _object(self.event.get("response"))
        if self.response_id is None:
            self.response_id = response.get("id")
        self._same("response.id", response.get("id"), self.response_id)
        self._same("response.status", response.get("status"), STATUS[kind])
        self._check_presence(response, "error", wanted=kind == "response.failed")
        self._check_presence(response, "incomplete_details", wanted=kind == "response.incomplete")
        self._check_presence(response, "usage", wanted=kind in WITH_USAGE)
        for difference in _differences(response.get("output"), self.finished, "response.output"):
            self._wrong(f"{difference}, as in the items done")
        if kind not in TERMINAL:
            return
        if self.item is not None and kind != "response.failed":
            self._wrong(f"the item with output_index {self.item.index} is not done")
        if kind == "response.completed":
            for index, item in enumerate(self.finished):
                self._same(f"output[{index}].status", item.get("status", "completed"), "completed")

    def _check_presence(self, response: dict[str, Any], name: str, *, wanted: bool) -> None:
        if isinstance(response.get(name), dict) != wanted or (
            not wanted and response.get(name) is not None
        ):
            self._wrong(f"response.{name} is not {'an object' if wanted else 'null'}")

    # Items

    def _take_item(self, end: str) -> None:
        item = _object(self.event.get("item"))
        if end == "added":
            self._add_item(item)
        else:
            self._finish_item(item)

    def _add_item(self, item: dict[str, Any]) -> None:
        if self.item is not None:
            self._wrong(f"the item with output_index {self.item.index} is not done yet")
        self._same("output_index", self.event.get("output_index"), self.added)
        self._check_new(item, "id")
        if item.get("type") in CALLS:
            self._check_new(item, "call_id")
        self._same("item.status", item.get("status", "in_progress"), "in_progress")
        for name in INDICES:
            if item.get(name):
                self._wrong(f"item.{name} is not empty yet")
        self._check_empty("item", item)
        self.item = _OpenItem(item, self.added)
        self.added += 1

    def _check_new(self, item: dict[str, Any], name: str) -> None:
        value = item.get(name)
        if not isinstance(value, str) or not value:
            self._wrong(f"item.{name} is {value!r}, not a name")
        elif (name, value) in self.seen:
            self._wrong(f"item.{name} {value!r} is that of an earlier item")
        else:
            self.seen.add((name, value))

    def _check_empty(self, what: str, value: dict[str, Any]) -> None:
        text = BY_KIND.get(str(value.get("type")))
        if text is not None:
            self._same(f"{what}.{text.field}", value.get(text.field), "")

    def _finish_item(self, item: dict[str, Any]) -> None:
        opened = self._open_item(item.get("id"))
        if opened is None:
            return
        for name in KEPT:
            self._same(f"item.{name}", item.get(name), opened.added.get(name))
        if item.get("status", "completed") not in ("completed", "incomplete"):
            self._wrong(f"item.status is {item['status']!r}")
        if opened.part is not None:
            self._wrong(f"the {opened.part_in} part {opened.part.index} is not done")
        for name, parts in opened.parts.items():
            for difference in _differences(_list(item.get(name)), parts, f"item.{name}"):
                self._wrong(f"{difference}, as in the parts done")
        self._check_text("item", item, opened)
        self.finished.append(item)
        self.item = None

    def _open_item(self, item_id: Any) -> _OpenItem | None:
        """The open item, if the event is about it."""
        if self.item is None:
            self._wrong("there is no open item")
            return None
        is_same = self._same("item_id", item_id, self.item.added.get("id"))
        is_there = self._same("output_index", self.event.get("output_index"), self.item.index)
        return self.item if is_same or is_there else None

    def _check_text(self, what: str, value: dict[str, Any], opened: _Open) -> None:
        text = BY_KIND.get(opened.kind)
        if text is None:
            return
        if not opened.done:
            self._wrong(f"the .done of its {text.field} has not come")
        self._same(f"{what}.{text.field}", value.get(text.field), opened.text)

    # Parts

    def _take_part(self, stem: str, end: str) -> None:
        item = self._open_item(self.event.get("item_id"))
        if item is None:
            return
        name, index_name = PARTS[stem]
        index = self.event.get(index_name)
        part = _object(self.event.get("part"))
        if end == "added":
            if item.part is not None:
                self._wrong(f"the {item.part_in} part {item.part.index} is not done yet")
            self._same(index_name, index, len(item.parts[name]))
            self._check_part_kind(part, name)
            self._check_empty("part", part)
            item.part, item.part_in = _Open(part, len(item.parts[name])), name
            return
        opened = self._open_part(item, name)
        if opened is None:
            return
        self._same("part.type", part.get("type"), opened.kind)
        self._check_text("part", part, opened)
        item.parts[name].append(part)
        item.part = None

    def _check_part_kind(self, part: dict[str, Any], name: str) -> None:
        text = BY_KIND.get(str(part.get("type")))
        if text is None or text.parts != name:
            self._wrong(f"part.type is {part.get('type')!r}, which is no part of {name}")

    def _open_part(self, item: _OpenItem, name: str) -> _Open | None:
        """The open part, if the event is about it."""
        if item.part is None or item.part_in != name:
            self._wrong(f"there is no open {name} part")
            return None
        index_name = INDICES[name]
        self._same(index_name, self.event.get(index_name), item.part.index)
        return item.part

    # Texts

    def _take_text(self, text: _Text, end: str) -> None:
        item = self._open_item(self.event.get("item_id"))
        if item is None:
            return
        target = item if text.parts is None else self._open_part(item, text.parts)
        if target is None or not self._same("the open type", target.kind, text.kind):
            return
        if target.done:
            self._wrong(f"the .done of its {text.field} has come already")
        if end == "done":
            target.done = True
            self._same(text.field, self.event.get(text.field), target.text)
            return
        delta = self.event.get("delta")
        if not isinstance(delta, str) or not delta:
            self._wrong(f"delta is {delta!r}")
        else:
            target.deltas.append(delta)
