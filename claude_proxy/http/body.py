"""A request's body, as bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.requests import Request

from claude_proxy import errors

BODY_TIMEOUT = 60.0
# Where a server puts its ``Bodies`` for its requests: in the state of its lifespan.
STATE = "claude_proxy.bodies"


class Bodies:
    """Those that are coming."""

    def __init__(self) -> None:
        self._coming: set[asyncio.Timeout] = set()
        self._patience: float | None = None

    def hurry(self, patience: float) -> None:
        """That long for each from now on: the server is about to end."""
        self._patience = patience
        latest = asyncio.get_running_loop().time() + patience
        for timeout in self._coming:
            timeout.reschedule(min(timeout.when() or latest, latest))

    @asynccontextmanager
    async def coming(self) -> AsyncGenerator[None, None]:
        """Within the block one is read. Raises RequestTimeout, ShuttingDown."""
        patience = BODY_TIMEOUT if self._patience is None else min(self._patience, BODY_TIMEOUT)
        try:
            async with asyncio.timeout(patience) as timeout:
                self._coming.add(timeout)
                try:
                    yield
                finally:
                    self._coming.discard(timeout)
        except TimeoutError:
            if self._patience is not None:
                raise errors.ShuttingDown(errors.NO_LONGER) from None
            raise errors.RequestTimeout(
                "The body did not arrive in time", headers={"connection": "close"}
            ) from None


async def read_body(request: Request, limit: int) -> bytes:
    """Counts while it reads. Raises UnsupportedMediaType, RequestTooLarge, RequestTimeout,
    ShuttingDown.
    """
    media_type = request.headers.get("content-type", "application/json")
    essence = media_type.partition(";")[0].strip().lower()
    if essence != "application/json" and not essence.endswith("+json"):
        raise errors.UnsupportedMediaType("The body must be JSON: Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise errors.UnsupportedMediaType("The body must not be compressed")
    too_large = errors.RequestTooLarge(
        f"The body is larger than {limit} bytes (--max-body-size)", headers={"connection": "close"}
    )
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    parts: list[bytes] = []
    size = 0
    async with bodies_of(request).coming():
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise too_large
            parts.append(part)
    return b"".join(parts)


def bodies_of(request: Request) -> Bodies:
    bodies = request.scope["state"][STATE]
    assert isinstance(bodies, Bodies)  # noqa: S101 - Server put it there
    return bodies
