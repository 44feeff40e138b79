"""Anthropic's Messages API through the real CLI: what clients get, and what arrives upstream."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import uuid
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import Anthropic
from hypothesis import HealthCheck, given, settings
from pydantic import BaseModel

from tests.anthropic_requests import MARK, PDF_SOURCE, as_turns, conversations, text
from tests.lab import (
    KEY,
    Daemon,
    by_place,
    process_of,
    sse,
    system_upstream,
    text_block,
    turns_upstream,
    wait_until,
)

LOOK = {
    "name": "look",
    "description": "Looks.",
    "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
}
ADAPTIVE = {"type": "adaptive", "display": "summarized"}


@pytest.fixture(scope="module")
def client(daemon):
    with Anthropic(base_url=daemon.url, api_key=KEY, max_retries=0) as made:
        yield made


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def said(answer: httpx.Response) -> dict[str, Any]:
    """The model's message, as clients send it back."""
    assert answer.status_code == 200, answer.text
    return {"role": "assistant", "content": answer.json()["content"]}


def result(use: dict[str, Any], content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": use["id"], "content": content, **more}


def marks(body: dict[str, Any]) -> int:
    return json.dumps([body.get("tools"), body["system"], body["messages"]]).count(
        '"cache_control"'
    )


def arrived(simulator, tag: str) -> list[dict[str, Any]]:
    """The bodies of requests that hold the tag; in none are more marks than the API takes."""
    bodies = [one["body"] for one in simulator.requests(tag) if one["path"] == "/v1/messages"]
    assert all(1 <= marks(body) <= 4 for body in bodies)
    return bodies


def placed(turns: list[tuple[str, list[dict[str, Any]]]]) -> list[tuple[str, list[Any]]]:
    """The API takes a result's text for one block of text, and the CLI makes it that."""

    def whole(block: dict[str, Any]) -> dict[str, Any]:
        content = block.get("content")
        return block | {"content": [text(content)]} if isinstance(content, str) else block

    return by_place([(role, [whole(block) for block in blocks]) for role, blocks in turns])


@given(conversations())
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_message_arrives_as_it_was(daemon, simulator, steps):
    tag = f"tag{uuid.uuid4().hex}"
    steps = [*steps, ("user", tag, [text(tag)])]
    messages = [{"role": role, "content": content} for role, content, _ in steps]
    answer = daemon.message(messages, tools=[LOOK], system=[text("Be brief.", **MARK)])
    assert answer.status_code == 200, answer.text
    (body,) = arrived(simulator, tag)
    assert turns_upstream(body) == as_turns(steps)
    assert system_upstream(body) == ["Be brief."]
    assert body["tools"] == [LOOK]


def test_options_arrive(start, simulator, tag):
    daemon = start("--forward-sampling", "--spares", "1")
    options = {
        "max_tokens": 2_345,
        "stop_sequences": ["END", "\n\n#"],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1_500},
        "temperature": 1,
        "top_k": 40,
    }
    tools = [LOOK | {"strict": True}, {"type": "bash_20250124", "name": "bash"}]
    odd = {"name": "search.the web", "input_schema": {"type": "object"}, "input_examples": [{}]}
    answer = daemon.message(
        tag,
        **options,
        tools=[*tools, odd | MARK],
        output_config={"effort": "high"},
        metadata={"user_id": "me"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-claude-proxy-ignored"] == "metadata"
    (body,) = arrived(simulator, tag)
    assert {name: body.get(name) for name in options} == options
    assert body["tools"][:2] == tools
    assert body["tools"][2] == odd | {"name": body["tools"][2]["name"]}
    assert body["output_config"]["effort"] == "high"
    forced = {"type": "tool", "name": "search.the web"}
    off = {"type": "disabled"}
    called = daemon.message(f"{tag} call", tools=[odd], tool_choice=forced, thinking=off)
    (use,) = called.json()["content"]
    assert (use["type"], use["name"]) == ("tool_use", "search.the web")
    assert called.json()["stop_reason"] == "tool_use"
    body = arrived(simulator, f"{tag} call")[0]
    assert body["tool_choice"] == {"type": "tool", "name": body["tools"][0]["name"]}
    assert body["thinking"] == off


def test_the_sdk_gets_the_same_message_streamed_and_whole(client, simulator, tag):
    prompt = f'{tag} [simulate thinking=2 redacted=1 text="Hello \u2028 there." tool=look]'
    asked = {
        "model": "sonnet",
        "max_tokens": 1_000,
        "messages": [user(prompt)],
        "tools": [LOOK],
        "thinking": ADAPTIVE,
    }
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    assert [block.type for block in whole.content] == [
        *("thinking", "redacted_thinking", "text", "tool_use")
    ]
    assert whole.content[2].text == "Hello \u2028 there."
    first, second = (
        message.to_dict(exclude_none=True) if hasattr(message, "to_dict") else message
        for message in (whole, streamed)
    )
    for message in (first, second):
        assert message.pop("id").startswith("msg_")
        assert message["content"][3].pop("id").startswith("toolu_")
        message["usage"].pop("cache_read_input_tokens")
        message["usage"].pop("cache_creation_input_tokens")
        message["usage"].pop("input_tokens")
        message["content"] = [
            {name: value for name, value in block.items() if name != "parsed_output"}
            for block in message["content"]
        ]
    assert first == second
    assert first["model"] == "claude-sonnet-5-5"
    assert first["stop_reason"] == "tool_use"
    assert first["usage"]["output_tokens_details"]["thinking_tokens"] > 0
    upstream = arrived(simulator, tag)[0]
    assert upstream["thinking"] == ADAPTIVE


def test_a_loop_of_tools_goes_on_in_its_process_with_thinking_and_moving_marks(
    daemon, simulator, tag
):
    """As agents do: all that was said comes back, and the last two user messages are marked."""
    history = [user([text(step(tag, 0))])]
    process = []
    for n in range(1, 5):
        answer = daemon.message(
            with_marks(history),
            system=[text("word " * 2_000, **MARK)],
            tools=[LOOK | MARK],
            thinking=ADAPTIVE,
        )
        process.append(process_of(daemon, answer))
        message = said(answer)
        kinds = [block["type"] for block in message["content"]]
        assert kinds == ["thinking", "text", "tool_use"]
        use = message["content"][2]
        failed = {"is_error": True} if n == 2 else {}
        history += [message, user([result(use, [text(step(tag, n))], **failed)])]
    answer = daemon.message(
        with_marks(history),
        system=[text("word " * 2_000, **MARK)],
        tools=[LOOK | MARK],
        thinking=ADAPTIVE,
    )
    process.append(process_of(daemon, answer))
    assert process[1:] == ["continued"] * 4
    bodies = arrived(simulator, tag)
    assert len(bodies) == 5
    for earlier, later in itertools.pairwise(map(turns_upstream, bodies)):
        assert later[: len(earlier)] == earlier
    expected = [(one["role"], one["content"]) for one in history]
    assert placed(turns_upstream(bodies[-1])) == placed(expected)
    assert answer.json()["usage"]["cache_read_input_tokens"] > 2_000


def step(tag: str, n: int) -> str:
    calls = f"[simulate thinking=1 text='Step {n}.' tool=look]" if n < 4 else ""
    return f"{tag} {n} {calls}"


def with_marks(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """On the last blocks of the last two user messages."""
    made = json.loads(json.dumps(history))
    for message in [one for one in made if one["role"] == "user"][-2:]:
        message["content"][-1] |= MARK
    return made


@pytest.mark.parametrize(
    ("content", "more", "goes_on"),
    [
        ("plain", {}, True),
        ([text("it broke")], {"is_error": True}, True),
        ([text("it"), text("broke")], {"is_error": True}, False),
        ([{"type": "document", "source": PDF_SOURCE}], {}, False),
        (None, {}, False),
    ],
    ids=["text", "failure", "failure of two texts", "document", "nothing"],
)
def test_every_result_of_a_tool_arrives_as_it_was(daemon, simulator, tag, content, more, goes_on):
    prompt = user(f"{tag} [simulate tool=look]")
    message = said(daemon.message([prompt], tools=[LOOK]))
    (use,) = message["content"]
    block = result(use, content, **more) | MARK
    if content is None:
        del block["content"]
    answer = daemon.message([prompt, message, user([block])], tools=[LOOK])
    assert answer.status_code == 200, answer.text
    assert (process_of(daemon, answer) == "continued") is goes_on
    bare = {name: value for name, value in block.items() if name != "cache_control"}
    sent = [text(content)] if isinstance(content, str) else content
    expected = bare | ({"content": sent} if sent else {})
    turns = turns_upstream(arrived(simulator, tag)[-1])
    assert placed(turns)[2] == ("user", [expected | {"tool_use_id": 0}])


def test_the_clients_last_mark_is_kept_when_it_is_told_anew(daemon, simulator, tag):
    history = [user([text(f"{n}", **MARK)]) for n in range(6)]
    history[4:4] = [{"role": "assistant", "content": [text("yes", **MARK)]}]
    tools = [LOOK | {"name": f"f{n}"} | MARK for n in range(3)]
    answer = daemon.message(
        [*history, user(tag)], tools=tools, system=[text("a", **MARK), text("b", **MARK)]
    )
    assert answer.status_code == 200, answer.text
    (body,) = arrived(simulator, tag)
    blocks = [b for m in body["messages"] if m["role"] != "system" for b in m["content"]]
    assert [b["text"] for b in blocks if "cache_control" in b] == ["5"]
    goes_on = daemon.message(
        [*history, user(tag), said(answer), user([text("more", **MARK)])],
        tools=tools,
        system="a\n\nb",
    )
    assert process_of(daemon, goes_on) == "continued"
    assert marks(arrived(simulator, tag)[-1]) <= 4


def test_a_conversation_goes_on_in_the_other_dialect_and_back(daemon, simulator, tag):
    first = daemon.message(f"{tag} [simulate text=one]", system="Be brief.")
    chat = [
        {"role": "system", "content": "Be brief."},
        user(f"{tag} [simulate text=one]"),
        {"role": "assistant", "content": "one"},
        user(f"{tag} [simulate text=two]"),
    ]
    second = daemon.chat(chat)
    assert process_of(daemon, second) == "continued"
    history = [
        *(chat[1], said(first), chat[3]),
        *({"role": "assistant", "content": [text("two")]}, user(f"{tag} last")),
    ]
    third = daemon.message(history, system=[text("Be brief.")])
    assert process_of(daemon, third) == "continued"
    turns = turns_upstream(arrived(simulator, tag)[-1])
    assert turns == [
        ("user", [text_block(f"{tag} [simulate text=one]")]),
        ("assistant", [text_block("one")]),
        ("user", [text_block(f"{tag} [simulate text=two]")]),
        ("assistant", [text_block("two")]),
        ("user", [text_block(f"{tag} last")]),
    ]


@pytest.mark.parametrize(
    ("directive", "fields", "reason"),
    [
        ("tokens=9", {"max_tokens": 3}, ("max_tokens", None)),
        ("text='one two END three'", {"stop_sequences": ["END"]}, ("stop_sequence", "END")),
        ("stop=refusal", {}, ("refusal", None)),
        (
            "tokens=2 stop=model_context_window_exceeded",
            {},
            ("model_context_window_exceeded", None),
        ),
    ],
)
def test_every_end_is_told_and_the_cli_does_not_go_on(
    daemon, simulator, tag, directive, fields, reason
):
    prompt = f"{tag} [simulate {directive}]"
    whole = daemon.message(prompt, **fields)
    assert whole.status_code == 200, whole.text
    made = whole.json()
    assert (made["stop_reason"], made["stop_sequence"]) == reason
    assert ("stop_details" in made) is (reason[0] == "refusal")
    assert len(arrived(simulator, tag)) == 1
    delta, stop = sse(daemon.message(prompt, stream=True, **fields).text)[-2:]
    told = (delta["delta"]["stop_reason"], delta["delta"]["stop_sequence"])
    assert (told, stop) == (reason, {"type": "message_stop"})


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (529, anthropic.APIStatusError, "overloaded_error"),
    ],
)
def test_an_early_failure_keeps_its_status(client, tag, status, kind, told):
    prompt = f"{tag} [simulate error={status} message='so it is']"
    with pytest.raises(kind) as caught:
        client.messages.create(model="sonnet", max_tokens=9, messages=[user(prompt)])
    assert caught.value.status_code == status
    assert caught.value.body["error"]["type"] == told
    assert "so it is" in caught.value.body["error"]["message"]
    assert caught.value.request_id == caught.value.body["request_id"]
    assert ("retry-after" in caught.value.response.headers) is (status > 400)


def test_a_failure_in_mid_stream_is_raised_by_the_sdk(client, tag):
    prompt = f"{tag} [simulate tokens=9 stream_error=3]"
    asked = {"model": "sonnet", "max_tokens": 99, "messages": [user(prompt)]}
    said: list[str] = []
    with (
        client.messages.stream(**asked) as stream,
        pytest.raises(anthropic.APIStatusError, match="overloaded_error"),
    ):
        said.extend(stream.text_stream)
    assert "".join(said) == "w0 w1 w2 "


def post(daemon: Daemon, path: str, body: dict[str, Any]) -> socket.socket:
    address = httpx.URL(daemon.url)
    data = json.dumps(body).encode()
    connection = socket.create_connection((address.host, address.port), timeout=30)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    connection.sendall(head.encode() + data)
    return connection


def test_a_client_that_leaves_ends_its_turn(daemon, simulator, tag):
    prompt = f"{tag} [simulate tokens=9 hold={tag} hold_after=2]"
    asked = {"model": "sonnet", "max_tokens": 99, "messages": [user(prompt)], "stream": True}
    with contextlib.closing(post(daemon, "/v1/messages", asked)) as connection:
        simulator.wait(tag, "held")
        assert connection.recv(100)
    assert simulator.wait(tag, "disconnected")["deltas"] == 2


def test_tokens_are_what_the_api_counts_of_every_part(daemon, simulator, client, tag):
    asked = {
        "model": "sonnet",
        "system": [text(f"{tag} Be brief.")],
        "tools": [LOOK],
        "messages": [
            user([text(f"{tag} {'word ' * 50}"), {"type": "document", "source": PDF_SOURCE}]),
            {"role": "assistant", "content": "yes"},
            user(f"{tag} more"),
        ],
    }
    counted = client.messages.count_tokens(**asked).input_tokens
    requests = [r for r in simulator.requests(tag) if r["path"].endswith("/count_tokens")]
    assert len(requests) >= 2
    assert not arrived(simulator, tag), "nothing was asked of the model"
    expected = simulator.client.post(
        "/v1/messages/count_tokens", json=asked | {"model": "claude-x"}, headers={"x-api-key": "x"}
    )
    assert counted == pytest.approx(expected.raise_for_status().json()["input_tokens"], abs=3)
    shorter = client.messages.count_tokens(**asked | {"tools": [], "messages": [user(tag)]})
    assert 0 < shorter.input_tokens < counted


def test_a_tool_runner_of_the_sdk_goes_on_without_a_thread(client, daemon, simulator, tag):
    """A new one first asks that the conversation be held for it."""
    refused = daemon.message(tag, thread={"type": "create"})
    assert refused.status_code == 400
    details = refused.json()["error"]["details"]
    assert details == {"error_code": "thread_unsupported_request"}

    @anthropic.beta_tool
    def look(n: int) -> str:
        """Looks.

        Args:
            n: how often
        """
        return f"seen {n}"

    before = len(daemon.log.records("request.done"))
    prompt = f"{tag} [simulate tool=look input='{{\"n\":7}}']"
    runner = client.beta.messages.tool_runner(
        model="sonnet", max_tokens=999, messages=[user(prompt)], tools=[look]
    )
    assert "seen 7" in runner.until_done().content[0].text

    def answered():
        return [one for one in daemon.log.records("request.done")[before:] if one["status"] == 200]

    assert wait_until(lambda: len(answered()) == 2)
    assert answered()[1]["process"] == "continued"
    assert len(arrived(simulator, tag)) == 2


class City(BaseModel):
    name: str
    population: int


def test_the_answer_fits_the_schema(client, daemon, simulator, tag):
    parsed = client.messages.parse(
        model="sonnet", max_tokens=999, messages=[user(tag)], output_format=City
    )
    assert isinstance(parsed.parsed_output, City)
    assert parsed.stop_reason == "end_turn"
    form = {"type": "json_schema", "schema": City.model_json_schema()}
    answer = daemon.message(f"{tag} again", output_config={"format": form}, stream=True)
    deltas = [e["delta"] for e in sse(answer.text) if e["type"] == "content_block_delta"]
    City.model_validate_json("".join(delta["text"] for delta in deltas))
    assert len(arrived(simulator, f"{tag} again")) == 1


def test_betas_of_today_change_nothing_that_is_not_there(client, daemon, simulator, tag):
    betas = [
        *("claude-code-20250219", "interleaved-thinking-2025-05-14", "prompt-caching-2024-07-31"),
        *("fine-grained-tool-streaming-2025-05-14", "context-1m-2025-08-07"),
    ]
    answer = client.beta.messages.create(
        model="sonnet", max_tokens=99, betas=betas, messages=[user(f"{tag} [simulate text=yes]")]
    )
    assert answer.content[0].text == "yes"
    with pytest.raises(anthropic.BadRequestError, match="files-api-2025-04-14"):
        client.beta.messages.create(
            model="sonnet", max_tokens=9, betas=["files-api-2025-04-14"], messages=[user(tag)]
        )
    assert [model.type for model in client.models.list(limit=3)][:1] == ["model"]
    assert client.models.retrieve("sonnet").id == "sonnet"


def test_without_a_login_nothing_is_counted(start):
    """The CLI would not say so, but guess."""
    daemon = start("--spares", "0", env={"ANTHROPIC_API_KEY": None})
    body = {"model": "sonnet", "messages": [{"role": "user", "content": "hi"}]}
    answer = daemon.client.post("/v1/messages/count_tokens", json=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
    assert "claude auth login" in answer.json()["error"]["message"]
