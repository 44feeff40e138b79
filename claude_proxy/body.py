"""A request's body, as bytes."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from claude_proxy import errors

BODY_TIMEOUT = 60.0


async def read_body(request: Request, limit: int) -> bytes:
    """Counts while it reads. Raises UnsupportedMediaType, RequestTooLarge, RequestTimeout."""
    media_type = request.headers.get("content-type", "application/json")
    essence = media_type.partition(";")[0].strip().lower()
    if essence != "application/json" and not essence.endswith("+json"):
        raise errors.UnsupportedMediaType("The body must be JSON: Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise errors.UnsupportedMediaType("The body must not be compressed")
    too_large = errors.RequestTooLarge(
        f"The body is larger than {limit} bytes", headers={"connection": "close"}
    )
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        raise errors.RequestTimeout("The body did not arrive in time") from None
    return b"".join(parts)
