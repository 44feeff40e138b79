"""The input of a ``custom`` tool, which is plain text, inside a call's JSON arguments. Pure.

Claude's tools take JSON objects only, so a custom tool is one with a single string.
"""

from __future__ import annotations

import json
import re

import msgspec

FIELD = "input"
SCHEMA = (
    '{"type":"object","properties":{"input":{"type":"string",'
    '"description":"The whole input of the tool, as plain text"}},'
    '"required":["input"],"additionalProperties":false}'
)
LONGEST_OPENING = 100
LONGEST_ESCAPE = len(r"\ud83d\ude0")
OPENING = re.compile(r'\s*\{\s*"input"\s*:\s*"')
# Of a JSON string, what can be read: no half escape, and no half of a surrogate pair. So many of
# them at a time that what the matching remembers stays small; to be told to remember nothing, by
# possessive quantifiers, is misread by Python 3.11.2, which is Debian's.
READABLE = re.compile(
    r'(?:[^"\\]+|\\["\\/bfnrt]|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}'
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}){1,1000}"
)


def to_arguments(text: str) -> str:
    return msgspec.json.encode({FIELD: text}).decode()


def readable(text: str) -> int:
    """Up to where."""
    end = 0
    while found := READABLE.match(text, end):
        end = found.end()
    return end


class FreeformInput:
    """``feed`` pieces of the arguments, get pieces of the text; all of them are the input."""

    def __init__(self) -> None:
        self._arguments: list[str] = []
        self._given: list[str] = []
        self._unread = ""
        self._opened = self._closed = False

    def feed(self, piece: str) -> str:
        self._arguments.append(piece)
        if self._closed:
            return ""
        self._unread += piece
        if not self._opened and not self._open():
            return ""
        end = readable(self._unread)
        encoded, self._unread = self._unread[:end], self._unread[end:]
        self._closed = self._unread.startswith('"') or len(self._unread) > LONGEST_ESCAPE
        text = str(json.loads(f'"{encoded}"', strict=False))
        self._given.append(text)
        return text

    def end(self) -> str:
        """The piece that is left over; of arguments that were cut off, nothing."""
        given, whole = "".join(self._given), self._whole()
        return whole[len(given) :] if whole.startswith(given) else ""

    def _open(self) -> bool:
        opening = OPENING.match(self._unread)
        if opening is not None:
            self._opened = True
            self._unread = self._unread[opening.end() :]
        elif len(self._unread) > LONGEST_OPENING:
            self._closed = True  # something else: it is passed on at the end
        return self._opened

    def _whole(self) -> str:
        """A model that did not keep to the schema is passed on as it spoke, if that is JSON."""
        arguments = "".join(self._arguments)
        try:
            value = json.loads(arguments, strict=False)
        except (ValueError, RecursionError):
            return ""
        if not value:
            return ""
        text = value.get(FIELD) if isinstance(value, dict) else None
        if not isinstance(text, str):
            text = arguments
        return re.sub("[\ud800-\udfff]", "\ufffd", text)
