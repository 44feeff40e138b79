"""How an answer of either API of completions ends: why, after how many tokens, and the last frame.
Pure.
"""

from __future__ import annotations

import msgspec

from claude_proxy import conversation as neutral
from claude_proxy.conversation import FinishReason

FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT_FULL: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.REFUSAL: "content_filter",
}
DONE = b"data: [DONE]\n\n"


class PromptDetails(msgspec.Struct):
    cached_tokens: int
    cache_write_tokens: int
    audio_tokens: int = 0


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: int
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(msgspec.Struct):
    """``prompt_tokens`` counts cached ones too, as OpenAI does."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


def to_usage(usage: neutral.Usage) -> Usage:
    return Usage(
        prompt_tokens=usage.prompt,
        completion_tokens=usage.output,
        total_tokens=usage.prompt + usage.output,
        prompt_tokens_details=PromptDetails(usage.cache_read, usage.cache_write),
        completion_tokens_details=CompletionDetails(usage.reasoning),
    )
