"""What the CLI reports of a failure, and what the client is told of it."""

from __future__ import annotations

import pytest

from claude_proxy import errors
from claude_proxy.claude.failures import Failure, tidy
from claude_proxy.claude.stream_json import RateLimitInfo

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, errors.InvalidRequest),
        (401, errors.NotLoggedIn),
        (402, errors.InsufficientQuota),
        (403, errors.PermissionDenied),
        (404, errors.ModelNotFound),
        (413, errors.RequestTooLarge),
        (429, errors.RateLimited),
        (500, errors.ProxyError),
        (502, errors.BadUpstream),
        (503, errors.Overloaded),
        (504, errors.UpstreamTimeout),
        (529, errors.Overloaded),
        (418, errors.ProxyError),
        (599, errors.ProxyError),
        (None, errors.ProxyError),
    ],
)
def test_the_apis_status_decides(status, cls):
    error = Failure(status=status, message="API Error: it went wrong").to_error(NOW)
    assert type(error) is cls
    assert "it went wrong" in error.message


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("authentication_failed", errors.NotLoggedIn),
        ("oauth_org_not_allowed", errors.NotLoggedIn),
        ("account_on_hold", errors.NotLoggedIn),
        ("verification_required", errors.NotLoggedIn),
        ("cloud_credential_error", errors.NotLoggedIn),
        ("billing_error", errors.InsufficientQuota),
        ("rate_limit", errors.RateLimited),
        ("overloaded", errors.Overloaded),
        ("invalid_request", errors.InvalidRequest),
        ("model_not_found", errors.ModelNotFound),
        ("server_error", errors.ProxyError),
        ("unknown", errors.ProxyError),
        ("of the future", errors.ProxyError),
        (None, errors.ProxyError),
    ],
)
def test_without_a_status_the_clis_own_kind_decides(kind, cls):
    assert type(Failure(kind=kind, message="x").to_error(NOW)) is cls


@pytest.mark.parametrize(
    ("status", "cls"),
    [(529, errors.Overloaded), (500, errors.ProxyError), (400, errors.InvalidRequest)],
)
def test_the_status_counts_more_than_the_kind(status, cls):
    assert type(Failure(status=status, kind="rate_limit").to_error(NOW)) is cls


@pytest.mark.parametrize(
    "message",
    [
        "API Error: prompt is too long: 250000 tokens > 200000 maximum",
        "Prompt is too long",
        "input exceeds the context window",
        "maximum context length",
    ],
)
@pytest.mark.parametrize("status", [400, 413, None])
def test_a_prompt_that_is_too_long_is_told_as_openai_does(message, status):
    error = Failure(status=status, message=message).to_error(NOW)
    assert (error.status, error.code) == (400, "context_length_exceeded")


def test_who_is_not_logged_in_is_told_what_to_do():
    error = Failure(message="Not logged in · Please run /login").to_error(NOW)
    assert (error.status, error.code) == (401, "upstream_authentication")
    assert "type `claude auth login`" in error.message
    assert error.message.endswith("(It said: Not logged in · Please run /login)")


@pytest.mark.parametrize(
    ("resets_at", "retry_after"),
    [(NOW + 1_800, 1_800.0), (NOW + 0.25, 1.0), (NOW - 60, 1.0), (None, 20.0)],
)
def test_a_plans_limit_is_told_with_the_time_until_its_reset(resets_at, retry_after):
    limit = RateLimitInfo("rejected", resets_at, "five_hour")
    error = Failure(status=400, message="limit reached", limit=limit).to_error(NOW)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.retry_after == retry_after


@pytest.mark.parametrize("resets_at", [1e300, -1e300, -1.0])
def test_a_reset_that_cannot_be_is_not_told(resets_at):
    limit = RateLimitInfo("rejected", resets_at, "five_hour")
    error = Failure(status=429, message="limit", limit=limit).to_error(NOW)
    assert isinstance(error, errors.UsageLimitReached)
    assert (error.resets_at, error.retry_after) == (None, 20)
    assert b'"resets' not in errors.openai_body(error)


@pytest.mark.parametrize(
    ("status", "delay", "retry_after"),
    [
        (429, None, 20.0),
        (429, 3.5, 3.5),
        (503, None, 5.0),
        (529, 7.0, 7.0),
        (529, 0.0, 5.0),
        (500, 7.0, None),
        (400, 7.0, None),
        (401, None, None),
    ],
)
def test_what_passes_is_told_when_to_come_back(status, delay, retry_after):
    failure = Failure(status=status, message="x", retry_delay=delay)
    assert failure.to_error(NOW).retry_after == retry_after


def test_who_has_no_credit_is_not_told_to_come_back_soon():
    """Permanent until the user pays: SDKs would ask again twice, in silence."""
    headers = Failure(status=402, message="Credit balance is too low").to_error(NOW).headers()
    assert "retry-after" not in headers or headers.get("x-should-retry") == "false"


@pytest.mark.parametrize("message", ["", " \n"])
def test_there_is_always_a_message(message):
    assert Failure(status=500, message=message).to_error(NOW).message == (
        "Claude Code could not answer"
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("API Error: overloaded", "overloaded"),
        ("API Error: 529 overloaded", "overloaded"),
        ("Failed to authenticate. API Error: 401 bad", "bad"),
        ("No such model. Run --model to pick a different model.", "No such model."),
        ("Bad. If it persists, check your inference gateway (x.example).", "Bad."),
        ("It said API Error: here", "It said API Error: here"),
        ("x" * 5_000, "x" * 1_000),
    ],
)
def test_messages_lose_what_only_means_something_inside_the_cli(said, told):
    assert tidy(said) == told
