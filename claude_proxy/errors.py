"""One exception tree for everything that a client can be told.

A ``ProxyError`` knows its HTTP status, OpenAI's ``type`` and ``code``, the parameter at fault and
after how many seconds a retry makes sense. Bodies: ``openai_body``, ``anthropic_body``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, Self

import msgspec
from msgspec import UNSET, UnsetType

OUR_FAULT = "claude-proxy has a fault; its log says more"
NO_LONGER = "claude-proxy is shutting down and could not wait any longer"
# Seconds after which what is only full, or only busy, may have room again.
RETRY_SOON = 5.0


class ProxyError(Exception):
    """Base: our own fault, or the CLI's, with nothing better to say (500)."""

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else type(self).code
        self.retry_after = retry_after
        self.extra_headers = headers or {}

    def named(self, params: Mapping[str, str]) -> Self:
        """With the parameter's name in the client's dialect."""
        self.param = params.get(self.param or "", self.param)
        return self

    def headers(self) -> dict[str, str]:
        """Response headers; SDKs wait ``retry-after`` seconds and obey ``x-should-retry``.

        A reset more than a minute away is not worth a client's silent wait: SDKs are told not to.
        """
        headers = dict(self.extra_headers)
        if self.retry_after is not None:
            seconds = max(1, math.ceil(self.retry_after))
            headers["retry-after"] = str(seconds)
            if seconds > 60:
                headers["x-should-retry"] = "false"
        return headers


class InvalidRequest(ProxyError):
    status = 400
    type = "invalid_request_error"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class ThreadUnsupported(InvalidRequest):
    """By the code Anthropic's SDKs know to go on without having the conversation held for them."""

    code = "thread_unsupported_request"


class InvalidApiKey(ProxyError):
    """The client's key for this proxy is missing or wrong."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    def headers(self) -> dict[str, str]:
        return super().headers() | {"www-authenticate": 'Bearer realm="claude-proxy"'}


class NotLoggedIn(ProxyError):
    """Claude Code itself has no valid login: permanent until the user acts."""

    status = 401
    type = "authentication_error"
    code = "upstream_authentication"


class PermissionDenied(ProxyError):
    status = 403
    type = "permission_error"


class NotFound(ProxyError):
    status = 404
    type = "invalid_request_error"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(ProxyError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_supported"


class RequestTimeout(ProxyError):
    """The client did not send its request in time."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class RequestTooLarge(ProxyError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class UriTooLong(ProxyError):
    status = 414
    type = "invalid_request_error"
    code = "uri_too_long"


class UnsupportedMediaType(ProxyError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class HeadersTooLarge(ProxyError):
    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"


class RateLimited(ProxyError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class UsageLimitReached(RateLimited):
    """The plan's limit, which is lifted at a known time; Codex stops for this ``type`` only."""

    type = "usage_limit_reached"

    def __init__(self, message: str, *, resets_at: float | None = None, **more: Any) -> None:
        """``resets_at``: Unix time in seconds."""
        super().__init__(message, **more)
        self.resets_at = resets_at


class InsufficientQuota(RateLimited):
    """Nothing that waiting a little would mend."""

    type = "insufficient_quota"
    code = "insufficient_quota"

    def headers(self) -> dict[str, str]:
        return super().headers() | {"x-should-retry": "false"}


class StructuredOutputFailed(ProxyError):
    """The model was asked again and again, and its answer never fitted the client's schema."""

    code = "structured_output_failed"

    def headers(self) -> dict[str, str]:
        """SDKs retry what is our fault; this was tried often enough, and each try costs."""
        return super().headers() | {"x-should-retry": "false"}


class Unsupported(ProxyError):
    """Of HTTP itself: to ask again in the same way does not help."""

    status = 501

    def headers(self) -> dict[str, str]:
        return super().headers() | {"x-should-retry": "false"}


class UnsupportedTransferEncoding(Unsupported):
    code = "unsupported_transfer_encoding"


class UnsupportedVersion(Unsupported):
    status = 505
    code = "unsupported_http_version"


class BadUpstream(ProxyError):
    """The CLI or what lies behind it answered in a way that cannot be read."""

    status = 502


class Overloaded(ProxyError):
    status = 503
    code = "overloaded"


class ShuttingDown(ProxyError):
    status = 503
    code = "service_unavailable"


class CannotStart(ProxyError):
    """This program, or the CLI: to ask again does not help before somebody has mended it."""

    status = 503
    code = "service_unavailable"

    def headers(self) -> dict[str, str]:
        return super().headers() | {"x-should-retry": "false"}


class UpstreamTimeout(ProxyError):
    status = 504
    code = "timeout"


class OpenAIErrorDetail(msgspec.Struct):
    """The first four keys are required by OpenAI's schema; the others go with a plan's limit."""

    message: str
    type: str
    param: str | None
    code: str | None
    resets_at: int | UnsetType = UNSET
    resets_in_seconds: int | UnsetType = UNSET


class OpenAIError(msgspec.Struct):
    error: OpenAIErrorDetail


def openai_body(error: ProxyError) -> bytes:
    """``{"error": {message, type, param, code}}`` as JSON; of a plan's limit, with its reset."""
    detail = OpenAIErrorDetail(error.message, error.type, error.param, error.code)
    if isinstance(error, UsageLimitReached) and error.resets_at is not None:
        detail.resets_at = math.ceil(error.resets_at)
        detail.resets_in_seconds = math.ceil(error.retry_after or 0)
    return msgspec.json.encode(OpenAIError(detail))


class AnthropicCode(msgspec.Struct):
    error_code: str | None


class AnthropicErrorDetail(msgspec.Struct):
    type: str
    message: str
    details: AnthropicCode | UnsetType = UNSET


class AnthropicError(msgspec.Struct):
    error: AnthropicErrorDetail
    request_id: str
    type: Literal["error"] = "error"


ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def anthropic_status(error: ProxyError) -> int:
    """Where that API has a status of its own for it."""
    if isinstance(error, Overloaded):
        return 529
    if isinstance(error, InsufficientQuota) and error.retry_after is None:
        return 402
    return error.status


def anthropic_body(error: ProxyError, request_id: str) -> bytes:
    """``{"type": "error", "error": {type, message}, request_id}`` as JSON.

    The parameter at fault has no field of its own: it stands before the message, as
    ``messages.0.content``.
    """
    status = anthropic_status(error)
    default = "invalid_request_error" if status < 500 else "api_error"
    message = error.message
    if error.param:
        place = re.sub(r"\[(\d+)\]", r".\1", error.param)
        message = f"{place}: {message.removeprefix(f'{error.param}: ')}"
    detail = AnthropicErrorDetail(ANTHROPIC_TYPES.get(status, default), message)
    if isinstance(error, ThreadUnsupported):
        detail.details = AnthropicCode(error.code)
    return msgspec.json.encode(AnthropicError(detail, request_id))
