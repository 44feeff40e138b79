"""Budgets and rates of a running daemon, and what it tells of its own doings."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.lab import function, process_of, wait_until

FAKE = str(Path(__file__).parents[1] / "fakes" / "claude")
# What each answer of the stand-in costs.
PRICE = 0.25


def figures(daemon) -> dict[tuple[str, ...], float]:
    """Every sample of /metrics, by its name and the values of its labels, sorted by theirs."""
    answer = daemon.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.mark.parametrize("ask", ["chat", "respond"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_spent_budget_is_told_before_and_then_refused_in_every_dialect(start, ask, stream):
    daemon = start("--claude", FAKE, "--spares", "0", "--budget", "0.5/day")
    for warned in (False, False):
        answer = getattr(daemon, ask)("hi", stream=stream)
        assert answer.status_code == 200
        assert ("x-claude-proxy-budget" in answer.headers) == warned
        daemon.log.wait_for("request.done", request_id=answer.headers["x-request-id"])
    refused = getattr(daemon, ask)("hi", stream=stream)
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    tomorrow = (datetime.now().astimezone() + timedelta(days=1)).strftime("%Y-%m-%d 00:00")
    assert tomorrow in error["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    ready = daemon.client.get("/ready", headers={"authorization": ""})
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["a budget is spent"])
    assert daemon.log.wait_for("budget.spent")["spent_usd"] == 0.5
    assert daemon.client.get("/v1/models").status_code == 200


def test_a_budget_outlives_its_daemon_and_opens_again_with_the_next_day(start, tmp_path):
    flags = ("--claude", FAKE, "--spares", "0", "--budget", "0.3/day")
    kept = {"STATE_DIRECTORY": str(tmp_path)}
    first = start(*flags, env=kept)
    first.chat("hi")
    first.log.wait_for("request.done")  # what it cost is told behind its answer
    near = first.chat("hi")
    assert near.headers["x-claude-proxy-budget"] == "83% of the budget of $0.3 per day is spent"
    assert first.terminate() == 0
    assert first.log.wait_for("budget.spent")
    second = start(*flags, env=kept)
    assert second.chat("hi").status_code == 429
    assert second.terminate() == 0
    with closing(sqlite3.connect(tmp_path / "spending.db", isolation_level=None)) as db:
        db.execute("UPDATE used SET day = date(day, '-1 day')")
    third = start(*flags, env=kept)
    assert third.chat("hi").status_code == 200


def test_who_has_waited_while_the_budget_was_spent_is_refused_too(start, simulator, tag):
    daemon = start("--budget", "0.000001/month", "--max-concurrency", "1")
    held = {"role": "user", "content": f"{tag} [simulate hold={tag}]"}
    with (
        ThreadPoolExecutor(2) as pool,
        daemon.client.stream(
            "POST",
            "/v1/chat/completions",
            json={"model": "sonnet", "messages": [held], "stream": True},
        ) as running,
    ):
        simulator.wait(tag, "held")
        later = pool.submit(daemon.respond, f"later {tag}")
        health = {"accept": "application/json"}
        assert wait_until(
            lambda: daemon.client.get("/health", headers=health).json()["queue"] == 1, 30
        )
        simulator.release(tag)
        running.read()
        refused = later.result(30)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert len(simulator.requests(tag)) == 1, "the second one must not reach Anthropic"


def test_too_many_requests_a_minute_are_refused_with_openai_s_headers(start):
    daemon = start("--claude", FAKE, "--spares", "0", "--rate", "2")
    left = [daemon.chat("hi").headers["x-ratelimit-remaining-requests"] for _ in range(2)]
    assert left == ["1", "0"]
    refused = daemon.chat("hi")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["x-ratelimit-limit-requests"] == "2"
    assert int(refused.headers["retry-after"]) <= 30
    assert "Please try again in " in refused.json()["error"]["message"]
    assert daemon.client.get("/v1/models").status_code == 200, "what costs nothing has no rate"


def test_what_an_answer_cost_that_was_cut_is_estimated_and_counts(start):
    """The CLI's process ends with such an answer, before it could tell the cost."""
    daemon = start("--spares", "0")
    whole = daemon.chat("hello [simulate tokens=20]")
    assert whole.status_code == 200
    cut = daemon.chat("hello [simulate tokens=20 stop=max_tokens]")
    assert cut.json()["choices"][0]["finish_reason"] == "length"
    daemon.log.wait_for("request.done", request_id=cut.headers["x-request-id"])
    total = daemon.client.get("/v1/usage").json()["today"]["total"]
    assert total["usd"] > 0
    assert total["estimated_usd"] == pytest.approx(total["usd"], rel=0.3)
    assert total["answers"] == 2


