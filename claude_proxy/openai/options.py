"""What both APIs of completions let a client set for one answer. Pure."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from claude_proxy.errors import InvalidRequest

Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)] | None
Stop: TypeAlias = str | Annotated[list[str], Meta(max_length=4)] | None
Tokens: TypeAlias = Annotated[int, Meta(ge=1)] | None


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


def includes_usage(options: StreamOptions | None) -> bool:
    return bool(options and options.include_usage)


def stop_sequences(stop: Stop) -> tuple[str, ...]:
    """Raises InvalidRequest."""
    given = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if any(not sequence.strip() for sequence in given):
        raise InvalidRequest("A stop sequence must hold more than white space", param="stop")
    return given
