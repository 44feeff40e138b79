"""How many tokens a conversation is, told by a fresh process that is never asked to answer it.

Measured with CLI 2.1.332: ``get_context_usage`` asks the API's own counter, which costs nothing, of
the messages and of each text of the system prompt; where the API does not tell, the CLI estimates.
It knows the client's tools by one name only, so their definitions are counted as a text of the
system prompt, which is what the API makes of them.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from claude_proxy.claude import stream_json, tools
from claude_proxy.claude.channel import NOT_READING, Channel
from claude_proxy.claude.configuration import system_prompt
from claude_proxy.claude.failures import refusal
from claude_proxy.claude.process import LineTooLong, ProcessEnded
from claude_proxy.claude.prompt import Prompt
from claude_proxy.claude.stream_json import ControlResponseLine, Json, Line, LineError, ResultLine
from claude_proxy.errors import BadUpstream, UpstreamTimeout

# Of all together; the CLI asks the API once for each text.
TIMEOUT = 60.0


class Category(msgspec.Struct):
    """``kind`` is ``used`` for what is in the window, and something else for what is not."""

    tokens: int
    kind: str = ""


class ContextUsage(msgspec.Struct):
    categories: list[Category]


async def count(channel: Channel, prompt: Prompt) -> int:
    """Raises ProxyError."""
    try:
        return await Counting(channel, time.monotonic() + TIMEOUT).count(prompt)
    except (ProcessEnded, LineError, LineTooLong) as error:
        raise BadUpstream(f"Claude Code could not count the tokens: {error}") from None
    except TimeoutError:
        raise UpstreamTimeout(NOT_READING) from None


class Counting:
    def __init__(self, channel: Channel, deadline: float) -> None:
        self._channel = channel
        self._deadline = deadline

    async def count(self, prompt: Prompt) -> int:
        conversation = prompt.conversation
        await self._ask("initialize", systemPrompt=prompt_texts(prompt))
        await self._ask("set_model", model=conversation.model)
        for turn in prompt.turns:
            if turn.role == "assistant":
                await self._channel.send(stream_json.assistant(turn.content, turn.model))
            else:
                await self._channel.send(stream_json.user(turn.content, query=False))
                await self._until_receipt()
        return used(await self._ask("get_context_usage", detail="full"))

    async def _ask(self, subject: str, **fields: Any) -> Json:
        id_, line = self._channel.control(subject, **fields)
        await self._channel.send(line)
        while True:
            for answer in await self._read():
                if isinstance(answer, ControlResponseLine) and answer.response.request_id == id_:
                    if answer.response.subtype != "error":
                        return answer.response.response or {}
                    raise refusal(subject, answer.response.error or "")

    async def _until_receipt(self) -> None:
        while not any(isinstance(line, ResultLine) for line in await self._read()):
            pass

    async def _read(self) -> list[Line]:
        left = self._deadline - time.monotonic()
        batch = None if left <= 0 else await self._channel.read(left)
        if batch is None:
            raise UpstreamTimeout("Claude Code did not count the tokens in time")
        return batch


def prompt_texts(prompt: Prompt) -> list[str]:
    system = system_prompt(prompt.conversation)
    offered = tools.definitions(prompt.conversation, prompt.names)
    return [system, msgspec.json.encode(offered).decode()] if offered else [system]


def used(response: Json) -> int:
    """Raises BadUpstream."""
    try:
        usage = msgspec.convert(response, ContextUsage)
    except msgspec.ValidationError:
        raise BadUpstream("Claude Code told the tokens in a way that cannot be read") from None
    return sum(category.tokens for category in usage.categories if category.kind == "used")
