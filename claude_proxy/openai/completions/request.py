"""Completions: what arrives, as a struct, and its translation to a conversation. Pure.

Source of the shape: OpenAI's OpenAPI description 2.3.0. Two things are decided otherwise. OpenAI
ends an answer after 16 tokens where ``max_tokens`` is not given; here it ends where the model
ends. And the models of this API do not think before they speak, so neither does Claude: no
client of it would see that, and ``max_tokens`` would count it.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from claude_proxy.conversation import Conversation, Message, Options, Text
from claude_proxy.dialect.body import decode_body, names_beyond, refuse
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai.options import Penalty, Stop, StreamOptions, Tokens, stop_sequences

# What the errors of a conversation name, as this API calls it.
PARAMS = {"messages": "prompt"}

# Lists: of prompts, of one's tokens, of the tokens of several.
Prompt: TypeAlias = str | Annotated[list[str | int | list[int]], Meta(min_length=1)]


class CompletionRequest(msgspec.Struct):
    """Fields are checked here whether or not they have an effect."""

    prompt: Prompt
    model: str | None = None
    suffix: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens = None
    stop: Stop = None
    echo: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Penalty = None
    presence_penalty: Penalty = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    best_of: Annotated[int, Meta(ge=0, le=20)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None


EFFECTIVE = frozenset(
    {
        *("model", "prompt", "suffix", "stream", "stream_options", "max_tokens", "stop", "echo"),
        *("n", "best_of", "logprobs"),
    }
)
_decoder = msgspec.json.Decoder(CompletionRequest)


def decode(body: bytes) -> CompletionRequest:
    """Raises InvalidRequest with OpenAI's ``param`` path."""
    request = decode_body(_decoder, body)
    refuse(
        {
            "n": (request.n or 1) > 1,
            "best_of": (request.best_of or 1) > 1,
            "logprobs": request.logprobs is not None,
        }
    )
    if request.suffix:
        raise InvalidRequest(
            "Claude does not fill in what stands between a prompt and a 'suffix'; a prompt that "
            "holds both sides and says what is wanted may do",
            param="suffix",
            code="unsupported_parameter",
        )
    return request


def ignored(body: bytes, *, sampling: bool) -> list[str]:
    """Names of what the client has set and what has no effect; ``sampling`` is forwarded."""
    return names_beyond(EFFECTIVE, body, sampling=sampling)


def to_conversation(request: CompletionRequest, model: str, *, sampling: bool) -> Conversation:
    """The prompt is the one message, as it is. Raises InvalidRequest."""
    options = Options(
        max_tokens=request.max_tokens,
        stop=stop_sequences(request.stop),
        thinks=False,
        temperature=request.temperature if sampling else None,
        top_p=request.top_p if sampling else None,
    )
    message = Message("user", (Text(text_of(request.prompt)),))
    return Conversation(model, "", (message,), options)


def echoed(request: CompletionRequest) -> str:
    """What the answer's text begins with. Raises InvalidRequest."""
    return text_of(request.prompt) if request.echo else ""


def text_of(prompt: Prompt) -> str:
    """Raises InvalidRequest for what is more than one text, or none."""
    given = [prompt] if isinstance(prompt, str) else prompt
    texts = [one for one in given if isinstance(one, str)]
    if len(texts) < len(given):
        problem = "Claude knows no tokens of other models: send the prompt as text"
    elif len(texts) > 1:
        problem = f"A request has one prompt here: send these {len(texts)} in one request each"
    else:
        return texts[0]
    raise InvalidRequest(problem, param="prompt", code="unsupported_value")
