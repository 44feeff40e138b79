"""Every failure gets one well-formed error in OpenAI's shape, and the next request is served."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from openai import APIError, AuthenticationError, OpenAI

from tests.lab import KEY, sse

FAKE = str(Path(__file__).parent.parent / "fakes" / "claude")


@pytest.fixture(scope="module")
def fake():
    from tests.lab import Daemon

    running = Daemon("--claude", FAKE, "--timeout", "3", "--spares", "1")
    yield running
    running.close()


def error_of(answer: httpx.Response) -> dict:
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    of_a_limit = {"resets_at", "resets_in_seconds"}
    assert set(body["error"]) - of_a_limit == {"message", "type", "param", "code"}
    assert (of_a_limit <= set(body["error"])) is (body["error"]["type"] == "usage_limit_reached")
    return body["error"]


@pytest.mark.parametrize(
    ("upstream", "status", "type_", "code"),
    [
        (400, 400, "invalid_request_error", None),
        (401, 401, "authentication_error", "upstream_authentication"),
        (403, 403, "permission_error", None),
        (404, 404, "invalid_request_error", "model_not_found"),
        (413, 413, "invalid_request_error", "request_too_large"),
        (429, 429, "rate_limit_error", "rate_limit_exceeded"),
        (500, 500, "server_error", None),
        (529, 503, "server_error", "overloaded"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_upstream_errors_keep_their_meaning(daemon, tag, upstream, status, type_, code, stream):
    prompt = f'{tag} [simulate error={upstream} message="what went wrong"]'
    answer = daemon.chat(prompt, stream=stream)
    assert answer.status_code == status
    error = error_of(answer)
    assert (error["type"], error["code"]) == (type_, code)
    assert ("retry-after" in answer.headers) == (status in (429, 503))


def test_retry_after_is_upstreams_own(daemon, tag):
    answer = daemon.chat(f"{tag} [simulate error=429 retry_after=2]")
    assert answer.headers["retry-after"] == "3"  # the CLI adds a little jitter
    assert "x-should-retry" not in answer.headers


def test_a_passing_failure_is_retried_by_the_cli(daemon, simulator, tag):
    answer = daemon.chat(f"{tag} [simulate error=529 times=1 text=ok]")
    assert answer.json()["choices"][0]["message"]["content"] == "ok"
    assert [request["status"] for request in simulator.requests(tag)] == [529, 200]
    done = daemon.log.wait_for("request.done", request_id=answer.headers["x-request-id"])
    assert done["retries"] == 1


def test_a_prompt_that_is_too_long_is_a_context_length_error(daemon, tag):
    answer = daemon.chat(
        f'{tag} [simulate error=400 message="prompt is too long: 210000 tokens > 200000 maximum"]'
    )
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "context_length_exceeded"


@pytest.mark.parametrize("how", ["stream_error=3", "break=3"])
def test_a_stream_that_breaks_ends_with_an_error_frame_and_no_text_twice(daemon, tag, how):
    answer = daemon.chat(f"{tag} [simulate tokens=6 {how}]", stream=True)
    frames = sse(answer.text)
    assert answer.status_code == 200
    assert set(frames[-1]) == {"error"}
    assert all(frame["choices"][0]["finish_reason"] is None for frame in frames[:-1])
    text = "".join(frame["choices"][0]["delta"].get("content") or "" for frame in frames[:-1])
    assert "w0 w1 w2 w3 w4 w5".startswith(text)


@pytest.mark.parametrize("how", ["stream_error=3", "break=3"])
def test_a_broken_answer_is_an_error_when_it_is_not_streamed(daemon, tag, how):
    answer = daemon.chat(f"{tag} [simulate tokens=6 {how}]")
    assert answer.status_code in (500, 502, 503)
    assert error_of(answer)["type"] == "server_error"


def test_an_answer_whose_end_was_seen_is_whole_even_if_the_connection_then_breaks(daemon, tag):
    answer = daemon.chat(f"{tag} [simulate tokens=3 torn=1]", stream=True)
    frames = sse(answer.text)
    assert frames[-2]["choices"][0]["finish_reason"] == "stop"
    assert frames[-1] == "[DONE]"
    assert ": keep-alive" not in answer.text


def test_the_sdk_raises_on_an_error_in_mid_stream(daemon, tag):
    with OpenAI(base_url=f"{daemon.url}/v1", api_key=KEY, max_retries=0) as client:
        stream = client.chat.completions.create(
            model="sonnet",
            messages=[{"role": "user", "content": f"{tag} [simulate tokens=6 stream_error=3]"}],
            stream=True,
        )
        with pytest.raises(APIError, match=r"\w+"):
            list(stream)


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ("crash", 500, None),
        ("crash-amid", 500, None),
        ("killed-amid", 500, None),
        ("torn", 502, None),
        ("non-utf-8", 502, None),
        ("silent", 504, "timeout"),
        ("silent-amid", 504, "timeout"),
        ("deaf", 504, "timeout"),
        ("login", 401, "upstream_authentication"),
        ("login-amid", 401, "upstream_authentication"),
        ("limit", 429, "rate_limit_exceeded"),
        ("nothing", 502, None),
    ],
)
def test_whatever_the_cli_does_the_client_gets_one_error(fake, how, status, code):
    with ThreadPoolExecutor(1) as beside:
        whole = beside.submit(fake.chat, how)
        streamed = fake.chat(how, stream=True)
        answer = whole.result()
    assert answer.status_code == status, answer.text
    assert error_of(answer)["code"] == code
    if how.endswith("amid") or how in ("torn", "non-utf-8", "deaf"):
        frames = sse(streamed.text)
        assert frames[0]["choices"][0]["delta"]["role"] == "assistant"
        assert frames[-1]["error"]["code"] == code
        assert "[DONE]" not in frames
    else:
        assert streamed.status_code == status
        assert error_of(streamed)["code"] == code
    assert fake.chat("fine").json()["choices"][0]["message"]["content"] == "fine"


@pytest.mark.parametrize("ask", ["chat", "respond"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_plans_limit_tells_when_it_is_lifted_and_that_waiting_is_useless(fake, ask, stream):
    """Codex stops for this type and with this time alone."""
    answer = getattr(fake, ask)("limit", stream=stream)
    assert answer.status_code == 429
    assert 3_500 < int(answer.headers["retry-after"]) <= 3_601
    assert answer.headers["x-should-retry"] == "false"
    error = error_of(answer)
    assert (error["type"], error["code"]) == ("usage_limit_reached", "rate_limit_exceeded")
    assert 3_500 < error["resets_at"] - time.time() <= 3_601
    assert error["resets_in_seconds"] == int(answer.headers["retry-after"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("how", "status"), [("limit", 429), ("login", 401), ("nothing", 502), ("crash", 500)]
)
def test_an_early_failure_of_a_response_keeps_its_status(fake, how, status, stream):
    answer = fake.respond(how, stream=stream)
    assert (answer.status_code, error_of(answer)["param"]) == (status, None)


def test_not_logged_in_says_what_to_do(fake):
    assert "type `claude auth login`" in error_of(fake.chat("login"))["message"]


@pytest.mark.parametrize("how", ["garbage", "unknown", "chatty"])
def test_noise_is_stepped_over(fake, how):
    assert fake.chat(how).json()["choices"][0]["message"]["content"] == "one "


def test_a_line_of_twenty_megabytes_is_passed_on(fake):
    assert len(fake.chat("long").json()["choices"][0]["message"]["content"]) == 20_000_000


def test_a_silent_stream_is_kept_alive_in_its_dialects_way_until_it_is_given_up(start):
    daemon = start("--claude", FAKE, "--timeout", "16")
    with ThreadPoolExecutor(2) as threads:
        chat, message = threads.map(
            lambda ask: ask("silent-amid", stream=True), (daemon.chat, daemon.message)
        )
    assert chat.text.count(": keep-alive\n\n") == 1
    assert sse(chat.text)[-1]["error"]["code"] == "timeout"
    *events, error = sse(message.text)
    assert ": keep-alive" not in message.text
    # One comes with the beginning.
    assert [event["type"] for event in events].count("ping") == 2
    assert (error["type"], error["error"]["type"]) == ("error", "timeout_error")


@pytest.mark.parametrize("stream", [True, False])
def test_a_crash_after_the_answer_is_not_the_clients_business(fake, stream):
    answer = fake.chat("crash-after", stream=stream)
    if stream:
        assert sse(answer.text)[-1] == "[DONE]"
    else:
        assert answer.json()["choices"][0]["message"]["content"] == "one "
    done = fake.log.wait_for("request.done", request_id=answer.headers["x-request-id"])
    assert (done["status"], done["finish_reason"]) == (200, "stop")
    assert not [line for line in fake.log.lines if "Traceback" in line]


def test_a_question_of_the_cli_is_refused(fake):
    answer = fake.chat("asks").json()["choices"][0]["message"]["content"]
    assert json.loads(answer)["subtype"] == "error"


def test_a_cli_that_cannot_start_is_an_error_and_says_why_in_the_log(start):
    daemon = start("--claude", FAKE, env={"FAKE_CLAUDE_START": "crash"})
    assert daemon.chat("hi").status_code == 500
    failed = daemon.log.wait_for("claude.spare_failed")
    assert failed["stderr"] == "cannot start: no such library"
    assert "exit code 7" in failed["reason"]
    assert daemon.client.get("/health").text == "ok"


@pytest.mark.parametrize("key", [None, "wrong", "test-key-d6c7f", "Ünïcode", "x" * 5_000])
def test_without_the_key_there_is_no_answer(daemon, key):
    headers = {} if key is None else {"authorization": f"Bearer {key}".encode("latin-1")}
    for method, path in [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/x")]:
        answer = httpx.request(method, daemon.url + path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert error_of(answer)["code"] == "invalid_api_key"


@pytest.mark.parametrize("headers", [{"authorization": f"bearer {KEY}"}, {"x-api-key": KEY}])
def test_the_key_is_taken_in_both_headers(daemon, headers):
    assert httpx.get(daemon.url + "/v1/models", headers=headers).status_code == 200


def test_the_sdk_sees_a_wrong_key_as_such(daemon):
    with (
        OpenAI(base_url=f"{daemon.url}/v1", api_key="no", max_retries=0) as client,
        pytest.raises(AuthenticationError),
    ):
        client.models.list()


def test_unknown_paths_and_methods(daemon):
    missing = daemon.client.get("/v1/nothing")
    assert missing.status_code == 404
    assert error_of(missing)["code"] == "unknown_url"
    wrong = daemon.client.get("/v1/chat/completions")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    assert error_of(wrong)["code"] == "method_not_supported"
    for answer in (missing, wrong):
        done = daemon.log.wait_for("request.done", request_id=answer.headers["x-request-id"])
        assert done["error"] == error_of(answer)["code"]


def test_the_log_has_what_a_wrong_path_means_and_nothing_of_the_path(daemon):
    answer = daemon.client.post("/secret/v1/messages", json={})
    done = daemon.log.wait_for("request.done", request_id=answer.headers["x-request-id"])
    assert (done["route"], done["meant"]) == ("unknown", "/messages")
    assert "secret" not in str(done)


@pytest.mark.parametrize("path", ["/v1/chat/completions/", "/responses/"])
def test_a_slash_too_many_is_not_sent_elsewhere(daemon, path):
    """A redirect would lead where the client's own Host header says."""
    answer = daemon.client.post(path, json={}, headers={"host": "elsewhere.localhost"})
    assert answer.status_code in (404, 405)
    assert error_of(answer)["message"]


