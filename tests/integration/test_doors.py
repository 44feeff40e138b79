"""Who gets in, and as whom: a daemon's own gate, keys and addresses, from outside."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.lab import KEY, Daemon

FAKE = str(Path(__file__).parents[1] / "fakes" / "claude")
CHAT = (
    "/v1/chat/completions",
    {"model": "sonnet", "messages": [{"role": "user", "content": "hi"}]},
)
RESPOND = ("/v1/responses", {"model": "sonnet", "input": "hi", "store": False})
PAGE = "https://chat.example"


@pytest.fixture(scope="module")
def guarded():
    running = Daemon(
        *("--claude", FAKE, "--spares", "0", "--allow-host", "llm.example"),
        *("--allow-origin", PAGE, "--allow-origin", "app://*"),
    )
    yield running
    running.close()


def is_error(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["code"] == code
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "path", ["/health", "/v1/ready", "/metrics", "/v1/models", "/no/where", "/"]
)
def test_a_rebound_name_reaches_nothing_with_or_without_the_key(guarded, path):
    for key in ("none", KEY):
        headers = {"host": "evil.example", "authorization": f"Bearer {key}"}
        is_error(guarded.client.get(path, headers=headers), 403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost:1", "llm.example", "127.0.0.1"])
def test_names_of_the_machine_reach_it(guarded, host):
    assert guarded.client.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(("path", "body"), [CHAT, RESPOND])
def test_a_page_elsewhere_starts_no_turn_even_with_the_key(guarded, path, body):
    before = guarded.client.get("/metrics").text.split("claude_proxy_cli_starts_total ")[1]
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ):
        answer = guarded.client.post(path, json=body, headers=headers)
        is_error(answer, 403, "origin_not_allowed")
        assert "access-control-allow-origin" not in answer.headers
    assert guarded.client.get("/metrics").text.split("claude_proxy_cli_starts_total ")[1] == before


@pytest.mark.parametrize("origin", [PAGE, "app://obsidian.md"])
def test_an_allowed_page_may_ask_first_and_then_use_it_and_see_errors(guarded, origin):
    path, body = CHAT
    asked = guarded.client.options(
        path,
        headers={
            "authorization": "",
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
            "access-control-request-private-network": "true",
        },
    )
    assert (asked.status_code, asked.content) == (204, b"")
    assert asked.headers["access-control-allow-origin"] == origin
    assert asked.headers["access-control-allow-private-network"] == "true"
    assert "POST" in asked.headers["access-control-allow-methods"]
    answer = guarded.client.post(path, json=body, headers={"origin": origin})
    assert answer.status_code == 200
    wrong = guarded.client.post(path, json=body, headers={"origin": origin, "authorization": ""})
    is_error(wrong, 401, "invalid_api_key")
    streamed = guarded.client.post(path, json=body | {"stream": True}, headers={"origin": origin})
    for each in (answer, wrong, streamed):
        assert each.headers["access-control-allow-origin"] == origin
        assert "x-request-id" in each.headers["access-control-expose-headers"]


def test_another_page_s_preflight_is_refused(guarded):
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = guarded.client.options("/v1/models", headers=headers)
    is_error(answer, 403, "origin_not_allowed")
    assert "access-control-allow-origin" not in answer.headers


def test_pages_that_are_kept_out_fill_no_log(guarded):
    for _ in range(20):
        guarded.client.get("/v1/models", headers={"origin": "https://evil.example"})
    done = guarded.client.get("/v1/models").headers["x-request-id"]
    guarded.log.wait_for("request.done", request_id=done)
    assert len(guarded.log.records("gate.refused")) <= 1
    loud = [one for one in guarded.log.records("request.done") if one["level"] != "debug"]
    assert sum(one.get("error") == "origin_not_allowed" for one in loud) <= 1


def test_each_client_is_known_by_its_own_key(start, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"phone sk-phone\nlaptop sha256:{hashlib.sha256(b'sk-laptop').hexdigest()}\n")
    daemon = start("--claude", FAKE, "--spares", "0", "--api-keys-file", str(keys))
    path, body = CHAT
    for name, key in (("phone", "sk-phone"), ("laptop", "sk-laptop"), ("default", KEY)):
        answer = daemon.client.post(path, json=body, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200
        id_ = answer.headers["x-request-id"]
        assert daemon.log.wait_for("request.done", request_id=id_)["client"] == name
        usage = daemon.client.get("/v1/usage").json()
        assert usage["today"]["by_client"][name]["answers"] == 1
        assert f'claude_proxy_answers_total{{client="{name}"' in daemon.client.get("/metrics").text
    keys.write_text("phone sk-new\n")
    daemon.process.send_signal(1)
    daemon.log.wait_for("daemon.reloaded")
    for key, status in (("sk-phone", 401), ("sk-laptop", 401), ("sk-new", 200), (KEY, 200)):
        answer = daemon.client.get(
            "/v1/models", headers={"x-api-key": key, "authorization": "none"}
        )
        assert answer.status_code == status
    assert not any("sk-" in line for line in daemon.log.lines)


@pytest.mark.parametrize("address", ["--host=0.0.0.0", "--listen=[::]:0"])
def test_it_listens_beyond_loopback_only_when_that_is_meant(start, address):
    daemon = [sys.executable, "-m", "claude_proxy", "--port", "0", address]
    told = subprocess.run(
        [*daemon, "--claude", FAKE, "--api-key", "sk-x", "--spares", "0"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 78
    assert "can be reached from other machines" in told.stderr
    assert "--allow-remote" in told.stderr
    meant = start("--claude", FAKE, "--spares", "0", "--allow-remote", address)
    assert meant.log.wait_for("daemon.exposed")["level"] == "warning"
    port = re.search(r":(\d+)$", meant.url)[1]
    loopback = "127.0.0.1" if "0.0.0.0" in meant.url else "[::1]"
    assert httpx.get(f"http://{loopback}:{port}/health").text == "ok"
