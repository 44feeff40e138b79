"""Pictures and documents as OpenAI's dialects carry them: data: URLs and addresses. Pure.

They are checked, never fetched: what lies behind an http URL is for Anthropic to get.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from claude_proxy.conversation import Document, Image, Text
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


def to_image(url: str, param: str) -> Image:
    if on_the_web(url):
        return Image(url=url)
    media_type, data = parse_data_url(url, param)
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
    return Image(media_type, data)


def to_document(url: str | None, filename: str | None, param: str) -> Document:
    if url is None:
        raise InvalidRequest(
            "A file must come as file_data: there is no file store here", param=param
        )
    if on_the_web(url):
        return Document("", filename, url)
    media_type, data = parse_data_url(url, param)
    if media_type != "application/pdf":
        raise InvalidRequest("A file must be a PDF", param=param, code="invalid_value")
    return Document(data, filename)


def parse_data_url(url: str, param: str) -> tuple[str, str]:
    """Media type and base64 of a ``data:`` URL. Raises InvalidRequest."""
    match = re.match(r"data:([\w.+-]+/[\w.+-]+)(?:;[^;,]{0,200}){0,8}?;base64,", url, re.IGNORECASE)
    if match is None:
        raise InvalidRequest(
            "Expected a base64 data: URL or an http(s) URL",
            param=param,
            code="invalid_value",
        )
    data = url[match.end() :]
    if not data:
        raise InvalidRequest("The data: URL is empty", param=param, code="invalid_value")
    try:
        binascii.a2b_base64(data.encode("ascii"), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        data = repaired(data)
        if not data:
            raise InvalidRequest(
                "The base64 of a data: URL cannot be read", param=param, code="invalid_value"
            ) from None
    media_type = match[1].lower()
    return {"image/jpg": "image/jpeg"}.get(media_type, media_type), data


def repaired(data: str) -> str:
    """Base64 with line breaks, in the URL alphabet or unpadded, as the API wants it; or ""."""
    bare = "".join(data.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        decoded = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return base64.b64encode(decoded).decode()


def only_text(parts: Iterable[Text | Image | Document], at: str) -> str:
    """A system message's, whose parts belong together without a gap. Raises InvalidRequest."""
    pieces: list[str] = []
    for index, part in enumerate(parts):
        if not isinstance(part, Text):
            raise InvalidRequest("A system message can hold text only", param=f"{at}[{index}]")
        pieces.append(part.text)
    return "".join(pieces)
