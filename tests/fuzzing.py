"""Requests that nobody in his right mind sends, by their number: each is the same every time.

Not schemathesis: it brings some thirty packages, and takes longer to think of a request than the
daemon to refuse it.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.lab import KEY, PDF, PNG

WORDS = (
    *("", " ", "a", "hello", "user", "system", "auto", "none", "required", "function", "text"),
    *(
        "sonnet",
        "opus",
        "gpt-4o",
        "json_object",
        "json_schema",
        "rs_1",
        "call_1",
        "a.b",
        "{}",
        "[]",
    ),
    *("\x00", "a\nb", "\u2028", "\ufeff", "\U0001f600", "e\u0301", "`$.x`", "x - at `$.y`", "%00"),
    *("x" * 70, "y" * 1_100, "/etc/passwd", "@~/.ssh/id_rsa", "/exit", "__proto__", "1e400"),
)
URLS = (
    *("file:///etc/passwd", "ftp://127.0.0.1/a", "javascript:alert(1)", "//127.0.0.1/a", "x", ""),
    *(
        "data:image/png;base64,",
        "data:image/png;base64,!!!",
        "data:image/png,abc",
        "data:;base64,AA",
    ),
    *(
        "data:text/html;base64,PGI+",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:image/png;base64,A",
    ),
    *(f"data:image/png;base64,{PDF}", f"data:application/pdf;base64,{PNG}", "data:image/png"),
)
SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 16, 129, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400),
    *(0.0, -0.0, 0.5, 1.5, 1e300, 5e-324),
)
# Text of JSON that is none, each in the place of a value.
NO_JSON = (
    *(
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"01",
        b"1.",
        b"+1",
        b".5",
        b"0x1",
        b"nul",
        b"True",
        b"'x'",
    ),
    *(rb'"\ud800"', rb'"\udc00"', rb'"\ud800\u0041"', rb'"\ud83d\ud83d"', b'"\xff"', b'"\xc0\x80"'),
    *(b'"\xed\xa0\x80"', b'"\xf5\x80\x80\x80"', b'"\xe2\x82"', b'"a\nb"', b'"\x00"', rb'"\x41"'),
    *(rb'"\u12"', b'"', b"", b"[", b"[1,]", b"{", b'{"a"}', b'{"a":1,}', b"{1:2}", b"/**/1"),
)
BLANK = 0.8
MARK = "\x01here\x01"

CHAT: dict[str, Any] = {
    "model": "sonnet",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hello"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Hm.",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"a": [1, "b"]}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
        {"role": "user", "content": "so?"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "does it",
                "parameters": {"type": "object", "properties": {"a": {"type": "array"}}},
                "strict": True,
            },
        }
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    },
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 100,
    "temperature": 1,
    "stop": ["x"],
    "reasoning_effort": "low",
    "metadata": {"a": "b"},
}
RESPONSES: dict[str, Any] = {
    "model": "sonnet",
    "instructions": "Be brief.",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "hello"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
                {"type": "input_file", "file_data": f"data:application/pdf;base64,{PDF}"},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "AAAA"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"a": 1}'},
        {"type": "custom_tool_call", "call_id": "b", "name": "shell", "input": "ls"},
        {"type": "function_call_output", "call_id": "a", "output": "done"},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "x"},
        {"type": "web_search_call", "id": "ws_1"},
        {"type": "message", "role": "user", "content": "so?"},
    ],
    "tools": [
        {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True},
        {"type": "custom", "name": "shell", "format": {"type": "text"}},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "g"}]},
        {"type": "web_search"},
    ],
    "tool_choice": {"type": "function", "name": "f"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "max_output_tokens": 100,
    "store": False,
    "stream": True,
}
COMPLETION: dict[str, Any] = {
    "model": "sonnet",
    "prompt": ["Once upon a time"],
    "suffix": "",
    "echo": True,
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 16,
    "stop": ["x", "\n\n#"],
    "temperature": 0.7,
    "n": 1,
    "best_of": 1,
    "logprobs": None,
    "logit_bias": {"50256": -100},
    "user": "me",
}
MARK = {"type": "ephemeral"}
COUNT: dict[str, Any] = {
    "model": "sonnet",
    "system": [{"type": "text", "text": "Be brief.", "cache_control": MARK}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hello", "cache_control": {**MARK, "ttl": "1h"}},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                },
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                    "context": "c",
                    "citations": {"enabled": True},
                },
                {
                    "type": "search_result",
                    "source": "s",
                    "title": "t",
                    "content": [{"type": "text", "text": "x"}],
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "AAAA"},
                {"type": "redacted_thinking", "data": "AAAA"},
                {"type": "text", "text": "Hm.", "citations": []},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, "b"]}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "is_error": True,
                    "content": [{"type": "text", "text": "done"}],
                }
            ],
        },
        {"role": "system", "content": "Be briefer."},
        {"role": "user", "content": "so?"},
    ],
    "tools": [
        {
            "name": "f",
            "description": "does it",
            "input_schema": {"type": "object", "properties": {"a": {"type": "array"}}},
            "strict": True,
            "cache_control": MARK,
        },
        {"type": "bash_20250124", "name": "bash"},
    ],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1_024, "display": "summarized"},
    "output_config": {"effort": "low"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
}
MESSAGE: dict[str, Any] = COUNT | {
    "max_tokens": 2_000,
    "stream": True,
    "stop_sequences": ["x"],
    "temperature": 1,
    "top_k": 5,
    "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    "metadata": {"user_id": "me"},
    "service_tier": "auto",
}
# By path: a request that is fine, and the field that holds what is to be answered.
SAMPLES = {
    "/chat/completions": (CHAT, "messages"),
    "/completions": (COMPLETION, "prompt"),
    "/messages": (MESSAGE, "messages"),
    "/messages/count_tokens": (COUNT, "messages"),
    "/responses": (RESPONSES, "input"),
}
# All of them, or those that FUZZ_PATHS names.
PATHS = tuple(os.environ.get("FUZZ_PATHS", "").split()) or tuple(SAMPLES)


@dataclass
class Request:
    """``path`` is as described, ``target`` as sent. ``statuses``: all that may come, if not any
    that is described; ``is_http`` is false of what a server may refuse in any words.
    """

    method: str
    path: str
    target: bytes
    body: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    statuses: frozenset[int] | None = None
    is_http: bool = True

    def written(self) -> bytes:
        lines = [b"%b %b HTTP/1.1" % (self.method.encode("latin-1"), self.target)]
        lines += [b"%b: %b" % header for header in self.headers]
        return b"\r\n".join([*lines, b"", self.body])


def request(number: int, description: dict[str, Any], known: str) -> Request:
    """``known``: the id of a response that was kept."""
    rng = random.Random(number)
    kinds: list[tuple[int, Callable[[], Request]]] = [
        (30, lambda: mutated(rng)),
        (2, lambda: mutated(rng, times=0)),
        (20, lambda: by_schema(rng, description)),
        (20, lambda: no_json(rng)),
        (8, lambda: damaged(rng)),
        (12, lambda: query(rng, description, known)),
        (8, lambda: odd_head(rng)),
    ]
    weights = [weight for weight, _ in kinds]
    (make,) = rng.choices([make for _, make in kinds], weights)
    return make()


def post(rng: random.Random, path: str, body: bytes, **more: Any) -> Request:
    target = (rng.choice(("", "/v1")) + path).encode()
    headers = [*head(rng), (b"content-type", b"application/json")]
    headers.append((b"content-length", str(len(body)).encode()))
    return Request("POST", path, target, body, headers, **more)


def head(rng: random.Random) -> list[tuple[bytes, bytes]]:
    key = KEY.encode()
    by = rng.choice([(b"authorization", b"Bearer " + key), (b"x-api-key", key)])
    return [(b"host", b"localhost"), by]


def sample(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """A request that is fine, without some of what it need not have.

    Most end with a blank message, which is found last and costs no process of the CLI.
    """
    path = rng.choice([*PATHS])
    whole, question = SAMPLES[path]
    needed = {"model", "tools", "store", "max_tokens", question}
    asked = copy.deepcopy(
        {name: value for name, value in whole.items() if name in needed or rng.random() < 0.5}
    )
    if rng.random() < BLANK:
        asked[question] = ended(question, asked[question][:-1])
    return path, asked


def ended(question: str, given: Any) -> Any:
    """With nothing to answer at its end."""
    if question == "prompt":
        return " "
    last = {"role": "user", "content": " "}
    return [*given, last] if isinstance(given, list) else [last]


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(value, dict | list):
        return []
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [place for key, child in inner for place in [(*way, key), *places(child, (*way, key))]]


def put(value: Any, way: tuple[Any, ...], to: Any) -> None:
    for key in way[:-1]:
        value = value[key]
    value[way[-1]] = to


def mutated(rng: random.Random, times: int = 1) -> Request:
    """Fine but for one place."""
    path, asked = sample(rng)
    for _ in range(times):
        way = rng.choice(places(asked))
        change(rng, asked, way)
    return post(rng, path, json.dumps(asked, ensure_ascii=rng.random() < 0.5).encode())


def change(rng: random.Random, asked: Any, way: tuple[Any, ...]) -> None:
    *before, last = way
    inside = asked
    for key in before:
        inside = inside[key]
    match rng.randrange(8):
        case 0:
            del inside[last]
        case 1 if isinstance(inside, dict):
            inside[rng.choice(WORDS)] = anything(rng)
        case 2 if isinstance(inside, list):
            inside += [inside[last]] * rng.choice((1, 2, 200))
        case 3:
            inside[last] = [] if rng.random() < 0.5 else {}
        case 4:
            inside[last] = rng.choice((URLS, WORDS))[rng.randrange(10)]
        case 5:
            inside[last] = nested(rng)
        case 6:
            inside[last] = rng.choice(("long ", "\u00e9", ",[{")) * rng.choice((1_000, 200_000))
        case _:
            inside[last] = anything(rng)


def nested(rng: random.Random) -> Any:
    value: Any = "x"
    for _ in range(rng.choice((50, 99, 101, 500))):
        value = {"a": value} if rng.random() < 0.5 else [value]
    return value


def anything(rng: random.Random, depth: int = 3) -> Any:
    if depth and rng.random() < 0.3:
        inner = [anything(rng, depth - 1) for _ in range(rng.randrange(4))]
        return inner if rng.random() < 0.5 else {rng.choice(WORDS): one for one in inner}
    return rng.choice(rng.choice((SCALARS, WORDS, URLS)))


def by_schema(rng: random.Random, description: dict[str, Any]) -> Request:
    """What the description lets a client send, and sometimes not."""
    path = rng.choice([*PATHS])
    content = description["paths"][path]["post"]["requestBody"]["content"]
    value = Instance(rng, description).of(content["application/json"]["schema"], 6)
    if rng.random() < 0.7:
        value["model"] = "sonnet"
    if rng.random() < BLANK:
        question = SAMPLES[path][1]
        value[question] = ended(question, value[question])
    return post(rng, path, json.dumps(value).encode())


class Instance:
    """Of a JSON Schema, as msgspec writes them."""

    def __init__(self, rng: random.Random, description: dict[str, Any]) -> None:
        self._rng = rng
        self._schemas = description["components"]["schemas"]

    def of(self, schema: dict[str, Any], depth: int) -> Any:
        if "$ref" in schema:
            return self.of(self._schemas[schema["$ref"].rpartition("/")[2]], depth)
        if "anyOf" in schema or "oneOf" in schema:
            return self.of(self._rng.choice(schema.get("anyOf") or schema["oneOf"]), depth)
        if "enum" in schema:
            return self._rng.choice(schema["enum"])
        if schema.get("type") == "object":
            return self._object(schema, depth)
        if schema.get("type") == "array":
            count = schema.get("minItems", 0) + (self._rng.randrange(3) if depth > 0 else 0)
            return [self.of(schema.get("items", {}), depth - 1) for _ in range(count)]
        return self._scalar(schema)

    def _scalar(self, schema: dict[str, Any]) -> Any:
        match schema.get("type"):
            case "string":
                return self._rng.choice(WORDS)[: schema.get("maxLength")]
            case "integer" | "number":
                low = schema.get("minimum", 0)
                return self._rng.choice((low, schema.get("maximum", low + 100)))
            case "boolean":
                return self._rng.random() < 0.5
            case "null":
                return None
        return anything(self._rng, 2)

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        chance = 0.3 if depth > 0 else 0.0
        made = {
            name: self.of(one, depth - 1)
            for name, one in schema.get("properties", {}).items()
            if name in required or self._rng.random() < chance
        }
        if self._rng.random() < 0.05:
            made[self._rng.choice(WORDS)] = anything(self._rng)
        return made


def no_json(rng: random.Random) -> Request:
    """Fine but for one value, which is none: a 400 wherever it stands."""
    path, asked = sample(rng)
    way = rng.choice([*places(asked), ("unknown",)])
    put(asked, way, MARK)
    bad = rng.choice(NO_JSON)
    if not bad and isinstance(way[-1], int):
        bad = b"NaN"  # nothing at all is a value's lack in an object, but not in a list of one
    if rng.random() < 0.1:
        bad = b"[" * 100_000 + b"]" * 100_000
    body = json.dumps(asked).encode().replace(json.dumps(MARK).encode(), bad)
    return post(rng, path, body, statuses=frozenset({400}))


def damaged(rng: random.Random) -> Request:
    """What happens to a body on its way, or in a client that knows other encodings."""
    path, asked = sample(rng)
    body = json.dumps(asked).encode()
    at = rng.randrange(len(body))
    match rng.randrange(8):
        case 0:
            return post(rng, path, body[:at], statuses=frozenset({400}))
        case 1:
            bad = b"\xef\xbb\xbf" + body
        case 2:
            bad = body.decode().encode(rng.choice(("utf-16", "utf-32", "utf-16-be")))
        case 3:
            bad = body + rng.choice((b"x", b"{}", b"\x00", body))
        case 4:
            bad = rng.randbytes(rng.choice((1, 20, 5_000)))
        case 5:
            bad = body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :]
            return post(rng, path, bad)  # it may still be fine
        case 6:
            doubled = b'{"messages": 1, "prompt": 1, "input": {}, ' + body[1:]
            return post(rng, path, doubled, statuses=frozenset({400}))
        case _:
            bad = b""
    return post(rng, path, bad, statuses=frozenset({400}))


def query(rng: random.Random, description: dict[str, Any], known: str) -> Request:
    """Routes without a body, with ids and queries of all kinds."""
    operations = [
        (path, method, methods[method])
        for path, methods in description["paths"].items()
        for method in methods
        if method != "parameters" and "requestBody" not in methods[method]
    ]
    path, method, operation = rng.choice(operations)
    value = rng.choice(WORDS) if method == "delete" else rng.choice((known, *WORDS))
    named = quote(value.encode("utf-8", "surrogatepass"), safe="")
    target = path
    for place, name in (("{model}", "x"), ("{response_id}", "x"), ("{name}", "page.css")):
        target = target.replace(place, named or name)
    names = [one["name"] for one in operation.get("parameters", ())]
    if names or rng.random() < 0.2:
        pairs = [
            f"{quote(rng.choice([*names, 'x']))}={quote(str(anything(rng, 0)))}"
            for _ in range(rng.randrange(4))
        ]
        target += "?" + "&".join(pairs)
    sent = (rng.choice(("", "/v1")) + target).encode()
    return Request(method.upper(), path, sent, b"", head(rng))


def odd_head(rng: random.Random) -> Request:
    """Targets, methods and headers."""
    path, asked = sample(rng)
    asked["model"] = "nothing"
    fine = post(rng, path, json.dumps(asked).encode())
    match rng.randrange(9):
        case 0:
            fine.headers = [one for one in fine.headers if one[0] not in KEYS]
            fine.headers += rng.choice(WRONG_KEYS)
            fine.statuses = frozenset({401})
        case 1:
            kind = rng.choice((b"text/plain", b"application/xml", b"", b"json", b"\xff"))
            fine.headers = [one for one in fine.headers if one[0] != b"content-type"]
            fine.headers.append((b"content-type", kind))
            fine.statuses = frozenset({415})
        case 2:
            fine.headers.append((b"content-encoding", rng.choice((b"gzip", b"br", b"x"))))
            fine.statuses = frozenset({415})
        case 3:
            fine.method = rng.choice(("GET", "PUT", "PATCH", "FOO", "TRACE", "get", "A" * 200))
            fine.path, fine.target = "", b"/v1/chat/completions"
            fine.statuses = frozenset({405})
        case 4:
            fine.path, fine.target = "", rng.choice(TARGETS)
            fine.statuses = frozenset({404, 405})
        case 5:
            fine.headers.append((b"x-request-id", rng.choice((b"ok-1", b"", b"\xff", b"a" * 300))))
        case 6:
            fine.headers += [(b"x-%d" % n, b"v" * 100) for n in range(rng.randrange(80))]
        case 7:
            fine.headers.append(rng.choice(NO_HTTP))
            fine.is_http = False
        case _:
            fine.target = rng.choice((b"/\xff", b"", b"/a b", b"/\x00")) + fine.target
            fine.is_http = False
    return fine


KEYS = (b"authorization", b"x-api-key")
WRONG_KEYS: list[list[tuple[bytes, bytes]]] = [
    [],
    [(b"authorization", b"Bearer")],
    [(b"authorization", b"Bearer wrong")],
    [(b"authorization", b"Basic " + KEY.encode())],
    [(b"x-api-key", b"")],
    [(b"x-api-key", b"\xff\xfe")],
    [(b"authorization", b"Bearer " + b"a" * 10_000)],
]
TARGETS = (
    *(b"/", b"/v2/models", b"/v1", b"/v1/", b"//v1/models", b"/v1/models/", b"/v1/../etc/passwd"),
    *(
        b"/%00",
        b"/%ff",
        b"/%zz",
        b"/v1/chat/completions/",
        b"/v1/conversations",
        b"/v1/images/generations",
        b"/audio/speech",
        b"/" + b"a" * 9_000,
    ),
    *(b"*", b"http://other/v1/models", b"/v1/chat%2fcompletions%00", b"/v1/Models"),
)
NO_HTTP = (
    *((b"a b", b"c"), (b"", b"x"), (b"a\x00", b"x"), (b"a", b"x\x00y"), (b"content-length", b"x")),
    *((b"content-length", b"1"), (b"transfer-encoding", b"what"), (b"host", b"two")),
)
