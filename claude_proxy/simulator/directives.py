"""The language in which a prompt tells the simulator how to answer.

Anywhere in the text of the last user message, its tool results included:
`[simulate key=value key="quoted value" ...]`, as many brackets as you like. Without a bracket
the simulator says that it is one and quotes the prompt. A value is plain (no blank, quote or
`]`), 'single-quoted' (taken literally: good for JSON) or "double-quoted" (knows the escapes \\n,
\\t, \\" and \\\\). If a key that cannot be repeated is given twice, the last one counts. A
malformed bracket is answered with 400: beware of clients that put a tool's result into JSON,
which escapes the double quotes.

What is answered
    text="..."            exactly this text, one delta a word; not where a tool call is forced
    tokens=N              N words "w0 w1 w2 ...", one delta each
    thinking=N            first a thinking block of N deltas and a signature; nothing if the request
                          has thinking off; no deltas but the signature if its display is "omitted"
    redacted=1            also a redacted_thinking block
    tool=NAME             a call of this tool; repeatable
    input='{"k": 1}'      its input (belongs to the `tool` before it); if left out, a sample that
                          fits the tool's input_schema
    input_chunk=N         characters in one delta of a tool input (8)
    stop=REASON           stop_reason refusal, max_tokens, model_context_window_exceeded,
                          pause_turn, end_turn or tool_use after the content

When
    first_delay_ms=M      milliseconds before the status line and message_start
    delay_ms=M            milliseconds between two deltas
    hold_before=NAME      waits before the status line until `POST /simulator/release/NAME`
    hold=NAME             waits inside the answer in the same way; repeatable
    hold_after=K          where: after K deltas (0, the default: after message_start; belongs to the
                          `hold` before it). A hold ends by itself after 120 s

What goes wrong
    error=STATUS          400, 401, 402, 403, 404, 413, 429, 500, 504 or 529 in place of an answer
    message="..."         its message
    retry_after=S         its `retry-after` header, in seconds
    stream_error=K        an `error` event (overloaded_error) after K deltas
    break=K               the connection closes in mid-stream, 0.1 s after K deltas
    torn=1                the last event is cut in its middle and the connection closes
    times=N               error, stream_error, break and torn only befall the first N requests with
                          the same last user text
    header="name: value"  an extra response header; repeatable

Every content_block_delta counts as a delta for K, signatures and the empty first piece of a tool
input included; K beyond the last delta means after the last. stream_error, break and torn concern
streamed answers only: without `stream` the answer is a normal one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from claude_proxy.simulator.errors import ERROR_TYPES, ApiError, invalid

STOP_REASONS = (
    "refusal",
    "max_tokens",
    "model_context_window_exceeded",
    "pause_turn",
    "end_turn",
    "tool_use",
)
MAX_NUMBER = 10_000_000  # no typing error shall make the simulator eat all memory

_OPEN = re.compile(r"\[simulate(?=[\s\]])")
_CLOSE = re.compile(r"\s*\]")
_ITEM = re.compile(
    r"""\s+(?P<key>[a-z_]+)=
        (?:"(?P<double>(?:\\.|[^"\\])*)" | '(?P<single>[^']*)' | (?P<plain>[^\s\]"']*))
        (?=[\s\]])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r'\\([nt"\\])')
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([\x20-\x7e]*)")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`input`: JSON text of an object, or None for a sample."""

    name: str
    input: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait for the release of `name` after `after` deltas."""

    name: str
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Directives:
    """All brackets of one prompt together; the defaults are those of a prompt without any."""

    text: str | None = None
    tokens: int | None = None
    thinking: int = 0
    redacted: bool = False
    tools: tuple[ToolCall, ...] = ()
    input_chunk: int = 8
    stop: str | None = None
    first_delay_ms: int = 0
    delay_ms: int = 0
    hold_before: str | None = None
    holds: tuple[Hold, ...] = ()
    error: int | None = None
    message: str | None = None
    retry_after: str | None = None
    stream_error: int | None = None
    break_after: int | None = None
    torn: bool = False
    times: int | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def without_failures(self) -> Directives:
        return replace(self, error=None, stream_error=None, break_after=None, torn=False)


def read(texts: Iterable[str]) -> Directives:
    """The directives in `texts`; ApiError 400 names a malformed one."""
    build = _Builder()
    for text in texts:
        for bracket, _, items in _brackets(text):
            for key, value in items:
                try:
                    build.add(key, value)
                except ValueError as error:
                    raise _malformed(bracket, f"{key}: {error}") from None
    return build.done()


def strip(text: str) -> str:
    """`text` without its brackets."""
    kept, end = [], 0
    for bracket, start, _ in _brackets(text):
        kept.append(text[end:start])
        end = start + len(bracket)
    return "".join([*kept, text[end:]]).strip()


def _brackets(text: str) -> Iterator[tuple[str, int, list[tuple[str, str]]]]:
    """Each bracket: its source, where it starts, its (key, value) items."""
    position = 0
    while opening := _OPEN.search(text, position):
        position = opening.end()
        items = []
        while item := _ITEM.match(text, position):
            items.append((item["key"], _value(item)))
            position = item.end()
        closing = _CLOSE.match(text, position)
        if closing is None:
            near = text[position : position + 40].strip()
            raise _malformed(text[opening.start() : position + 40], f"cannot read {near!r}")
        position = closing.end()
        yield text[opening.start() : position], opening.start(), items


def _value(item: re.Match[str]) -> str:
    if item["double"] is not None:
        return _ESCAPE.sub(lambda escape: _ESCAPES[escape[1]], item["double"])
    return str(item["plain"] if item["single"] is None else item["single"])


def _malformed(bracket: str, why: str) -> ApiError:
    return invalid(f"malformed simulator directive {bracket!r}: {why}")


class _Builder:
    """Collects items in their order, because `input` and `hold_after` belong to the one before."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.tools: list[ToolCall] = []
        self.holds: list[Hold] = []
        self.headers: list[tuple[str, str]] = []

    def add(self, key: str, value: str) -> None:
        match key:
            case "tool":
                self.tools.append(ToolCall(_name(value)))
            case "input":
                if not self.tools or self.tools[-1].input is not None:
                    raise ValueError("there is no tool= before it")
                self.tools[-1] = replace(self.tools[-1], input=_object(value))
            case "hold":
                self.holds.append(Hold(_name(value)))
            case "hold_after":
                if not self.holds or self.holds[-1].after is not None:
                    raise ValueError("there is no hold= before it")
                self.holds[-1] = replace(self.holds[-1], after=_number(value))
            case "header":
                self.headers.append(_header(value))
            case _ if key in _FIELDS:
                field, convert = _FIELDS[key]
                self.fields[field] = convert(value)
            case _:
                raise ValueError("there is no such key")

    def done(self) -> Directives:
        return Directives(
            **self.fields,
            tools=tuple(self.tools),
            holds=tuple(self.holds),
            headers=tuple(self.headers),
        )


