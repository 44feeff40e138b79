"""The simulator as the process it is, over real sockets. Nothing here sleeps: tests wait for what
they need with /simulator/wait, each with a marker of its own in the prompt."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

Json = dict[str, Any]
COMMAND = [sys.executable, "-W", "error", "-m", "claude_proxy.simulator", "--until-stdin-closes"]
KEY = {"x-api-key": "sk-sim"}


@contextmanager
def running(*options: str) -> Iterator[str]:
    process = subprocess.Popen(
        [*COMMAND, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        yield line.removeprefix("listening on ").strip()
        process.communicate(timeout=10)  # closes stdin
    assert process.returncode == 0


@pytest.fixture(scope="module", params=["h11", "httptools"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "httptools":
        pytest.importorskip("httptools")
    with running("--http", request.param) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers=KEY, timeout=20, trust_env=False) as client:
        yield client


@pytest.fixture
def marker() -> str:
    return f"marker-{uuid.uuid4().hex}"


def body(prompt: str, **more: Any) -> Json:
    messages = [{"role": "user", "content": prompt}]
    return {"model": "claude-x", "max_tokens": 100_000, "messages": messages, **more}


def ask(client: httpx.Client, prompt: str, **more: Any) -> httpx.Response:
    return client.post("/v1/messages?beta=true", json=body(prompt, **more))


def events(lines: Iterator[str]) -> Iterator[Json]:
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def wait(client: httpx.Client, contains: str, outcome: str) -> Json:
    query = {"contains": contains, "outcome": outcome, "timeout": "10"}
    found: Json = client.get("/simulator/wait", params=query).raise_for_status().json()
    return found


def types(text: str) -> list[str]:
    return [line.removeprefix("event: ") for line in text.split("\n") if line.startswith("event:")]


# --- answers


def test_a_stream(client: httpx.Client, marker: str) -> None:
    got = ask(client, f"{marker} [simulate tokens=2]", stream=True)
    assert got.headers["content-type"].startswith("text/event-stream")
    assert types(got.text) == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    seen = client.get("/simulator/requests", params={"contains": marker}).json()
    assert len(seen) == 1
    assert seen[0]["id"] == got.headers["request-id"]
    assert seen[0]["body"] == body(f"{marker} [simulate tokens=2]", stream=True)
    assert "x-api-key" not in seen[0]["headers"]
    assert (seen[0]["outcome"], seen[0]["status"], seen[0]["deltas"]) == ("completed", 200, 2)


def test_a_whole_answer(client: httpx.Client, marker: str) -> None:
    got = ask(client, f"{marker} [simulate text=hi header='x-extra: yes']").json()
    assert got["content"] == [{"type": "text", "text": "hi"}]
    assert got["type"] == "message"


def test_count_tokens(client: httpx.Client) -> None:
    asked = {key: value for key, value in body("12345678").items() if key != "max_tokens"}
    assert client.post("/v1/messages/count_tokens", json=asked).json() == {"input_tokens": 6}


def test_the_cache_is_used(client: httpx.Client, marker: str) -> None:
    content = [{"type": "text", "text": marker * 300, "cache_control": {"type": "ephemeral"}}]
    asked = body("") | {"messages": [{"role": "user", "content": content}]}
    first, second = (client.post("/v1/messages", json=asked).json()["usage"] for _ in range(2))
    assert first["cache_creation_input_tokens"] == second["cache_read_input_tokens"] > 1024


def test_root(client: httpx.Client) -> None:
    assert client.head("/").status_code == client.get("/").status_code == 200


# --- refusals


def failure(got: httpx.Response) -> tuple[int, str]:
    error = got.json()
    assert error["type"] == "error"
    assert error["request_id"] == got.headers["request-id"]
    return got.status_code, error["error"]["type"]


@pytest.mark.parametrize("path", ["/nothing", "/v1/messages", "/v1/models"])
def test_unknown_routes(client: httpx.Client, path: str) -> None:
    assert failure(client.get(path)) == (404, "not_found_error")


@pytest.mark.parametrize(
    "headers", [{}, {"x-api-key": "invalid"}, {"authorization": "Bearer sk-invalid"}]
)
def test_credentials(url: str, headers: Json) -> None:
    got = httpx.post(f"{url}/v1/messages", json=body("x"), headers=headers, trust_env=False)
    assert failure(got) == (401, "authentication_error")


def test_a_bearer_is_enough(url: str) -> None:
    headers = {"authorization": "Bearer sk-sim"}
    got = httpx.post(f"{url}/v1/messages", json=body("x"), headers=headers, trust_env=False)
    assert got.status_code == 200


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b"\xff", b"[" * 100_000])
def test_no_json(client: httpx.Client, content: bytes) -> None:
    assert failure(client.post("/v1/messages", content=content)) == (400, "invalid_request_error")


def test_too_large(client: httpx.Client) -> None:
    got = client.post("/v1/messages", content=b" " * (32 * 1024 * 1024 + 1))
    assert failure(got) == (413, "request_too_large")


def test_unknown_model(client: httpx.Client) -> None:
    assert failure(ask(client, "x", model="gpt")) == (404, "not_found_error")


def test_malformed_directive(client: httpx.Client) -> None:
    got = ask(client, "[simulate token=1]")
    assert failure(got) == (400, "invalid_request_error")
    assert "[simulate token=1]" in got.json()["error"]["message"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(402, "billing_error"), (429, "rate_limit_error"), (529, "overloaded_error")],
)
def test_told_errors(client: httpx.Client, marker: str, status: int, kind: str) -> None:
    prompt = f"{marker} [simulate error={status} message='no no' retry_after=7 times=2]"
    for stream in (True, False):
        got = ask(client, prompt, stream=stream)
        assert failure(got) == (status, kind)
        assert got.headers["retry-after"] == "7"
        assert got.json()["error"]["message"] == "no no"
    assert ask(client, prompt).status_code == 200
    assert wait(client, marker, "error")["status"] == status


# --- failures in mid-stream


def test_stream_error(client: httpx.Client, marker: str) -> None:
    got = ask(client, f"{marker} [simulate tokens=9 stream_error=3]", stream=True)
    assert types(got.text)[-2:] == ["content_block_delta", "error"]
    assert got.text.count("text_delta") == 3
    assert "overloaded_error" in got.text
    assert wait(client, marker, "error")["deltas"] == 3


@pytest.mark.parametrize("count", [0, 1, 300, 999])
def test_break(client: httpx.Client, marker: str, count: int) -> None:
    prompt = f"{marker} [simulate tokens=600 break={count}]"
    received = until_it_breaks(client, prompt)
    assert received.count("text_delta") == min(count, 600)
    assert types(received)[-1] == ("content_block_delta" if count else "message_start")
    assert wait(client, marker, "error")["deltas"] == min(count, 600)


def until_it_breaks(client: httpx.Client, prompt: str) -> str:
    """What comes of a stream whose connection closes too early."""
    received = ""
    with client.stream("POST", "/v1/messages", json=body(prompt, stream=True)) as got:
        try:
            for piece in got.iter_text():
                received += piece
        except httpx.RemoteProtocolError:
            return received
    pytest.fail("the stream ended well")


def test_torn(client: httpx.Client, marker: str) -> None:
    received = until_it_breaks(client, f"{marker} [simulate torn=1]")
    assert types(received)[-1] == "message_stop"
    assert not received.endswith("\n\n")


def test_failures_of_streams_leave_whole_answers_alone(client: httpx.Client) -> None:
    assert ask(client, "[simulate tokens=2 break=1 torn=1 stream_error=0]").status_code == 200


# --- holds, pace, leaving clients


@pytest.mark.parametrize("after", [0, 2, 5])
def test_hold(client: httpx.Client, marker: str, after: int) -> None:
    prompt = f"[simulate tokens=5 hold={marker} hold_after={after}]"
    received = 0
    with client.stream("POST", "/v1/messages", json=body(prompt, stream=True)) as got:
        stream = events(got.iter_lines())
        assert next(stream)["type"] == "message_start"
        assert wait(client, marker, "held")["deltas"] == after
        assert client.get("/simulator/streams").json()["open"] >= 1
        while received < after:
            received += next(stream)["type"] == "content_block_delta"
        client.post(f"/simulator/release/{marker}").raise_for_status()
        received += sum(event["type"] == "content_block_delta" for event in stream)
    assert received == 5
    assert wait(client, marker, "completed")["deltas"] == 5


def test_two_holds_one_released_before(client: httpx.Client, marker: str) -> None:
    client.post(f"/simulator/release/{marker}-a")
    prompt = f"[simulate tokens=9 hold={marker}-b hold_after=7 hold={marker}-a hold_after=3]"
    with client.stream("POST", "/v1/messages", json=body(prompt, stream=True)) as got:
        assert wait(client, marker, "held")["deltas"] == 7
        client.post(f"/simulator/release/{marker}-b")
        got.read()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "directive", ["hold_before=NAME", "hold=NAME hold_after=1", "delay_ms=100000 tokens=9"]
)
def test_a_leaving_client_is_noticed(
    client: httpx.Client, url: str, marker: str, directive: str, *, stream: bool
) -> None:
    prompt = f"{marker} [simulate {directive.replace('NAME', marker)}]"
    content = json.dumps(body(prompt, stream=stream)).encode()
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\ncontent-length: {len(content)}"
    )
    with socket.create_connection(_address(url)) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + content)
        wait(client, marker, "held" if "hold" in directive else "running")
    assert wait(client, marker, "disconnected")["status"] in (None, 200)


def test_backpressure(client: httpx.Client, url: str, marker: str) -> None:
    """A client that does not read stops the simulator; when it leaves, the stream ends."""
    prompt = f"{marker} [simulate tokens=200000]"
    with client.stream("POST", "/v1/messages", json=body(prompt, stream=True, max_tokens=10**6)):
        assert wait(client, marker, "running")["status"] in (None, 200)
    assert wait(client, marker, "disconnected")["deltas"] < 200_000


def test_first_delay_and_delay_keep_the_answer_whole(client: httpx.Client, marker: str) -> None:
    prompt = f"{marker} [simulate thinking=2 tokens=3 first_delay_ms=1 delay_ms=1]"
    got = ask(client, prompt, stream=True, thinking={"type": "adaptive"})
    assert got.text.count("event: content_block_delta") == 6
    assert types(got.text)[-1] == "message_stop"


def test_hold_before_holds_errors_too(client: httpx.Client, url: str, marker: str) -> None:
    prompt = f"[simulate error=500 hold_before={marker}]"
    got: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: got.append(ask(client, prompt)))
    asking.start()
    with httpx.Client(base_url=url, timeout=20, trust_env=False) as other:
        assert wait(other, marker, "held")["status"] is None
        other.post(f"/simulator/release/{marker}")
    asking.join(timeout=10)
    assert failure(got[0]) == (500, "api_error")


# --- control


def test_wait_times_out(client: httpx.Client, marker: str) -> None:
    query = {"contains": marker, "outcome": "any", "timeout": "0"}
    assert client.get("/simulator/wait", params=query).status_code == 408
    assert client.get("/simulator/wait?timeout=x").status_code == 400
    assert client.get("/simulator/nothing").status_code == 404


def test_the_record_is_bounded_and_can_be_emptied() -> None:
    with running() as url, httpx.Client(base_url=url, headers=KEY, trust_env=False) as client:
        for number in range(520):
            client.post("/v1/messages/count_tokens", json=body(f"number {number}."))
        seen = client.get("/simulator/requests").json()
        assert len(seen) == 512
        assert seen[-1]["body"]["messages"][0]["content"] == "number 519."
        for _ in range(3):
            client.post("/v1/messages", content=b" " * (30 * 1024 * 1024))
        assert len(client.get("/simulator/requests").json()) == 2
        client.delete("/simulator/requests").raise_for_status()
        assert client.get("/simulator/requests").json() == []


def test_an_inherited_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [*COMMAND, "--fd", str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
    with process:
        url = f"http://127.0.0.1:{port}/v1/messages"
        got = httpx.post(url, json=body("x"), headers=KEY, trust_env=False, timeout=20)
        assert got.status_code == 200
        output, _ = process.communicate(timeout=10)
    assert (output, process.returncode) == (b"", 0)


def test_stdin_ends_it_in_the_middle_of_a_stream(marker: str) -> None:
    with running() as url, httpx.Client(base_url=url, headers=KEY, trust_env=False) as client:
        prompt = f"[simulate hold={marker}]"
        request = client.build_request("POST", "/v1/messages", json=body(prompt, stream=True))
        held = client.send(request, stream=True)
        wait(client, marker, "held")
    held.close()


def _address(url: str) -> tuple[str, int]:
    parsed = httpx.URL(url)
    return parsed.host, parsed.port or 80
