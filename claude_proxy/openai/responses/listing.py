"""What is said about kept responses: their input items, page by page, and their end. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.body import invalid

PREFIXES = {
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
}
Json = dict[str, Any]


class Page(msgspec.Struct):
    """``order`` is that of the items' places in the request; ``after`` is an item's id."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Page:
        """Raises InvalidRequest."""
        try:
            return msgspec.convert(dict(query), cls, strict=False)
        except msgspec.ValidationError as error:
            raise invalid(str(error)) from None


class ItemList(msgspec.Struct):
    data: list[Json]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class Deleted(msgspec.Struct):
    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


def deleted(response_id: str) -> bytes:
    return msgspec.json.encode(Deleted(response_id))


def list_items(response_id: str, items: Sequence[bytes], page: Page, *, seals: bool) -> bytes:
    """``seals``: with what reasoning needs to come back. Raises InvalidRequest."""
    listed: list[Json] = []
    ids: list[str] = []
    for place, raw in enumerate(items):
        made = made_id(response_id, place)
        item = to_listed(msgspec.json.decode(raw), made, seals=seals)
        if item["id"] in ids:
            item["id"] += f"_{made}"
        ids.append(item["id"])
        listed.append(item)
    if page.order == "desc":
        listed.reverse()
        ids.reverse()
    start = 0
    if page.after is not None:
        if page.after not in ids:
            raise InvalidRequest(f"There is no item '{page.after[:100]}' here", param="after")
        start = ids.index(page.after) + 1
    data = listed[start : start + page.limit]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return msgspec.json.encode(ItemList(data, first, last, start + page.limit < len(listed)))


def made_id(response_id: str, place: int) -> str:
    """Without its prefix; the same every time."""
    return hashlib.sha256(f"{response_id}:{place}".encode()).hexdigest()[:48]


def to_listed(item: Json, made: str, *, seals: bool) -> Json:
    """With all that OpenAI's schema requires of an item in a list."""
    kind = item.get("type") or "message"
    id_ = item.get("id") or f"{PREFIXES.get(kind, 'msg')}_{made}"
    if kind == "reasoning":
        kept = {"encrypted_content": item.get("encrypted_content")} if seals else {}
        kept = {name: value for name, value in kept.items() if value is not None}
        return {"id": id_, "type": kind, "summary": item.get("summary") or [], **kept}
    listed = {**item, "id": id_, "type": kind, "status": item.get("status") or "completed"}
    if kind == "message":
        listed["content"] = to_content(item["content"], assistant=item["role"] == "assistant")
    elif kind == "function_call":
        listed["arguments"] = item.get("arguments") or ""
    elif isinstance(item.get("output"), list):
        listed["output"] = to_content(item["output"], assistant=False)
    return listed


def to_content(content: str | list[Json], *, assistant: bool) -> list[Json]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [to_part(part, assistant=assistant) for part in parts]


def to_part(part: Json, *, assistant: bool) -> Json:
    match part:
        case {"type": "input_text" | "output_text" | "text", "text": text}:
            if assistant:
                return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
            return {"type": "input_text", "text": text}
        case {"type": "input_image"}:
            return {**part, "detail": part.get("detail") or "auto"}
        case _:
            return part
