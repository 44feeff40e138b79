"""HTTP for many clients at once: HTTP/1.0, so one connection a request and no chunks to undo."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

READ_SIZE = 1 << 16
LIMIT = 300.0  # seconds, for one answer


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` is 0 when there was none. Times are seconds after the request."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    begun: float
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def last_event(self) -> Any:
        """Of a stream, the last frame with JSON in it."""
        frames = [line for line in self.body.split(b"\n") if line.startswith(b"data: {")]
        return json.loads(frames[-1][len(b"data: ") :])

    @property
    def may_retry(self) -> bool:
        """A refusal that says when to come back."""
        return self.status in (429, 503) and self.headers.get("retry-after", "").isdigit()


def request(method: str, path: str, body: Any, key: str) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.0\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n"
        f"accept: application/json\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


@asynccontextmanager
async def connected(
    port: int,
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter], None]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def ask(port: int, method: str, path: str, body: Any = None, *, key: str) -> Answer:
    """The whole answer; status 0 when the connection breaks or it takes longer than LIMIT."""
    start = time.perf_counter()
    begun = 0.0
    data = bytearray()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(LIMIT), connected(port) as (reader, writer):
            writer.write(request(method, path, body, key))
            while part := await reader.read(READ_SIZE):
                begun = begun or time.perf_counter() - start
                data += part
    return parsed(bytes(data), begun, time.perf_counter() - start)


async def leave(port: int, path: str, body: Any, *, key: str, after: bytes) -> bool:
    """Goes away when ``after`` has come; False when it did not."""
    data = b""
    async with asyncio.timeout(LIMIT), connected(port) as (reader, writer):
        writer.write(request("POST", path, body, key))
        while after not in data:
            if not (part := await reader.read(READ_SIZE)):
                return False
            data += part
    return True


def parsed(data: bytes, begun: float, seconds: float) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    headers = {name.lower(): value for name, _, value in pairs}
    words = first.split()
    status = int(words[1]) if len(words) > 1 else 0
    return Answer(status, headers, body, begun, seconds)
