"""The bytes of pictures and documents, as base64. Pure.

They are checked, never fetched: what lies behind an http URL is for Anthropic to get.
"""

from __future__ import annotations

import base64
import binascii
import re

from claude_proxy.errors import InvalidRequest

# What a file of each kind begins with; the API refuses one that is not what it is said to be.
SIGNATURES = {
    "image/jpeg": rb"\xff\xd8\xff",
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/gif": rb"GIF8[79]a",
    "image/webp": rb"RIFF....WEBP",
}
IMAGE_TYPES = tuple(SIGNATURES)


def on_the_web(url: str) -> bool:
    return url[:8].lower().startswith(("http://", "https://"))


def check_image(media_type: str, data: str, param: str) -> None:
    """Raises InvalidRequest."""
    if media_type not in IMAGE_TYPES:
        raise InvalidRequest(
            f"An image must be one of {', '.join(IMAGE_TYPES)}",
            param=param,
            code="invalid_value",
        )
    if not re.match(SIGNATURES[media_type], base64.b64decode(data[:32]), re.DOTALL):
        raise InvalidRequest(
            f"The image is no {media_type}, or it is broken", param=param, code="invalid_value"
        )


def readable(data: str) -> str:
    """Base64 as the API wants it; or "" for what is none."""
    try:
        binascii.a2b_base64(data.encode("ascii"), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        return repaired(data)
    return data


def repaired(data: str) -> str:
    """Base64 with line breaks, in the URL alphabet or unpadded, as the API wants it; or ""."""
    bare = "".join(data.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        decoded = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return base64.b64encode(decoded).decode()
