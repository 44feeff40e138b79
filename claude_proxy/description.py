"""What this API is, as an OpenAPI 3.1 document, made of the structs that read and write it.

A new route needs one entry in ``operations``; a test holds it to the routes that there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import msgspec

from claude_proxy import __version__
from claude_proxy.anthropic.blocks import BLOCKS
from claude_proxy.anthropic.events import Event as MessageEvent
from claude_proxy.anthropic.events import Message
from claude_proxy.anthropic.models import Model as AnthropicModel
from claude_proxy.anthropic.models import ModelList as AnthropicModelList
from claude_proxy.anthropic.request import CountRequest, MessagesRequest
from claude_proxy.anthropic.tools import ToolHead
from claude_proxy.endpoints.messages import TokenCount
from claude_proxy.endpoints.operations import Health, Readiness
from claude_proxy.errors import AnthropicError, OpenAIError
from claude_proxy.money.usage import Report
from claude_proxy.openai.chat.completion import Chunk, Completion
from claude_proxy.openai.chat.request import ChatRequest
from claude_proxy.openai.completions.completion import TextCompletion
from claude_proxy.openai.completions.request import CompletionRequest
from claude_proxy.openai.functions import FunctionTool
from claude_proxy.openai.models import Model, ModelList
from claude_proxy.openai.responses.events import Event
from claude_proxy.openai.responses.items import KINDS, TRACES, ItemReference
from claude_proxy.openai.responses.listing import Deleted, ItemList, Page, Replay
from claude_proxy.openai.responses.request import ResponsesRequest
from claude_proxy.openai.responses.response import Response
from claude_proxy.openai.responses.toolbox import ChoiceSpec, CustomTool, Namespace

Json: TypeAlias = dict[str, Any]

JSON, TEXT, EVENTS = "application/json", "text/plain", "text/event-stream"
OPENMETRICS = "application/openmetrics-text"
REF = "#/components/schemas/{name}"
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
# What the structs leave open, as another decoder reads it later.
TOOLS = (FunctionTool, CustomTool, Namespace)


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


@cache
def document() -> bytes:
    """As JSON."""
    table = operations()
    every = [operation for methods in table.values() for operation in methods.values()]
    schemas, components = msgspec.json.schema_components(types_of(every), ref_template=REF)
    references = dict(zip(types_of(every), schemas, strict=True))
    refine(components, references)
    paths = {
        path: {
            **({"parameters": path_parameters(path)} if "{" in path else {}),
            **{method.lower(): described(one, references) for method, one in methods.items()},
        }
        for path, methods in table.items()
    }
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "claude-proxy",
                "version": __version__,
                "description": "Your own Claude Code CLI as a local OpenAI and "
                "Anthropic API. What the schemas cannot say (tools that are named must be "
                "offered, and the like) is a 400; unknown fields are skipped, and of two equal "
                "keys the last one counts.",
            },
            "servers": [{"url": "/v1"}, {"url": "/"}],
            "security": [{"bearer": []}, {"header": []}],
            "paths": paths,
            "components": {
                "schemas": components,
                "headers": {"x-request-id": {"required": True, "schema": {"type": "string"}}},
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                },
            },
        }
    )


def types_of(every: Iterable[Operation]) -> list[Any]:
    """All types that are referred to, each once."""
    found: list[Any] = [
        OpenAIError,
        AnthropicError,
        *BLOCKS,
        ToolHead,
        *KINDS.values(),
        ItemReference,
        *TOOLS,
        ChoiceSpec,
    ]
    for one in every:
        found += [*one.answers.values(), one.body, one.query, one.unready, one.or_else]
    return list({kind: None for kind in found if kind is not None})


def refine(components: Json, references: dict[Any, Json]) -> None:
    """What the request keeps as it came, to be read when its kind is known."""
    trace = {"properties": {"type": {"enum": sorted(TRACES)}}, "required": ["type"]}
    items = [references[kind] for kind in (*KINDS.values(), ItemReference)]
    asked = components["ResponsesRequest"]["properties"]
    for form in asked["input"]["anyOf"]:
        if form["type"] == "array":
            form["items"] = {"anyOf": [*items, {"type": "object", **trace}]}
    for form in asked["tools"]["anyOf"]:
        if form["type"] == "array":
            hosted = {"type": "object", "properties": {"type": {"type": "string"}}}
            form["items"] = {"anyOf": [*(references[kind] for kind in TOOLS), hosted]}
    refine_anthropics(components, references)
    choice = [{"type": "string"}, {"type": "null"}, references[ChoiceSpec]]
    asked["tool_choice"] = {**asked["tool_choice"], "anyOf": choice}


def refine_anthropics(components: Json, references: dict[Any, Json]) -> None:
    """Blocks and tools, which are read by their type."""
    blocks = [references[kind] for kind in BLOCKS]
    for holder, field in (("WireMessage", "content"), ("ToolResultBlock", "content")):
        for form in components[holder]["properties"][field]["anyOf"]:
            if form.get("type") == "array":
                form["items"] = {"anyOf": blocks}
    for request in ("MessagesRequest", "CountRequest"):
        for form in components[request]["properties"]["tools"]["anyOf"]:
            if form.get("type") == "array":
                form["items"] = references[ToolHead]


def described(operation: Operation, references: dict[Any, Json]) -> Json:
    told: Json = {"summary": operation.summary, "responses": responses(operation, references)}
    if operation.body is not None:
        content = {JSON: {"schema": references[operation.body]}}
        told["requestBody"] = {"required": True, "content": content}
    if operation.query is not None:
        told["parameters"] = query_parameters(operation)
    if operation.is_open:
        told["security"] = []
    return told


def responses(operation: Operation, references: dict[Any, Json]) -> Json:
    """By status; every one carries its request's id."""
    told: Json = {}
    broken = references[AnthropicError if operation.is_anthropics else OpenAIError]
    if operation.answers:
        content = {
            media_type: {
                "schema": {"type": "string"},
                "x-event-schema": {"anyOf": [references[kind], broken]},
            }
            if media_type == EVENTS
            else {"schema": either(kind, operation.or_else, references)}
            for media_type, kind in operation.answers.items()
        }
        told["200"] = {"description": "It worked", "content": content}
    for status in operation.errors:
        schema = broken
        if status == 503 and operation.unready is not None:
            schema = {"anyOf": [references[operation.unready], broken]}
        content = {JSON: {"schema": schema}}
        told[str(status)] = {"description": ERRORS[status], "content": content}
    identified = {"x-request-id": {"$ref": "#/components/headers/x-request-id"}}
    return {status: {**one, "headers": identified} for status, one in told.items()}


def either(kind: Any, other: Any, references: dict[Any, Json]) -> Json:
    return {"anyOf": [references[kind], references[other]]} if other else references[kind]


def path_parameters(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def query_parameters(operation: Operation) -> list[Json]:
    schema = msgspec.json.schema(operation.query)
    (struct,) = schema["$defs"].values()
    named = [
        {"name": name, "in": "query", "required": False, "schema": one}
        for name, one in struct["properties"].items()
    ]
    texts = {"type": "array", "items": {"type": "string"}}
    lists = [
        {"name": name, "in": "query", "required": False, "schema": texts}
        for name in operation.lists
    ]
    return [*named, *lists]
