"""What the API answers when it refuses: HTTP status, error type, body.

Body shape: `{"type": "error", "error": {"type", "message"}, "request_id"}`.
"""

from __future__ import annotations

from typing import Any

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class ApiError(Exception):
    """An error answer; `headers` are added to the response (lower-case names)."""

    def __init__(
        self, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers

    def body(self, request_id: str) -> dict[str, Any]:
        return error_body(ERROR_TYPES.get(self.status, "api_error"), self.message, request_id)


def error_body(kind: str, message: str, request_id: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def invalid(message: str) -> ApiError:
    """The most frequent one: 400 invalid_request_error."""
    return ApiError(400, message)


def required(body: dict[str, Any], key: str, path: str) -> Any:
    if key not in body:
        raise invalid(f"{path}: Field required")
    return body[key]
