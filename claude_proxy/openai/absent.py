"""What OpenAI has and this server has not, and what comes nearest to it. Pure."""

from __future__ import annotations

import difflib
import re

HERE = (
    "claude-proxy lets Claude Code answer: POST /v1/chat/completions, POST /v1/responses, "
    "POST /v1/completions, POST /v1/messages, with the models of GET /v1/models; "
    "GET /v1/openapi.json describes it all"
)
# By the first word of a path; also of OpenAI's API as it once was, and of Mistral's (``fim``).
GROUPS = {
    "embeddings": "Claude makes no embeddings: another server must make them",
    "images videos": "Claude only looks at pictures: `image_url` in POST /v1/chat/completions",
    "audio": "Claude neither hears nor speaks: it takes text, pictures and PDFs",
    "realtime live": "Answers stream as server-sent events: `stream` in POST /v1/responses",
    "moderations safety": "Claude has none of OpenAI's categories, and keeps to yours by a "
    "`response_format` of POST /v1/chat/completions",
    "files uploads vector_stores containers skills": "No files are kept: a PDF goes along as a "
    "data URL, `file` in POST /v1/chat/completions",
    "fine_tuning fine-tunes evals": "Models are as Anthropic makes them: GET /v1/models",
    "batches": "Nothing is put off: POST /v1/chat/completions answers at once, and several at a "
    "time",
    "assistants threads conversations agents chatkit": "A conversation goes on by the "
    "`previous_response_id` of POST /v1/responses",
    "chat": "Only answers of POST /v1/responses are kept: GET /v1/responses/{response_id}",
    "edits fim": "Claude does not edit in place: the prompt of POST /v1/completions says what is "
    "wanted",
    "engines deployments openai": "The model is not in the path, but in the field `model` of "
    "POST /v1/chat/completions or POST /v1/completions: GET /v1/models lists them",
    "organization projects dashboard": "GET /v1/usage says what was used",
}
# What clients call, and how; the longer ones first.
ENDPOINTS = {
    "/messages/count_tokens": "POST",
    "/chat/completions": "POST",
    "/completions": "POST",
    "/responses": "POST",
    "/messages": "POST",
    "/models": "GET",
}
BASE_URL = (
    "The base URL is this server's address, with /v1 behind it for OpenAI's clients, and without "
    "it for Anthropic's"
)
NEAREST = {word: nearest for words, nearest in GROUPS.items() for word in words.split()}


def family(path: str) -> str | None:
    """The first word of the path, if it is one of NEAREST."""
    word = path.removeprefix("/v1").lstrip("/").partition("/")[0]
    return word if word in NEAREST else None


def meant(path: str) -> str | None:
    """The endpoint with something wrong before it, a slash behind it, or a letter amiss."""
    if family(path) not in (None, "chat"):
        return None  # the first word says more than the last: `/threads/ID/messages`
    bare = re.sub(r"^(/v1)+(?=/)", "", path).rstrip("/")
    ends = [endpoint for endpoint in ENDPOINTS if bare.endswith(endpoint)]
    return next(iter(ends or difflib.get_close_matches(bare, ENDPOINTS, n=1, cutoff=0.8)), None)


def explained(path: str) -> str:
    """What there is instead."""
    if endpoint := meant(path):
        return f"Did you mean {ENDPOINTS[endpoint]} /v1{endpoint}? {BASE_URL}"
    word = family(path)
    return f"{NEAREST[word]}. {HERE}" if word else HERE
