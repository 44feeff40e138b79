"""Server-sent events. Pure.

Of the line breaks that JSON leaves in its texts the format knows none, but many clients cut lines
as Python does, which knows three more; so these leave as escapes.
"""

from __future__ import annotations

# A comment: it keeps a connection from being taken for dead.
KEEP_ALIVE = b": keep-alive\n\n"
# U+0085, U+2028, U+2029
ESCAPES = {b"\xc2\x85": rb"\u0085", b"\xe2\x80\xa8": rb"\u2028", b"\xe2\x80\xa9": rb"\u2029"}


def frame(data: bytes, kind: str = "") -> bytes:
    """``data`` is JSON on one line; ``kind`` the event's type, where the dialect has one."""
    for character, escape in ESCAPES.items():
        if character in data:
            data = data.replace(character, escape)
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data) if kind else b"data: %b\n\n" % data