def test_only_json_is_taken(daemon):
    path = "/v1/chat/completions"
    for headers in ({"content-type": "text/plain"}, {"content-encoding": "gzip"}):
        answer = daemon.client.post(path, content=b"{}", headers=headers)
        assert answer.status_code == 415
        assert error_of(answer)["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b'{"messages": NaN}',
        b'{"model":"sonnet","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"sonnet","messages":[{"role":"user","content":"\\ud800"}]}',
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_no_request_is_a_400(daemon, body):
    answer = daemon.client.post(
        "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    assert error_of(answer)["type"] == "invalid_request_error"


def test_a_body_above_the_limit_is_refused_declared_or_not(start):
    daemon = start("--max-body-size", "64K", "--claude", FAKE)
    body = json.dumps({"model": "sonnet", "messages": [{"role": "user", "content": "x" * 70_000}]})
    headers = {"content-type": "application/json"}
    for content in (body.encode(), iter([body[:65_000].encode(), body[65_000:].encode()])):
        answer = daemon.client.post("/chat/completions", content=content, headers=headers)
        assert answer.status_code == 413
        assert error_of(answer)["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"audio": {}}, "audio"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ],
)
def test_a_bad_parameter_is_named(daemon, fields, param):
    answer = (
        daemon.chat("hi", **fields) if "messages" not in fields else daemon.chat(fields["messages"])
    )
    assert answer.status_code == 400, answer.text
    assert error_of(answer)["param"] == param


def test_every_response_has_its_headers(daemon):
    for answer in (daemon.client.get("/health"), daemon.client.get("/nothing"), daemon.chat("hi")):
        assert answer.headers["x-request-id"].startswith("req_")
        assert int(answer.headers["openai-processing-ms"]) >= 0
        assert answer.headers["openai-version"] == "2020-10-01"
    mine = daemon.client.get("/health", headers={"x-request-id": "mine-1"})
    assert mine.headers["x-request-id"] == "mine-1"
    odd = daemon.client.get("/health", headers={"x-request-id": "a b" * 100})
    assert odd.headers["x-request-id"].startswith("req_")


BROKEN = """
import claude_proxy.conversation as conversation
for module in ("openai.chat.completion", "openai.responses.stream"):
    stream = __import__(f"claude_proxy.{module}", fromlist=["x"])
    cls = getattr(stream, "ChunkStream", None) or stream.ResponseStream
    def feed(self, event, feed=cls.feed):
        if isinstance(event, conversation.TextDelta) and "three" in event.text:
            raise ValueError("a fault")
        return feed(self, event)
    cls.feed = feed
"""


@pytest.mark.parametrize("ask", ["chat", "respond"])
def test_a_fault_of_our_own_ends_a_stream_as_any_failure(start, tmp_path, ask):
    """A stream without its end would be asked for again and again."""
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    daemon = start(env={"PYTHONPATH": str(tmp_path)})
    paced = "[simulate text='one two three four' delay_ms=50]"
    answer = getattr(daemon, ask)(paced, stream=True)
    assert "one" in answer.text
    last = sse(answer.text)[-1]
    error = last["error"] if ask == "chat" else last["response"]["error"]
    assert "has a fault" in error["message"]
    assert "ValueError: a fault" in daemon.log.wait_for("request.crashed")["exception"]
    assert getattr(daemon, ask)("fine").status_code == 200