def test_the_plan_s_windows_are_passed_on_as_the_cli_tells_them(start):
    resets = int(time.time()) + 3_600
    unified = {
        "status": "allowed_warning",
        "reset": resets,
        "representative-claim": "five_hour",
        "5h-status": "allowed_warning",
        "5h-reset": resets,
        "5h-utilization": 0.91,
        "5h-surpassed-threshold": 0.9,
        "7d-status": "allowed",
        "7d-reset": resets + 90_000,
        "7d-utilization": 0.33,
    }
    headers = " ".join(
        f'header="anthropic-ratelimit-unified-{name}: {value}"' for name, value in unified.items()
    )
    login = {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-simulated", "ANTHROPIC_API_KEY": ""}
    daemon = start("--spares", "0", env=login)
    daemon.chat(f"[simulate text=hi {headers}]")
    answer = daemon.chat("hello")
    window = f"five_hour;used=0.91;reset={resets};status=allowed_warning"
    assert window in answer.headers["x-claude-proxy-plan"]
    assert "seven_day;used=0.33" in answer.headers["x-claude-proxy-plan"]
    assert answer.headers["x-ratelimit-reset-tokens"].startswith(("59m", "1h0m0s"))
    plan = {one["window"]: one for one in daemon.client.get("/v1/usage").json()["plan"]}
    assert (plan["five_hour"]["used"], plan["seven_day"]["used"]) == (0.91, 0.33)
    assert datetime.fromisoformat(plan["five_hour"]["resets_at"]).timestamp() == resets
    assert figures(daemon)["claude_proxy_plan_used_ratio", "five_hour"] == 0.91


def test_the_metrics_tell_what_has_happened(start, tag):
    daemon = start("--spares", "0", "--retries", "1")
    first = daemon.chat(f"one {tag}")
    said = first.json()["choices"][0]["message"]
    turn = [{"role": "user", "content": f"one {tag}"}, said, {"role": "user", "content": "two"}]
    assert process_of(daemon, daemon.chat(turn)) == "continued"
    daemon.chat([*turn[:2], {"role": "user", "content": "another branch"}], stream=True)
    daemon.chat(f"[simulate error=529 times=1] {tag}")
    daemon.chat("a call [simulate tool=f]", tools=[function("f")])
    daemon.client.get("/no/such/path")
    daemon.client.get("/v1/models", headers={"authorization": ""})
    shown = figures(daemon)
    assert shown["claude_proxy_turns_total", "continued"] == 1
    assert shown["claude_proxy_turns_total", "replayed"] == 1
    assert shown["claude_proxy_turns_total", "begun"] == 3
    assert shown["claude_proxy_upstream_retries_total",] == 1
    assert shown["claude_proxy_cli_starts_total",] >= 4
    assert shown["claude_proxy_cli_crashes_total",] == 0
    chat = ("default", "POST", "/chat/completions", "200")
    assert shown["claude_proxy_requests_total", *chat] == 5
    assert shown["claude_proxy_requests_total", "default", "GET", "unknown", "404"] == 1
    assert shown["claude_proxy_requests_total", "", "GET", "unknown", "401"] == 1
    assert shown["claude_proxy_queue_wait_seconds_count",] == 5
    assert shown["claude_proxy_request_duration_seconds_count", "/chat/completions"] == 5
    first_tokens = [
        value
        for key, value in shown.items()
        if key[0] == "claude_proxy_time_to_first_token_seconds_count"
    ]
    assert sum(first_tokens) == 5
    model = first.json()["model"]
    usage = daemon.client.get("/v1/usage").json()["today"]["by_model"][model]
    assert shown["claude_proxy_cost_usd_total", "default", model] == pytest.approx(
        usage["usd"], abs=1e-5
    )
    tokens = {
        kind: shown["claude_proxy_tokens_total", "default", kind, model]
        for kind in ("input", "cache_read", "cache_write", "output")
    }
    assert tokens["output"] == usage["output_tokens"] > 0
    prompt = tokens["input"] + tokens["cache_read"] + tokens["cache_write"]
    assert prompt == usage["input_tokens"] > 0
    daemon.log.wait_for("daemon.listening")
    assert shown["claude_proxy_sessions", "living"] >= 3
    assert shown["process_open_fds",] > 3


def test_a_crash_of_the_cli_is_counted(start):
    daemon = start("--claude", FAKE, "--spares", "0")
    assert daemon.chat("crash-amid").status_code == 500
    shown = figures(daemon)
    assert shown["claude_proxy_cli_crashes_total",] == 1


def test_openmetrics_is_spoken_to_who_asks_for_it(start):
    daemon = start("--claude", FAKE, "--spares", "0")
    answer = daemon.client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_ready_says_why_not_and_costs_nothing(start, simulator):
    daemon = start("--claude", FAKE, "--spares", "0", "--queue", "0", "--max-concurrency", "1")
    anybody = {"authorization": ""}
    answer = daemon.client.get("/ready", headers=anybody)
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "reasons": []})
    body = {
        "model": "sonnet",
        "messages": [{"role": "user", "content": "silent-amid"}],
        "stream": True,
    }
    with daemon.client.stream("POST", "/v1/chat/completions", json=body) as running:
        assert running.status_code == 200
        full = daemon.client.get("/v1/ready", headers=anybody)
        assert full.status_code == 503
        assert full.json()["reasons"] == ["all turns are running and the queue is full"]
    assert daemon.client.get("/metrics", headers=anybody).status_code == 401
    assert daemon.client.get("/usage", headers=anybody).status_code == 401


def test_a_chain_of_tool_calls_ends_with_its_budget(start, simulator, tag):
    """The CLI tells its cost only when the chain is over, which may be never."""
    daemon = start("--spares", "0", "--budget", "0.0005/day")
    tools = [function("look")]
    messages = [{"role": "user", "content": f"{tag} [simulate tool=look]"}]
    first = daemon.chat(messages, tools=tools)
    (call,) = first.json()["choices"][0]["message"]["tool_calls"]
    daemon.log.wait_for("request.done", request_id=first.headers["x-request-id"])
    (budget,) = daemon.client.get("/v1/usage").json()["budgets"]
    assert budget["is_spent"], "by an estimate"
    result = {"role": "tool", "tool_call_id": call["id"], "content": "[simulate tool=look]"}
    messages += [first.json()["choices"][0]["message"], result]
    refused = daemon.chat(messages, tools=tools)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert len(simulator.requests(tag)) == 1


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text;version=x", "text/plain; version=v1"]
)
def test_a_version_of_the_metrics_that_is_none_is_answered_in_the_usual_form(daemon, accept):
    answer = daemon.client.get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
