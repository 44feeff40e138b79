"""The one table from what the CLI reports of a failure to what the client is told. Pure.

Measured with CLI 2.1.330: a failing turn ends with a ``result`` whose ``is_error`` is true and
whose ``api_error_status`` is the API's HTTP status, or null when there was none (not logged in);
``assistant.error`` names the kind; a plan's limit comes as a ``rate_limit_event`` with the reset
time; the API's own retry-after shows only as ``retry_delay_ms`` of a retry.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from claude_proxy import errors
from claude_proxy.claude.stream_json import RateLimitInfo
from claude_proxy.errors import ProxyError

DEFAULT_RETRY_AFTER = {429: 20.0, 503: errors.RETRY_SOON}
LATEST = 2.0**53  # Unix time that every client's numbers can hold
LOG_IN = (
    "Claude Code is not logged in: type `claude auth login` as the user whose it is "
    "(`claude-proxy check` says where `claude` is)."
)

BY_STATUS: dict[int, type[ProxyError]] = {
    400: errors.InvalidRequest,
    401: errors.NotLoggedIn,
    402: errors.InsufficientQuota,
    403: errors.PermissionDenied,
    404: errors.ModelNotFound,
    408: errors.UpstreamTimeout,
    413: errors.RequestTooLarge,
    429: errors.RateLimited,
    502: errors.BadUpstream,
    503: errors.Overloaded,
    504: errors.UpstreamTimeout,
    529: errors.Overloaded,
}
BY_MESSAGE: dict[str, type[ProxyError]] = {
    r"prompt is too long|context (window|length)": errors.ContextLengthExceeded,
    r"not logged in": errors.NotLoggedIn,
}
BY_KIND: dict[str, type[ProxyError]] = {
    "authentication_failed": errors.NotLoggedIn,
    "oauth_org_not_allowed": errors.NotLoggedIn,
    "account_on_hold": errors.NotLoggedIn,
    "verification_required": errors.NotLoggedIn,
    "cloud_credential_error": errors.NotLoggedIn,
    "billing_error": errors.InsufficientQuota,
    "rate_limit": errors.RateLimited,
    "overloaded": errors.Overloaded,
    "invalid_request": errors.InvalidRequest,
    "model_not_found": errors.ModelNotFound,
}


@dataclass(slots=True)
class Failure:
    """What the lines of a turn have told of a failure so far."""

    status: int | None = None
    kind: str | None = None
    message: str = ""
    retry_delay: float | None = None
    limit: RateLimitInfo | None = None

    def to_error(self, now: float | None = None) -> ProxyError:
        """``now`` is Unix time, for the seconds until a plan's limit is lifted."""
        cls = self._error_class()
        message = tidy(self.message) or "Claude Code could not answer"
        if cls is errors.NotLoggedIn:
            message = f"{LOG_IN} (It said: {message})"
        retry_after = self._retry_after(cls, now or time.time())
        if cls is errors.UsageLimitReached:
            resets_at = self._resets_at()
            return errors.UsageLimitReached(message, resets_at=resets_at, retry_after=retry_after)
        return cls(message, retry_after=retry_after)

    def _error_class(self) -> type[ProxyError]:
        """What the text says, then a plan's limit, then the API's status, then the CLI's word."""
        for pattern, cls in BY_MESSAGE.items():
            if re.search(pattern, self.message, re.IGNORECASE):
                return cls
        if self.kind == "billing_error":
            return errors.InsufficientQuota
        if self.limit is not None:
            return errors.UsageLimitReached
        by_kind = BY_KIND.get(self.kind or "", ProxyError) if self.status is None else ProxyError
        return BY_STATUS.get(self.status or 0, by_kind)

    def _retry_after(self, cls: type[ProxyError], now: float) -> float | None:
        if cls.status not in DEFAULT_RETRY_AFTER or cls is errors.InsufficientQuota:
            return None
        if (resets_at := self._resets_at()) is not None:
            return max(1.0, resets_at - now)
        return self.retry_delay or DEFAULT_RETRY_AFTER[cls.status]

    def _resets_at(self) -> float | None:
        resets_at = None if self.limit is None else self.limit.resetsAt
        return resets_at if resets_at is not None and 0 <= resets_at <= LATEST else None


def refusal(subject: str, reason: str) -> ProxyError:
    """Of a control request that the CLI has answered with an error."""
    if subject == "set_model":
        return errors.ModelNotFound(f"Claude Code refuses the model: {reason[:200]}", param="model")
    return errors.BadUpstream(f"Claude Code refuses {subject}: {reason[:200]}")


def tidy(message: str) -> str:
    """The CLI's text for an API error without the words that only mean something inside it."""
    message = re.sub(r"^(Failed to authenticate\. )?API Error: (\d{3} )?", "", message.strip())
    message = re.sub(r"\s*Run --model to pick a different model\.", "", message)
    message = re.sub(r" (If it persists, )?check your inference gateway \([^)]*\)\.", "", message)
    return message[:1_000]
