"""What to answer: a request and its directives become a plan of blocks, pure but for fresh ids."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from claude_proxy.simulator.directives import Directives, ToolCall, strip
from claude_proxy.simulator.prompt import (
    Json,
    last_user_blocks,
    texts,
    thinks,
    tool_result_texts,
)
from claude_proxy.simulator.sample import sample

STRUCTURED_OUTPUT = "StructuredOutput"
QUOTED = 200  # characters of the prompt that the default answer repeats
_WORD = re.compile(r"\S+\s*|\s+")


@dataclass(frozen=True, slots=True)
class Block:
    """A content block. Each of `pieces` is one token and one delta: words of a text, steps of
    thinking, parts of a tool input's JSON. `id` and `name` belong to a tool_use."""

    kind: Literal["text", "thinking", "redacted_thinking", "tool_use"]
    pieces: tuple[str, ...] = ()
    id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole answer. `thinking_shown`: False gives thinking blocks without their text."""

    blocks: tuple[Block, ...]
    stop_reason: str
    stop_sequence: str | None = None
    thinking_shown: bool = True

    @property
    def output_tokens(self) -> int:
        return max(1, sum(len(block.pieces) for block in self.blocks))

    @property
    def thinking_tokens(self) -> int:
        return sum(len(block.pieces) for block in self.blocks if block.kind == "thinking")


def plan(body: Json, directives: Directives) -> Plan:
    """The answer to a validated request."""
    blocks = [*_thinking(body, directives), *_content(body, directives)]
    called = any(block.kind == "tool_use" for block in blocks)
    reason = directives.stop or ("tool_use" if called else "end_turn")
    blocks, sequence = _until_stop_sequence(blocks, body.get("stop_sequences") or [])
    if sequence is not None:
        reason = "stop_sequence"
    limit = body["max_tokens"]
    if sum(len(block.pieces) for block in blocks) > limit:
        blocks, reason, sequence = _first_tokens(blocks, limit), "max_tokens", None
    # "updates", the CLI's default, is undocumented; it gives no thinking text either
    shown = (body.get("thinking") or {}).get("display", "summarized") == "summarized"
    return Plan(tuple(blocks), reason, sequence, shown)


def split_words(text: str) -> tuple[str, ...]:
    """Words with the blanks that follow them; joined they are the text again."""
    return tuple(_WORD.findall(text))


def _thinking(body: Json, directives: Directives) -> list[Block]:
    if not thinks(body):
        return []
    blocks = []
    if directives.thinking:
        steps = tuple(f"step{number} " for number in range(directives.thinking))
        blocks.append(Block("thinking", steps))
    if directives.redacted:
        blocks.append(Block("redacted_thinking"))
    return blocks


def _content(body: Json, directives: Directives) -> list[Block]:
    """Text and tool calls: as told, else as the request forces them, else the default."""
    tools = {tool["name"]: tool for tool in body.get("tools") or ()}
    calls, text = list(directives.tools), directives.text
    words = _numbered_words(directives.tokens or 0)
    told = text is not None or directives.tokens is not None
    if not calls and (forced := _forced_call(body, told=told)):
        calls, text, words = forced, None, ()
    elif not calls and not told:
        text = _forced_text(body)
    if text is not None:
        words = split_words(text) + words
    blocks = [Block("text", words)] if words else []
    return blocks + [_call(call, tools.get(call.name), directives.input_chunk) for call in calls]


def _numbered_words(count: int) -> tuple[str, ...]:
    return (*(f"w{number} " for number in range(count - 1)), *([f"w{count - 1}"] if count else []))


def _forced_call(body: Json, *, told: bool) -> list[ToolCall]:
    """The API's choice of a tool leaves no room for text. A structured answer is given, unless
    it is told what to say, where there is a tool for it, as Claude Code's is named."""
    choice = body.get("tool_choice") or {}
    if choice.get("type") in ("any", "tool"):
        return [ToolCall(choice["name"] if choice["type"] == "tool" else body["tools"][0]["name"])]
    offered = {tool["name"] for tool in body.get("tools") or ()}
    return [ToolCall(STRUCTURED_OUTPUT)] if STRUCTURED_OUTPUT in offered and not told else []


def _forced_text(body: Json) -> str:
    form = (body.get("output_config") or {}).get("format") or {}
    if form.get("type") == "json_schema":
        # blanks after the separators, so that it streams in several deltas
        value = msgspec.json.encode(sample(form.get("schema")))
        return msgspec.json.format(value, indent=1).decode()
    blocks = last_user_blocks(body)
    wrote, said = strip("\n".join(texts(blocks))), "You wrote"
    if not wrote:
        results = tool_result_texts(blocks)
        wrote, said = strip("\n".join(results)), "The tool said" if results else "You wrote"
    return f'This is a simulated answer: no model was asked. {said}: "{wrote[:QUOTED]}"'


def _call(call: ToolCall, tool: Json | None, size: int) -> Block:
    text = call.input
    if text is None:
        schema = (tool or {}).get("input_schema", {"type": "object"})
        text = msgspec.json.encode(sample(schema)).decode()
    pieces = tuple(text[start : start + size] for start in range(0, len(text), size))
    return Block("tool_use", pieces, f"toolu_{secrets.token_hex(12)}", call.name)


def _until_stop_sequence(
    blocks: list[Block], sequences: list[str]
) -> tuple[list[Block], str | None]:
    """Ends the first text that contains a sequence before it, and drops what follows."""
    for index, block in enumerate(blocks):
        if block.kind != "text":
            continue
        text = "".join(block.pieces)
        found = [(text.find(seq) + len(seq), -len(seq), seq) for seq in sequences if seq in text]
        if found:
            end, _, sequence = min(found)  # the one that is complete first
            kept = _first_characters(block.pieces, end - len(sequence))
            return blocks[:index] + ([replace(block, pieces=kept)] if kept else []), sequence
    return blocks, None


def _first_characters(pieces: tuple[str, ...], count: int) -> tuple[str, ...]:
    kept: list[str] = []
    for piece in pieces:
        if count <= 0:
            break
        kept.append(piece[:count])
        count -= len(piece)
    return tuple(kept)


def _first_tokens(blocks: list[Block], limit: int) -> list[Block]:
    kept: list[Block] = []
    for block in blocks:
        if block.pieces and limit <= 0:
            break
        kept.append(replace(block, pieces=block.pieces[:limit]))
        limit -= len(block.pieces)
    return kept
