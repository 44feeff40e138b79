"""HTTP/1.1 as h11 reads it, but stricter, and with errors that a client can be told."""

from __future__ import annotations

import re
from typing import TypeAlias

import h11

from claude_proxy import errors
from claude_proxy.errors import InvalidRequest, ProxyError

# Request line and headers together.
HEAD_SIZE = 65_536
MOST_HEADERS = 128
# How many bytes of a body may be none of its data, beside as many as there are data.
FRAMING_SIZE = 65_536

# Digits of a body's length; h11 has the same bound, but not always had.
LONGEST_LENGTH = 20

INVALID = "invalid_http"
VERSIONS = (b"1.0", b"1.1")
LINE_ENDS = (b"\r", b"\n")
LENGTHS = re.compile(rb"\ncontent-length:([^\r\n]*)")
ORIGIN = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
TLS_HANDSHAKE = b"\x16"
# The last request has come as a whole, or there never will be one.
OVER = (h11.MUST_CLOSE, h11.CLOSED, h11.ERROR)

Event: TypeAlias = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]


class Parser(h11.Connection):
    """Never raises what a client has done: that is its ``fault``, behind which nothing is read."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, HEAD_SIZE)
        self.fault: ProxyError | None = None
        # Bytes of the body that is coming, less two for each byte of data in it.
        self._framing = 0

    @property
    def unread(self) -> bytes:
        """What has come and was not understood yet."""
        return self.trailing_data[0]

    @property
    def awaits_more(self) -> bool:
        """Whether a part of a request is still to come, or was not read."""
        return self.fault is not None or self.their_state is h11.SEND_BODY or bool(self.unread)

    @property
    def may_answer(self) -> bool:
        """Whether nothing has been said yet to what has come last."""
        return self.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    def wanted(self, data: bytes) -> bytes:
        """Without what means nothing: empty lines before a request, and all after the last."""
        if self.fault is not None or self.their_state in OVER:
            return b""
        if not data.startswith(LINE_ENDS) or self.their_state is h11.SEND_BODY or self.unread:
            return data
        return data.lstrip(b"\r\n")

    def receive_data(self, data: bytes) -> None:
        self._framing += len(data)
        super().receive_data(data)

    def next_event(self) -> Event:
        state = self.their_state
        if self.fault is not None or state in OVER:
            return h11.NEED_DATA
        head = self.unread if state is h11.IDLE else None
        try:
            event = super().next_event()
            if head is None:
                self._count(event)
            elif event is not h11.NEED_DATA:
                return self._begun(event, head)
        except h11.RemoteProtocolError as error:
            self.fault = explained(error, head)
        except ProxyError as fault:
            self.fault = fault
        else:
            return event
        return h11.NEED_DATA

    def _begun(self, event: Event, head: bytes) -> Event:
        """``head``: what was unread before. Raises ProxyError."""
        if not isinstance(event, h11.Request):
            return event
        self._framing = len(self.unread)
        return checked(event, head[: len(head) - self._framing])

    def _awaits(self, event: Event) -> bool:
        return event is h11.NEED_DATA and self.their_state is h11.SEND_BODY

    def _count(self, event: Event) -> None:
        """Raises ProxyError."""
        if type(event) is h11.Data:
            self._framing -= 2 * len(event.data)
        elif self._framing > FRAMING_SIZE and self._awaits(event):
            raise too_much_framing()


def checked(request: h11.Request, head: bytes) -> h11.Request:
    """What h11 lets pass although clients and servers do not agree on what it means."""
    if request.http_version not in VERSIONS:
        raise errors.UnsupportedVersion("This server speaks HTTP/1.1, and no other version")
    if len(head) > HEAD_SIZE or len(request.headers) > MOST_HEADERS:
        raise too_large(head)
    if b"\n " in head or b"\n\t" in head:
        raise invalid("a header goes on in the next line")
    if not head.count(b"\n") == head.count(b"\r") == head.count(b"\r\n"):
        raise invalid("a line ends otherwise than with CR LF")
    check_framing(request, head.lower())
    return in_origin_form(request)


def check_framing(request: h11.Request, head: bytes) -> None:
    """``head``: in lower case."""
    lengths = LENGTHS.findall(head) if b"\ncontent-length:" in head else []
    if len(lengths) > 1 or any(b"," in length for length in lengths):
        raise invalid("more than one Content-Length")
    if any(len(length.strip()) > LONGEST_LENGTH for length in lengths):
        raise invalid("bad Content-Length")
    if b"\ntransfer-encoding:" in head:
        if lengths:
            raise invalid("both Content-Length and Transfer-Encoding")
        if request.http_version == b"1.0":
            raise invalid("Transfer-Encoding in HTTP/1.0")


def in_origin_form(request: h11.Request) -> h11.Request:
    """``http://host/path`` means ``/path``."""
    target = request.target
    if target.startswith(b"/") or request.method == b"CONNECT" or target == b"*":
        return request
    origin = ORIGIN.match(target)
    if origin is None:
        raise invalid("the target is no path")
    path = target[origin.end() :]
    return h11.Request(
        method=request.method,
        target=path if path.startswith(b"/") else b"/" + path,
        headers=request.headers,
        http_version=request.http_version,
    )


def explained(error: h11.RemoteProtocolError, head: bytes | None) -> ProxyError:
    """h11's texts go up to a colon, behind which they quote the client."""
    if head is not None and head.startswith(TLS_HANDSHAKE):
        return InvalidRequest(
            "This port speaks http, not https: the base URL must begin with http://", code=INVALID
        )
    if error.error_status_hint == 431:
        return too_much_framing() if head is None else too_large(head)
    if error.error_status_hint == 501:
        return errors.UnsupportedTransferEncoding("The only Transfer-Encoding known is chunked")
    return invalid(str(error).partition(":")[0])


def invalid(reason: str) -> InvalidRequest:
    return InvalidRequest(f"This is not valid HTTP/1.1: {reason}", code=INVALID)


def too_large(head: bytes) -> ProxyError:
    if len(head.partition(b"\n")[0]) > HEAD_SIZE:
        return errors.UriTooLong(f"The URL is longer than {HEAD_SIZE} bytes")
    return errors.HeadersTooLarge(
        f"The headers are more than {MOST_HEADERS}, or larger than {HEAD_SIZE} bytes"
    )


def too_much_framing() -> ProxyError:
    return errors.RequestTooLarge("The body's chunks have more bytes around them than in them")
