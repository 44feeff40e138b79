"""The files of the page, which hold nothing secret and need no key, and what browsers may do."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

INDEX = "index.html"
SCRIPT = "text/javascript"
MEDIA_TYPES = {
    INDEX: "text/html",
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
    "page.js": SCRIPT,
    "clients.js": SCRIPT,
    "dom.js": SCRIPT,
    "plot.js": SCRIPT,
    "prompt.js": SCRIPT,
    "show.js": SCRIPT,
    "stream.js": SCRIPT,
    "watch.js": SCRIPT,
    "words.js": SCRIPT,
}
PATHS = frozenset(
    prefix + path
    for path in ("/", *(f"/page/{name}" for name in MEDIA_TYPES))
    for prefix in ("", "/v1")
)
# Nothing but its own files, and no text that becomes markup (the last two; browsers that do not
# know them have the rest).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    # Asked for each time, and sent only when it has changed: an upgrade must not mix two pages.
    "cache-control": "no-cache",
    "vary": "Accept",
}


@cache
def content(name: str) -> tuple[bytes, str]:
    """The bytes of one of ``MEDIA_TYPES``, and their ETag."""
    body = resources.files(__package__).joinpath(name).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
