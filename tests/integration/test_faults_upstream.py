"""What lies behind the real CLI stalls, breaks off, is gone, or is no API at all."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import socketserver
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.faults import SITE, Neighbour, asked, error_of, health, survived, text_of
from tests.lab import WAIT, Daemon, Simulator, wait_until

SILENCE = 6
FLAGS = ("--spares", "2", "--keep-alive", "0", "--retries", "0")
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6"}
USAGE = {"input_tokens": 3, "output_tokens": 1}


def event(**fields) -> bytes:
    return f"event: {fields['type']}\ndata: {json.dumps(fields)}\n\n".encode()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
BEGUN = b"".join(
    (
        event(type="message_start", message=MESSAGE | {"content": [], "usage": USAGE}),
        event(type="content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "one "}),
    )
)
HALF = event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "two"})[:60]
HTML = b"<html>captive portal</html>"
HTTP = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"


def reset(connection: socket.socket) -> None:
    """What comes to the peer is an RST, not an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


WRECKS = {
    "reset-before": (b"", True),
    "reset-amid": (HEAD + BEGUN, True),
    "half-event-reset": (HEAD + BEGUN + HALF, True),
    "no-json-amid": (HEAD + BEGUN + b"event: content_block_delta\ndata: {oops\n\n", False),
    "html": (HTTP % (b"200 OK", b"text/html", len(HTML), HTML), False),
    "no-http": (b"SSH-2.0-OpenSSH_9.9\r\n", False),
}


class Wreck(socketserver.StreamRequestHandler):
    """Does to a request what a word in it says, as far as that is one for an answer."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            head = iter(self.rfile.readline, b"\r\n")
            lengths = [re.match(rb"(?i)content-length: *(\d+)", line) for line in head]
            length = next((int(found[1]) for found in lengths if found), 0)
            found = re.search(rb"wreck=([a-z-]+)", self.rfile.read(length))
            data, resets = WRECKS[found[1].decode()] if found else (b"", False)
            self.wfile.write(data)
            self.wfile.flush()
            if resets:
                reset(self.connection)


class Api(socketserver.ThreadingTCPServer):
    daemon_threads = True


@pytest.fixture(scope="module")
def wrecked():
    """A daemon whose CLI speaks to what is no API."""
    with Api(("127.0.0.1", 0), Wreck) as api:
        serving = threading.Thread(target=api.serve_forever, args=(0.05,))
        serving.start()
        url = f"http://127.0.0.1:{api.server_address[1]}"
        running = Daemon(*FLAGS, upstream=url, env=SITE)
        yield running
        running.close()
        api.shutdown()
        serving.join()


@pytest.mark.parametrize("how", WRECKS)
def test_whatever_comes_from_upstream_the_client_gets_one_error(wrecked, how):
    """Once as a stream of Chat Completions, once as a whole answer of the Responses API."""
    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(asked, wrecked, f"wreck={how}", "respond", stream=False)
        streamed = asked(wrecked, f"wreck={how}", "chat", stream=True)
    for ask, stream, answer in (("chat", True, streamed), ("respond", False, whole.result())):
        error = error_of(wrecked, answer, ask)
        assert error["type"] == "server_error", error
        assert error["in_mid_stream"] == (stream and WRECKS[how][0].startswith(HEAD))
        assert answer.status_code in (200, 500, 502, 503)


def test_an_upstream_that_stalls_is_given_up_and_told(start, simulator, tag):
    """Before its status line and in mid-answer; who gets words now and then is not touched."""
    daemon = start(*FLAGS, "--spares", "3", "--timeout", str(SILENCE), env=SITE)
    # None of the three has to boot while it is waited for.
    assert wait_until(lambda: health(daemon)["sessions"]["spare"] == 3, WAIT)
    slow = Neighbour(daemon, f"{tag}slow [simulate tokens=100 delay_ms=150]")
    stalls = {
        ("respond", True): f"hold_before={tag}",
        ("chat", True): f"tokens=9 hold={tag} hold_after=2",
    }
    with contextlib.closing(slow), ThreadPoolExecutor(2) as pool:
        answers = {
            way: pool.submit(asked, daemon, f"{tag}-{n} [simulate {stall}]", way[0], stream=way[1])
            for n, (way, stall) in enumerate(stalls.items())
        }
        for (ask, _), future in answers.items():
            answer = future.result(60)
            error = error_of(daemon, answer, ask)
            assert error["code"] == "timeout"
            assert (
                error["message"] == f"Claude Code has been silent for {SILENCE} seconds (--timeout)"
            )
            assert answer.status_code == (200 if ask == "chat" else 504)
            request = answer.headers["x-request-id"]
            daemon.log.wait_for("claude.failed", request_id=request, reason=error["message"])
        for n in range(2):  # what was given up is not paid for
            simulator.wait(f"{tag}-{n}", "disconnected")
        assert slow.finish().endswith("w99")


# And what the request's conversation is called there.
PATHS = {"/v1/chat/completions": ("chat", "messages"), "/v1/responses": ("respond", "input")}


def streamed(daemon: Daemon, path: str, prompt: str, begun: threading.Event) -> httpx.Response:
    """The whole answer; ``begun`` is set when its second word has come."""
    conversation = {PATHS[path][1]: [{"role": "user", "content": prompt}]}
    body = {"model": "sonnet", "stream": True, **conversation}
    text = ""
    with daemon.client.stream("POST", path, json=body) as answer:
        for part in answer.iter_text():
            text += part
            if "w1 " in text:
                begun.set()
    return httpx.Response(answer.status_code, headers=answer.headers, text=text)


def test_an_upstream_that_is_killed_ends_its_answers_and_its_absence_is_told():
    simulator = Simulator()
    daemon = Daemon(*FLAGS, upstream=simulator.url, env=SITE)
    try:
        assert wait_until(lambda: health(daemon)["sessions"]["spare"] == 2, WAIT)
        with ThreadPoolExecutor(2) as pool:
            prompt = "[simulate tokens=9 hold=x hold_after=2]"
            begun = {path: threading.Event() for path in PATHS}
            answers = {
                path: pool.submit(streamed, daemon, path, prompt, begun[path]) for path in PATHS
            }
            assert all(each.wait(WAIT) for each in begun.values())
            simulator.process.kill()
            for path, answer in answers.items():
                error = error_of(daemon, answer.result(60), PATHS[path][0])
                assert error["type"] == "server_error"
                assert error["in_mid_stream"]
        answer = daemon.chat("is anybody there?")
        assert answer.status_code in (500, 502, 503)
        assert "connect" in error_of(daemon, answer, "chat")["message"].lower()
    finally:
        daemon.close()
        simulator.close()


def test_after_all_that_the_daemon_has_what_it_had(start, simulator, tag):
    daemon = start("--spares", "0", "--keep-alive", "0", "--retries", "0", env=SITE)
    with survived(daemon):
        answer = daemon.chat(f"{tag}-a [simulate tokens=5 break=2]", stream=True)
        assert error_of(daemon, answer, "chat")["in_mid_stream"]
        assert (
            text_of(daemon.respond(f"{tag}-b [simulate text=ok]"), "respond", stream=False) == "ok"
        )