def _number(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) > MAX_NUMBER:
        raise ValueError(f"{value!r} is not a whole number from 0 to {MAX_NUMBER}")
    return int(value)


def _positive(value: str) -> int:
    if _number(value) == 0:
        raise ValueError("must be at least 1")
    return _number(value)


def _flag(value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError(f"{value!r} is neither 0 nor 1")
    return value == "1"


def _name(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return value


def _object(value: str) -> str:
    try:
        msgspec.json.decode(value, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValueError(f"not a JSON object: {error}") from None
    return value


def _stop(value: str) -> str:
    if value not in STOP_REASONS:
        raise ValueError(f"{value!r} is not one of {', '.join(STOP_REASONS)}")
    return value


def _status(value: str) -> int:
    if not value.isdecimal() or int(value) not in ERROR_TYPES:
        raise ValueError(f"{value!r} is not one of {', '.join(map(str, ERROR_TYPES))}")
    return int(value)


def _header(value: str) -> tuple[str, str]:
    found = _HEADER.fullmatch(value)
    if found is None:
        raise ValueError(f"{value!r} is not 'name: value'")
    return found[1].lower(), found[2]


_FIELDS: dict[str, tuple[str, Callable[[str], object]]] = {
    "text": ("text", str),
    "tokens": ("tokens", _number),
    "thinking": ("thinking", _number),
    "redacted": ("redacted", _flag),
    "input_chunk": ("input_chunk", _positive),
    "stop": ("stop", _stop),
    "first_delay_ms": ("first_delay_ms", _number),
    "delay_ms": ("delay_ms", _number),
    "hold_before": ("hold_before", _name),
    "error": ("error", _status),
    "message": ("message", str),
    "retry_after": ("retry_after", lambda value: str(_number(value))),
    "stream_error": ("stream_error", _number),
    "break": ("break_after", _number),
    "torn": ("torn", _flag),
    "times": ("times", _number),
}
