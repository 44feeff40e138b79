"""A server that says of its health what a daemon of ours would."""

from __future__ import annotations

import http.server
import json
import threading
from contextlib import contextmanager

from claude_proxy import __version__

HEALTH = {
    "status": "ok",
    "version": __version__,
    "claude_version": "2.1.330",
    "logged_in": True,
    "login": "max",
    "simulated": False,
    "sessions": {},
    "queue": 0,
}


class Answering(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(self.server.health).encode()
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering():
    """``health`` may be changed meanwhile."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.health = dict(HEALTH)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
