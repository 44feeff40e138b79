"""Pictures and documents as OpenAI's dialects carry them: data: URLs and addresses. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from claude_proxy.conversation import Document, Image, Text
from claude_proxy.dialect.attachments import check_image, on_the_web, readable
from claude_proxy.errors import InvalidRequest


def to_image(url: str, param: str) -> Image:
    if on_the_web(url):
        return Image(url=url)
    media_type, data = parse_data_url(url, param)
    check_image(media_type, data, param)
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
    readable_data = readable(data)
    if not readable_data:
        raise InvalidRequest(
            "The base64 of a data: URL cannot be read", param=param, code="invalid_value"
        )
    media_type = match[1].lower()
    return {"image/jpg": "image/jpeg"}.get(media_type, media_type), readable_data


def only_text(parts: Iterable[Text | Image | Document], at: str) -> str:
    """A system message's, whose parts belong together without a gap. Raises InvalidRequest."""
    pieces: list[str] = []
    for index, part in enumerate(parts):
        if not isinstance(part, Text):
            raise InvalidRequest("A system message can hold text only", param=f"{at}[{index}]")
        pieces.append(part.text)
    return "".join(pieces)
