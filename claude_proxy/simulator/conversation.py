"""The checks of `messages`: every block, and the order of turns, tool calls and their results."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from claude_proxy.simulator.errors import invalid, required
from claude_proxy.simulator.prompt import Json, blocks_of

_TOOL_USE_ID = re.compile(r"[a-zA-Z0-9_-]+")
_ROLES = ("user", "assistant", "system")
_ONLY_IN = {
    "tool_use": "assistant",
    "thinking": "assistant",
    "redacted_thinking": "assistant",
    "tool_result": "user",
}


def check_messages(body: Json) -> None:
    messages = required(body, "messages", "messages")
    if not isinstance(messages, list):
        raise invalid("messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    for index, message in enumerate(messages):
        _message(message, f"messages.{index}")
    if messages[0]["role"] != "user":
        raise invalid('messages.0: the first message must use the "user" role')
    last = next(message for message in reversed(messages) if message["role"] != "system")
    if last["role"] == "assistant":
        raise invalid(
            "This model does not support assistant message prefill. "
            "The conversation must end with a user message."
        )
    _tool_pairs(messages)


def _message(message: object, path: str) -> None:
    if not isinstance(message, dict):
        raise invalid(f"{path}: Input should be a valid dictionary")
    if required(message, "role", f"{path}.role") not in _ROLES:
        raise invalid(f"{path}.role: Input should be 'user', 'assistant' or 'system'")
    content = required(message, "content", f"{path}.content")
    # A system message may change settings alone: the CLI marks past turns with their effort so.
    settings_only = message["role"] == "system" and "output_config" in message
    if content in ("", []) and not settings_only:
        raise invalid(f"{path}: {message['role']} messages must have non-empty content")
    if isinstance(content, str):
        check_text(content, path)
    elif not isinstance(content, list):
        raise invalid(f"{path}.content: Input should be a valid string or list")
    else:
        for index, block in enumerate(content):
            _block(block, message["role"], f"{path}.content.{index}")


def _block(block: object, role: str, path: str) -> None:
    if not isinstance(block, dict):
        raise invalid(f"{path}: Input should be a valid dictionary")
    kind = required(block, "type", f"{path}.type")
    if not isinstance(kind, str):
        raise invalid(f"{path}.type: Input should be a valid string")
    if kind in _ONLY_IN and _ONLY_IN[kind] != role:
        raise invalid(f"{path}: `{kind}` blocks can only be in `{_ONLY_IN[kind]}` messages")
    match kind:
        case "text":
            check_text(block.get("text"), f"{path}.text")
        case "image" | "document":
            _source(block, f"{path}.{kind}.source")
        case "tool_use":
            _tool_use(block, f"{path}.tool_use")
        case "tool_result":
            _tool_result(block, f"{path}.tool_result")
        case "thinking":
            _thinking(block, f"{path}.thinking")


def _thinking(block: Json, path: str) -> None:
    for key in ("thinking", "signature"):
        if not isinstance(block.get(key), str):
            raise invalid(f"{path}.{key}: Field required")


def check_text(text: object, path: str) -> None:
    if not isinstance(text, str):
        raise invalid(f"{path}: Input should be a valid string")
    if not text:
        raise invalid(f"{path}: text content blocks must be non-empty")
    if not text.strip():
        raise invalid(f"{path}: text content blocks must contain non-whitespace text")


def _source(block: Json, path: str) -> None:
    source = block.get("source")
    if not isinstance(source, dict):
        raise invalid(f"{path}: Field required")
    match source.get("type"):
        case "base64":
            if not isinstance(source.get("media_type"), str):
                raise invalid(f"{path}.base64.media_type: Field required")
            if not _decodes(source.get("data")):
                raise invalid(f"{path}.base64.data: Input should be valid base64")
        case "url":
            if not str(source.get("url")).startswith(("https://", "http://")):
                raise invalid(f"{path}.url.url: Input should be a valid URL")
        case "text" | "content" if block["type"] == "document":
            pass
        case _:
            raise invalid(f"{path}: Input should have the type 'base64' or 'url'")


def _decodes(data: object) -> bool:
    if not isinstance(data, str) or not data:
        return False
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _tool_use(block: Json, path: str) -> None:
    _tool_use_id(block.get("id"), f"{path}.id")
    if not isinstance(block.get("name"), str) or not block["name"]:
        raise invalid(f"{path}.name: Input should be a valid string")
    if not isinstance(block.get("input"), dict):
        raise invalid(f"{path}.input: Input should be a valid dictionary")


def _tool_result(block: Json, path: str) -> None:
    _tool_use_id(block.get("tool_use_id"), f"{path}.tool_use_id")
    content = block.get("content", "")
    if not isinstance(content, str | list):
        raise invalid(f"{path}.content: Input should be a valid string or list")
    for index, part in enumerate(content if isinstance(content, list) else ()):
        _block(part, "tool_result", f"{path}.content.{index}")
    if block.get("is_error") and any(part["type"] != "text" for part in blocks_of(content)):
        raise invalid(f'{path}: all content must be type "text" if "is_error" is true')


def _tool_use_id(identifier: object, path: str) -> None:
    if not isinstance(identifier, str) or not _TOOL_USE_ID.fullmatch(identifier):
        raise invalid(f"{path}: String should match pattern '^[a-zA-Z0-9_-]+$'")


def _tool_pairs(messages: list[Json]) -> None:
    """Each call is answered in the very next user turn, and nothing else is."""
    open_calls: dict[str, None] = {}  # ids in order
    asked = 0
    for role, position, blocks in _turns(messages):
        if role == "user":
            _answers(blocks, open_calls, position, asked)
        open_calls, asked = {}, position
        for block in blocks:
            if block.get("type") == "tool_use":
                if block["id"] in open_calls:
                    raise invalid(f"messages.{position}: `tool_use` ids must be unique")
                open_calls[block["id"]] = None


def _turns(messages: list[Json]) -> Iterator[tuple[str, int, list[Json]]]:
    """Role, index of the first message and all blocks; neighbours of one role are one turn."""
    turn: tuple[str, int, list[Json]] | None = None
    for index, message in enumerate(messages):
        if message["role"] == "system":
            continue
        if turn is not None and turn[0] == message["role"]:
            turn[2].extend(blocks_of(message["content"]))
            continue
        if turn is not None:
            yield turn
        turn = (message["role"], index, list(blocks_of(message["content"])))
    if turn is not None:
        yield turn


def _answers(blocks: list[Json], calls: dict[str, None], position: int, asked: int) -> None:
    results: set[str] = set()
    for block in blocks:
        if block.get("type") != "tool_result":
            continue
        identifier = block["tool_use_id"]
        if identifier not in calls:
            raise invalid(
                f"messages.{position}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{identifier}. Each `tool_result` block must have a corresponding `tool_use` "
                "block in the previous message."
            )
        if identifier in results:
            raise invalid(
                f"messages.{position}: each tool_use must have a single result. "
                f"Found multiple `tool_result` blocks with id: {identifier}"
            )
        results.add(identifier)
    missing = [identifier for identifier in calls if identifier not in results]
    if missing:
        raise invalid(
            f"messages.{asked}: `tool_use` ids were found without `tool_result` blocks "
            f"immediately after: {', '.join(missing)}. Each `tool_use` block must have a "
            "corresponding `tool_result` block in the next message."
        )
