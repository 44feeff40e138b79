"""A request's JSON and query into structs, errors with the place that OpenAI would name. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from claude_proxy.errors import InvalidRequest

Request = TypeVar("Request")

LONGEST_MESSAGE = 500
MOST_NAMES = 32
DEEPEST = 100
# Of values in a request. Each costs some microseconds, in which nobody else is served.
MOST_VALUES = 120_000
MOST_TOOLS = 2_000
NULL = msgspec.Raw(b"null")
SAMPLING = frozenset({"temperature", "top_p"})
_keys = msgspec.json.Decoder(dict[str, msgspec.Raw])


def null() -> msgspec.Raw:
    """What a field that was not given holds; as a plain default no JSON Schema could name it."""
    return NULL


def decode_body(decoder: msgspec.json.Decoder[Request], body: bytes) -> Request:
    """Raises InvalidRequest; ``param`` looks like ``messages[0].role``."""
    if is_wide(body, MOST_VALUES):
        raise InvalidRequest(f"The body holds more than {MOST_VALUES} values")
    try:
        body.decode()  # msgspec does not look into what it skips
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not valid JSON: it is not UTF-8") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}") from None


def is_wide(text: bytes, most: int) -> bool:
    """Whether JSON holds more values than that, told without making them. Of no JSON, anything."""
    if len(text) <= most or beginnings(text) <= most:
        return False
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    strings = 2 * most + 2  # a key and a value each
    pieces = bare.split(b'"', 2 * strings)
    return len(pieces) > 2 * strings or beginnings(b"".join(pieces[::2])) > most


def beginnings(text: bytes) -> int:
    """Where a value may begin; also those that stand in a string."""
    return sum(map(text.count, b"[{,"))


def decode_part(decoder: msgspec.json.Decoder[Request], part: bytes, at: str) -> Request:
    """A part of a body that has been decoded; ``at`` is its place. Raises InvalidRequest."""
    try:
        return decoder.decode(part)
    except msgspec.ValidationError as error:
        raise invalid(str(error), at) from None
    except RecursionError:
        raise InvalidRequest("It is nested too deeply", param=at) from None


def invalid(problem: str, at: str = "") -> InvalidRequest:
    """Takes msgspec's ``problem - at `$.place` `` apart; the problem may quote the client.

    A missing field is named in the text only.
    """
    found = re.fullmatch(r"(?s:(.*)) - at (?:`key` in )?`([^`]*)`", problem)
    message, place = (found[1], found[2]) if found else (problem, "$")
    param = (at + place.removeprefix("$")).lstrip(".")
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", message):
        param = f"{param}.{missing[1]}" if param else missing[1]
    message = message[:LONGEST_MESSAGE]
    # SDKs show the message only, so the place stands in it too.
    return InvalidRequest(f"{param}: {message}" if param else message, param=param or None)


def decode_query(query: Mapping[str, str], kind: type[Request]) -> Request:
    """Raises InvalidRequest."""
    try:
        return msgspec.convert(dict(query), kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None


def refuse(offending: Mapping[str, bool]) -> None:
    """Of a request, what is set and would change the answer's shape. Raises InvalidRequest."""
    for param, offends in offending.items():
        if offends:
            raise InvalidRequest(
                f"claude-proxy does not support this value of '{param}'",
                param=param,
                code="unsupported_parameter",
            )


def json_object(text: bytes) -> dict[str, Any]:
    """JSON inside the JSON. Raises ValueError, also when it is nested deeper than DEEPEST."""
    try:
        value = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(f"not a JSON object ({error})"[:LONGEST_MESSAGE]) from None
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        inner = [one for one in level if isinstance(one, dict | list)]
        if not inner:
            return value
        level = [
            child for one in inner for child in (one.values() if isinstance(one, dict) else one)
        ]
    raise ValueError(f"nested deeper than {DEEPEST} levels")


def names_beyond(effective: frozenset[str], body: bytes, *, sampling: bool) -> list[str]:
    """The top-level fields that the client has set and that are not among ``effective``.

    ``sampling``: whether SAMPLING has an effect, too.
    """
    effective |= SAMPLING if sampling else frozenset()
    return [
        name
        for name, value in _keys.decode(body).items()
        if name not in effective
        and bytes(value) != b"null"
        and re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name)
    ][:MOST_NAMES]
