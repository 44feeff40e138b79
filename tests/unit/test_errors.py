"""What a client is told: status, type, code, the four keys, and when to come back."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from claude_proxy import errors
from claude_proxy.errors import ProxyError, openai_body
from claude_proxy.http.exchange import is_anthropics


def family(cls: type[ProxyError]) -> list[type[ProxyError]]:
    return [cls, *(below for child in cls.__subclasses__() for below in family(child))]


@pytest.mark.parametrize("cls", family(ProxyError))
def test_every_error_has_a_fitting_status_and_all_four_keys(cls):
    error = cls("what happened", param="messages[0]")
    assert 400 <= error.status <= 599
    body = json.loads(openai_body(error))
    assert body == {
        "error": {
            "message": "what happened",
            "type": error.type,
            "param": "messages[0]",
            "code": cls.code,
        }
    }
    assert (error.type == "server_error") is (error.status >= 500)


def test_unset_keys_are_null():
    body = json.loads(openai_body(ProxyError("x")))
    assert body == {"error": {"message": "x", "type": "server_error", "param": None, "code": None}}


def test_a_code_of_its_own_replaces_the_class():
    assert errors.NotFound("x", code="unknown_url").code == "unknown_url"
    assert errors.NotFound("x").code is None


@pytest.mark.parametrize(
    ("cls", "status", "type_", "code"),
    [
        (errors.InvalidRequest, 400, "invalid_request_error", None),
        (errors.ContextLengthExceeded, 400, "invalid_request_error", "context_length_exceeded"),
        (errors.InvalidApiKey, 401, "invalid_request_error", "invalid_api_key"),
        (errors.NotLoggedIn, 401, "authentication_error", "upstream_authentication"),
        (errors.PermissionDenied, 403, "permission_error", None),
        (errors.ModelNotFound, 404, "invalid_request_error", "model_not_found"),
        (errors.MethodNotAllowed, 405, "invalid_request_error", "method_not_supported"),
        (errors.RequestTooLarge, 413, "invalid_request_error", "request_too_large"),
        (errors.RateLimited, 429, "rate_limit_error", "rate_limit_exceeded"),
        (errors.InsufficientQuota, 429, "insufficient_quota", "insufficient_quota"),
        (ProxyError, 500, "server_error", None),
        (errors.Overloaded, 503, "server_error", "overloaded"),
        (errors.ShuttingDown, 503, "server_error", "service_unavailable"),
        (errors.UpstreamTimeout, 504, "server_error", "timeout"),
    ],
)
def test_statuses_types_and_codes_are_openais(cls, status, type_, code):
    assert (cls.status, cls.type, cls.code) == (status, type_, code)


@pytest.mark.parametrize(
    ("seconds", "header", "should_retry"),
    [
        (-3, "1", None),
        (0, "1", None),
        (0.2, "1", None),
        (1, "1", None),
        (1.01, "2", None),
        (60, "60", None),
        (60.5, "61", "false"),
        (3_600, "3600", "false"),
    ],
)
def test_retry_after_is_whole_seconds_rounded_up(seconds, header, should_retry):
    headers = errors.RateLimited("x", retry_after=seconds).headers()
    assert headers["retry-after"] == header
    assert headers.get("x-should-retry") == should_retry


@given(st.floats(0, 1e9))
def test_nobody_is_told_to_come_back_too_early(seconds):
    told = int(errors.Overloaded("x", retry_after=seconds).headers()["retry-after"])
    assert seconds <= told <= math.ceil(seconds) + 1


def test_without_a_time_there_are_no_retry_headers():
    assert errors.RateLimited("x").headers() == {}


def test_headers_of_the_error_are_kept():
    error = errors.MethodNotAllowed("x", headers={"allow": "GET"}, retry_after=2)
    assert error.headers() == {"allow": "GET", "retry-after": "2"}
    assert error.extra_headers == {"allow": "GET"}


def test_a_wrong_key_is_told_the_scheme():
    assert errors.InvalidApiKey("x").headers()["www-authenticate"].startswith("Bearer ")


@given(st.text())
def test_any_message_survives(message):
    assert json.loads(openai_body(ProxyError(message)))["error"]["message"] == message


@pytest.mark.parametrize(
    ("path", "named", "unnamed"),
    [
        ("/v1/messages", True, True),
        ("/messages/count_tokens", True, True),
        ("/v1/models", True, False),
        ("/v1/v1/messages", True, False),
        ("/v1/complete", True, False),
        ("/v1/chat/completions", False, False),
        ("/responses", False, False),
    ],
)
def test_a_path_that_both_might_mean_is_anthropics_for_who_names_its_version(path, named, unnamed):
    assert is_anthropics(path, Headers({"anthropic-version": "2023-06-01"})) is named
    assert is_anthropics(path, Headers({})) is unnamed
