"""The operations of the API: what each route takes and gives, by path and method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from claude_proxy.anthropic.events import Event as MessageEvent
from claude_proxy.anthropic.events import Message
from claude_proxy.anthropic.models import Model as AnthropicModel
from claude_proxy.anthropic.models import ModelList as AnthropicModelList
from claude_proxy.anthropic.request import CountRequest, MessagesRequest
from claude_proxy.endpoints.messages import TokenCount
from claude_proxy.endpoints.operations import Health, Readiness
from claude_proxy.endpoints.page import About, ClientSettings
from claude_proxy.money.usage import Report
from claude_proxy.openai.chat.completion import Chunk, Completion
from claude_proxy.openai.chat.request import ChatRequest
from claude_proxy.openai.completions.completion import TextCompletion
from claude_proxy.openai.completions.request import CompletionRequest
from claude_proxy.openai.models import Model, ModelList
from claude_proxy.openai.responses.events import Event
from claude_proxy.openai.responses.listing import Deleted, ItemList, Page, Replay
from claude_proxy.openai.responses.request import ResponsesRequest
from claude_proxy.openai.responses.response import Response
from claude_proxy.page.overview import Overview

JSON, TEXT, EVENTS = "application/json", "text/plain", "text/event-stream"
OPENMETRICS = "application/openmetrics-text"
HTML, CSS, SCRIPT, PICTURE = "text/html", "text/css", "text/javascript", "image/svg+xml"
ERRORS = {
    400: "The request is wrong; `param` names the place",
    401: "The key is missing or wrong, or Claude Code is not logged in",
    402: "What Anthropic has been paid for is used up",
    403: "The host or a page's origin is not allowed, or Anthropic does not permit it",
    404: "What is named in the request is not there",
    408: "The body did not arrive in time",
    413: "The body or the prompt is too large",
    415: "The body is not declared as JSON, or is compressed",
    429: "A limit has been reached, or the queue is full",
    500: "A fault of claude-proxy's, or Claude Code crashed",
    502: "What Claude Code said cannot be read",
    503: "Overloaded, shutting down, or Claude Code cannot be started",
    504: "Claude Code was silent for too long",
    529: "Overloaded, as Anthropic says it",
}
ANTHROPICS_OWN = (402, 529)
OPEN = (403, 500, 503)
ANYWHERE = (401, *OPEN)
OF_A_TURN = tuple(status for status in ERRORS if status not in ANTHROPICS_OWN)
OF_A_TURN_THERE = tuple(ERRORS)


@dataclass(frozen=True, slots=True)
class Operation:
    """``answers``: media types and what each carries; of events, what each event carries.
    ``unready``: what a 503 may be instead of an error; ``or_else``: what JSON may be instead.
    """

    summary: str
    answers: dict[str, Any]
    errors: tuple[int, ...] = ANYWHERE
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    lists: tuple[str, ...] = ()
    is_open: bool = False
    unready: type[msgspec.Struct] | None = None
    is_anthropics: bool = False
    or_else: type[msgspec.Struct] | None = None


def operations() -> dict[str, dict[str, Operation]]:
    """By path, without ``/v1``, and method."""
    one_kept = (404, *ANYWHERE)
    not_there = Operation("Not to be had here", {}, one_kept)
    return {
        "/": {
            "GET": Operation(
                "What this is; a page for browsers", {JSON: About, HTML: str}, OPEN, is_open=True
            )
        },
        "/page/{name}": {
            "GET": Operation(
                "A file of the page",
                {CSS: str, SCRIPT: str, PICTURE: str},
                (404, *OPEN),
                is_open=True,
            )
        },
        "/overview": {
            "GET": Operation(
                "All that the page shows; as events, the whole of it at each change",
                {JSON: Overview, EVENTS: Overview},
            )
        },
        "/client_settings": {
            "GET": Operation("What to tell other programs of this one", {JSON: ClientSettings})
        },
        "/health": {
            "GET": Operation("Whether it lives", {TEXT: str, JSON: Health}, OPEN, is_open=True)
        },
        "/ready": {
            "GET": Operation(
                "Whether a request could be answered now",
                {JSON: Readiness},
                OPEN,
                is_open=True,
                unready=Readiness,
            )
        },
        "/metrics": {"GET": Operation("For Prometheus", {TEXT: str, OPENMETRICS: str})},
        "/usage": {"GET": Operation("What was used, and what is left", {JSON: Report})},
        "/openapi.json": {"GET": Operation("This description", {JSON: dict[str, Any]})},
        "/models": {
            "GET": Operation(
                "The models; as Anthropic has them for whoever sends `anthropic-version`",
                {JSON: ModelList},
                or_else=AnthropicModelList,
            )
        },
        "/models/{model}": {
            "GET": Operation(
                "One model, by any of its names", {JSON: Model}, one_kept, or_else=AnthropicModel
            )
        },
        "/chat/completions": {
            "POST": Operation(
                "Chat Completions; with `stream: true` as events, the last one `[DONE]`",
                {JSON: Completion, EVENTS: Chunk},
                OF_A_TURN,
                body=ChatRequest,
            )
        },
        "/completions": {
            "POST": Operation(
                "Completions; with `stream: true` as events, the last one `[DONE]`",
                {JSON: TextCompletion, EVENTS: TextCompletion},
                OF_A_TURN,
                body=CompletionRequest,
            )
        },
        "/messages": {
            "POST": Operation(
                "Anthropic's Messages API; with `stream: true` as events",
                {JSON: Message, EVENTS: MessageEvent},
                OF_A_TURN_THERE,
                body=MessagesRequest,
                is_anthropics=True,
            )
        },
        "/messages/count_tokens": {
            "POST": Operation(
                "How many tokens a prompt is; it is not answered",
                {JSON: TokenCount},
                OF_A_TURN_THERE,
                body=CountRequest,
                is_anthropics=True,
            )
        },
        "/responses": {
            "POST": Operation(
                "A response; with `stream: true` as events",
                {JSON: Response, EVENTS: Event},
                OF_A_TURN,
                body=ResponsesRequest,
            )
        },
        "/responses/compact": {"POST": not_there},
        "/responses/input_tokens": {"POST": not_there},
        "/responses/{response_id}": {
            "GET": Operation(
                "A response that was kept; with `stream=true` its events once more",
                {JSON: Response, EVENTS: Event},
                (400, *one_kept),
                query=Replay,
            ),
            "DELETE": Operation("Forgets a response", {JSON: Deleted}, one_kept),
        },
        "/responses/{response_id}/input_items": {
            "GET": Operation(
                "What a response answered, page by page",
                {JSON: ItemList},
                (400, *one_kept),
                query=Page,
                lists=("include", "include[]"),
            )
        },
        "/responses/{response_id}/cancel": {
            "POST": Operation(
                "Nothing that was kept still runs, so nothing can be cancelled",
                {},
                (400, *one_kept),
            )
        },
    }
