"""No key, prompt or answer comes out where it does not belong, whatever is asked or fails.

Words are planted in everything that a client can send, through every route, and then looked for in
all that the daemon and its processes say and leave behind.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from claude_proxy.claude import cli
from tests.canaries import Canaries, Files, ProcessWatch
from tests.lab import PDF, PNG, WAIT, Daemon, function, wait_until
from tests.unit.journald import Journald

FAKE = str(Path(__file__).parent.parent / "fakes" / "claude")
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
# Runs the CLI, and tells what it was started with.
WRAPPER = """#!/bin/sh
{{ tr '\\0' ' ' </proc/$$/cmdline; tr '\\0' ' ' </proc/$$/environ; echo; }} >>{told}
exec {claude} "$@"
"""
STORED = "responses.db"


@dataclass
class Exchange:
    sent: bytes
    received: bytes


@dataclass
class House:
    """A daemon, and all that was said with it. ``key`` is a word as well."""

    daemon: Daemon
    canaries: Canaries
    key: str
    files: Files
    exchanges: list[Exchange] = field(default_factory=list)

    def ask(
        self, method: str, path: str, body: Any = None, *, about: bytes = b"", **headers: str
    ) -> httpx.Response:
        """``about``: what was sent earlier, and may come back now. Bytes are sent as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = b"\n".join([path.encode(), str(headers).encode(), content, about])
        with httpx.Client(base_url=self.daemon.url, timeout=WAIT) as client:
            answer = client.request(
                method, path, content=None if body is None else content, headers=given
            )
        received = str(answer.headers).encode() + answer.content
        self.exchanges.append(Exchange(sent, received))
        self.files.look()
        return answer

    def bare(self, data: bytes) -> None:
        """Whatever bytes, and what comes back."""
        address = httpx.URL(self.daemon.url)
        with (
            socket.create_connection((address.host, address.port), timeout=WAIT) as connection,
            contextlib.suppress(ConnectionError),
        ):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            self.exchanges.append(Exchange(data, rest_of(connection)))

    def hold(self, path: str, body: Any) -> tuple[socket.socket, bytes]:
        """A request whose answer has begun, and the request."""
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        address = httpx.URL(self.daemon.url)
        connection = socket.create_connection((address.host, address.port), timeout=WAIT)
        connection.sendall(head.encode() + data)
        begun = connection.recv(65_536)
        if not begun.startswith(b"HTTP/1.1 200"):
            connection.close()
            pytest.fail(f"no answer: {begun!r}")
        return connection, data

    def prompt(self, name: str, directive: str, *, kept: bool = False) -> str:
        return f"{self.canaries.word(name, kept=kept)} [simulate {directive}]"


def rest_of(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def picture(word: str) -> str:
    """A PNG with that word in it."""
    chunk = b"\0\0\0\x12tEXt" + word.encode() + b"\0\0\0\0"
    whole = base64.b64decode(PNG)
    return base64.b64encode(whole[:33] + chunk + whole[33:]).decode()


def document(word: str) -> str:
    return base64.b64encode(base64.b64decode(PDF) + word.encode()).decode()


def chat(prompt: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "sonnet", "messages": [{"role": "user", "content": prompt}], **fields}


def respond(prompt: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "sonnet", "input": prompt, **fields}


def what_is_asked_of_chat(house: House, *, stream: bool) -> None:
    word = house.canaries.word
    tool = function(
        "look", {"type": "object", "properties": {"x": {"description": word("schema")}}}
    )
    call = f"tool=look input='{json.dumps({'x': word('argument')})}'"
    parts = [
        {"type": "text", "text": house.prompt("prompt", call)},
        {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{picture(word('picture'))}"},
        },
        {
            "type": "file",
            "file": {
                "filename": f"{word('file name')}.pdf",
                "file_data": f"data:application/pdf;base64,{document(word('document'))}",
            },
        },
    ]
    body = chat(
        parts,
        tools=[tool],
        stream=stream,
        user=word("user"),
        metadata={word("metadata key"): word("metadata")},
        stop=[word("stop")],
    )
    body["messages"].insert(0, {"role": "system", "content": word("system")})
    assert house.ask("POST", CHAT, body).status_code == 200
    call_ = {"id": "call_1", "type": "function"}
    call_["function"] = {"name": "look", "arguments": json.dumps({"x": word("past argument")})}
    result = house.prompt("result", f"text={word('answer')}")
    body["messages"] += [
        {"role": "assistant", "content": word("past answer"), "tool_calls": [call_]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]
    assert house.ask("POST", CHAT, body).status_code == 200
    if stream:
        return
    schema = {"type": "object", "properties": {word("property"): {"type": "string"}}}
    structured = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = chat(house.prompt("structured", "tokens=1"), response_format=structured)
    assert house.ask("POST", CHAT, body).status_code == 200


def what_is_asked_of_responses(house: House, *, stream: bool, store: bool) -> None:
    def word(name: str) -> str:
        return house.canaries.word(name, kept=store)

    text = house.prompt("prompt", f"thinking=2 text={word('answer')}", kept=store)
    url = f"data:image/png;base64,{picture(word('picture'))}"
    parts = [{"type": "input_text", "text": text}, {"type": "input_image", "image_url": url}]
    body = respond(
        [{"role": "user", "content": parts}],
        stream=stream,
        store=store,
        instructions=word("instructions"),
        metadata={"k": word("metadata")},
        include=["reasoning.encrypted_content"],
    )
    answer = house.ask("POST", RESPONSES, body)
    assert answer.status_code == 200
    if not store:
        return
    about = json.dumps(body).encode()
    kept = json.loads(answer.text.split("data: ")[-1])["response"] if stream else answer.json()
    place = f"{RESPONSES}/{kept['id']}"
    for path in (place, f"{place}?stream=true", f"{place}/input_items"):
        assert house.ask("GET", path, about=about).status_code == 200
    assert house.ask("POST", f"{place}/cancel").status_code == 400
    body = respond(house.prompt("next", "tokens=1", kept=True), previous_response_id=kept["id"])
    assert house.ask("POST", RESPONSES, body, about=about).status_code == 200
    assert house.ask("DELETE", place).status_code == 200


def what_is_wrong_in_itself(house: House) -> None:
    word = house.canaries.word
    hi = [{"role": "user", "content": "hi"}]
    call = {"id": word("id"), "type": "function", "function": {"name": "f", "arguments": "{}"}}
    url = {"type": "image_url", "image_url": {"url": f"data:{word('data url')}"}}
    broken = [
        b'{"model": "%b' % word("torn JSON").encode(),
        b'{"model": "%b\xff"}' % word("no UTF-8").encode(),
        b'{"%b": 1e999, "x": \\u}' % word("no JSON").encode(),
    ]
    unanswered = [*hi, {"role": "assistant", "tool_calls": [call]}, *hi]
    unasked = [{"role": "tool", "tool_call_id": word("tool id"), "content": "x"}]
    bodies: list[tuple[str, Any]] = [
        *((path, body) for body in broken for path in (CHAT, RESPONSES)),
        (CHAT, chat("hi", model=word("model"))),
        (CHAT, {"model": "sonnet", "messages": [{"role": word("role"), "content": "x"}]}),
        (CHAT, chat([{"type": word("part"), "text": "x"}])),
        (CHAT, chat([url])),
        (CHAT, chat("hi", reasoning_effort=word("effort"))),
        (CHAT, chat("hi", tool_choice=word("choice"))),
        (CHAT, chat("hi", tools=[function(word("tool"))] * 2)),
        (CHAT, chat("hi", tools=[{"type": word("tool type")}])),
        (CHAT, chat("hi", n=2, **{word("unknown field"): word("unknown value")})),
        (CHAT, chat("hi", response_format={"type": word("format")})),
        (CHAT, {"model": "sonnet", "messages": unanswered}),
        (CHAT, {"model": "sonnet", "messages": unasked}),
        (CHAT, chat("hi", temperature=word("temperature"))),
        (RESPONSES, respond("hi", model=word("model"))),
        (RESPONSES, respond("hi", previous_response_id=f"resp_{word('response id')}")),
        (RESPONSES, respond([{"type": "item_reference", "id": word("item id")}])),
        (RESPONSES, respond([{"type": word("item type")}])),
        (RESPONSES, respond([{"role": word("role"), "content": "x"}])),
        (RESPONSES, respond("hi", truncation=word("truncation"), include=[word("include")])),
        (RESPONSES, respond("hi", user=word("user"), background=True)),
        (RESPONSES, respond("hi", text={"format": {"type": word("format")}})),
    ]  # fmt: skip
    for path, body in bodies:
        assert 400 <= house.ask("POST", path, body).status_code < 500, body


def what_is_wrong_around_it(house: House) -> None:
    word = house.canaries.word
    large = chat(word("too large") + "x" * 100_000)
    assert house.ask("POST", CHAT, large).status_code == 413
    typed = {"content_type": f"text/{word('media type')}"}
    assert house.ask("POST", CHAT, chat("hi"), **typed).status_code == 415
    packed = {"content_encoding": word("encoding")}
    assert house.ask("POST", RESPONSES, respond("hi"), **packed).status_code == 415
    assert house.ask("GET", CHAT + f"?q={word('query')}").status_code == 405
    for path in (f"/v1/{word('path')}?q={word('query')}", f"/v1/models/{word('model')}"):
        assert house.ask("GET", path, cookie=word("cookie")).status_code == 404
    place = f"{RESPONSES}/resp_{word('response id')}"
    for method, path in (
        *(("GET", place), ("DELETE", place), ("POST", f"{place}/cancel")),
        ("GET", f"{place}?stream={word('query')}&starting_after={word('query')}"),
        ("GET", f"{place}/input_items?after={word('query')}&order={word('query')}"),
    ):
        assert house.ask(method, path).status_code in (400, 404)
    for headers in (
        {"authorization": f"Bearer {word('wrong key')}"},
        {"authorization": f"Basic {word('wrong scheme')}"},
        {"authorization": "", "x_api_key": word("wrong x-api-key")},
    ):
        for method, path in (
            ("POST", CHAT),
            ("POST", RESPONSES),
            ("GET", "/v1/models"),
            ("GET", "/x"),
        ):
            body = chat(word("prompt without a key")) if method == "POST" else None
            assert house.ask(method, path, body, **headers).status_code == 401
    given = {"authorization": "", "x_api_key": house.key, "user_agent": word("user agent")}
    assert house.ask("GET", "/v1/models", accept=word("accept"), **given).status_code == 200
    json_wanted = {"accept": "application/json", "x_request_id": f"a {word('odd request id')}"}
    assert house.ask("GET", f"/health?q={word('query')}", **json_wanted).status_code == 200


def what_is_no_request(house: House) -> None:
    word = house.canaries.word
    key = f"Authorization: Bearer {house.key}\r\n"
    get = f"GET / HTTP/1.1\r\nHost: localhost\r\n{key}"
    post = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{key}Content-Type: application/json\r\n"
    last = "Connection: close\r\n\r\n"
    for data in (
        f"{word('garbage')}\r\n\r\n",
        f"GET /{word('path')} HTTP/7.1\r\n{key}\r\n",
        # Which host was refused is told on purpose: the user may want to allow it.
        f"GET /{word('path')} HTTP/1.1\r\nHost: elsewhere\r\n{key}{last}",
        f"{get}{word('header')}\r\n\r\n",
        f"{get}X: \0{word('header')}\r\n\r\n",
        f"{get}X: {word('long')}{'x' * 70_000}\r\n\r\n",
        f"{get}Upgrade: {word('upgrade')}\r\nConnection: upgrade\r\n{last}",
        f"{word('method')} /v1/models HTTP/1.1\r\nHost: localhost\r\n{key}{last}",
        f"{post}Transfer-Encoding: chunked\r\n\r\n{word('chunk')}\r\n",
        f"{post}Content-Length: 900\r\n\r\n{word('half a body')}",
    ):
        house.bare(data.encode())


def what_fails_upstream(house: House, path: str, make: Any, *, stream: bool) -> None:
    word = house.canaries.word
    before = f"error={529 if stream else 400} message='no {word('upstream message')}'"
    amid = f"text='{word('text')} b c' {'torn=1' if stream else 'stream_error=2'}"
    for directive in (before, amid):
        body = make(house.prompt("prompt", directive), stream=stream, store=False)
        house.ask("POST", path, body)


def what_crashes(house: House) -> None:
    """In mid-answer."""
    held = f"text='{house.canaries.word('begun')} b c' hold=crash hold_after=1"
    connection, sent = house.hold(CHAT, chat(house.prompt("crash", held), stream=True))
    with connection:
        house.daemon.kill_turns()
        house.exchanges.append(Exchange(sent, rest_of(connection)))


def who_leaves(house: House) -> None:
    held = f"text='{house.canaries.word('begun')} b c' hold=leaves hold_after=1"
    body = respond(house.prompt("left", held), stream=True, store=False)
    connection, _ = house.hold(RESPONSES, body)
    house.files.look()
    connection.close()
    house.daemon.log.wait_for("request.done", client_gone=True)


def what_changes_the_key(house: House, file: Path) -> None:
    """A reload with a key that cannot be used, and with another one."""
    file.write_text(f"{house.canaries.word('bad key')} with a blank\n")
    house.daemon.process.send_signal(signal.SIGHUP)
    house.daemon.log.wait_for("daemon.reload_refused")
    old, house.key = house.key, house.canaries.word("new key")
    file.write_text(house.key + "\n")
    house.daemon.process.send_signal(signal.SIGHUP)
    house.daemon.log.wait_for("daemon.reloaded")
    assert house.ask("GET", "/v1/models", authorization=f"Bearer {old}").status_code == 401
    assert house.ask("GET", "/v1/models").status_code == 200


def what_the_page_shows(house: House) -> None:
    """Of all that has been asked so far."""
    for path in ("/v1/overview", "/v1/client_settings", "/v1/usage", "/metrics"):
        assert house.ask("GET", path).status_code == 200
    assert len(house.ask("GET", "/v1/overview").json()["requests"]) == 50


def what_is_cut_by_the_end(house: House) -> None:
    held = f"text='{house.canaries.word('begun')} b c' hold=end hold_after=1"
    body = respond(house.prompt("drained", held), stream=True, store=False)
    connection, sent = house.hold(RESPONSES, body)
    with connection:
        assert house.daemon.terminate() == 0
        house.exchanges.append(Exchange(sent, rest_of(connection)))


def whole_day(house: House, key: Path) -> None:
    for stream in (False, True):
        what_is_asked_of_chat(house, stream=stream)
        what_is_asked_of_responses(house, stream=stream, store=stream)
    what_is_wrong_in_itself(house)
    what_is_wrong_around_it(house)
    what_is_no_request(house)
    what_fails_upstream(house, CHAT, chat, stream=True)
    what_fails_upstream(house, RESPONSES, respond, stream=False)
    what_crashes(house)
    who_leaves(house)
    what_changes_the_key(house, key)
    what_the_page_shows(house)
    what_is_cut_by_the_end(house)


@dataclass
class Evidence:
    house: House
    keys: list[str]
    log: list[str]
    processes: set[bytes]


def key_file(directory: Path, canaries: Canaries) -> Path:
    path = directory / "key"
    path.touch(0o600)
    path.write_text(canaries.word("key") + "\n")
    return path


@pytest.fixture(scope="module")
def evidence(simulator, tmp_path_factory) -> Iterator[Evidence]:
    """Of a day with the real CLI."""
    place = tmp_path_factory.mktemp("secrets")
    canaries = Canaries()
    key = key_file(place, canaries)
    told = place / "told"
    wrapper = place / "claude"
    wrapper.write_text(WRAPPER.format(told=told, claude=cli.find(None, os.environ)))
    wrapper.chmod(0o755)
    daemon = Daemon(
        *("--api-key-file", str(key), "--claude", str(wrapper), "--max-body-size", "64K"),
        *("--retries", "0", "--spares", "1", "--drain-timeout", "0.5", "--idle-exit", "0"),
        upstream=simulator.url,
        env={"PROXY_API_KEY": None},
    )
    try:
        house = House(daemon, canaries, key.read_text().strip(), Files(daemon.home))
        first = house.key
        with ProcessWatch(daemon.process.pid) as watch:
            whole_day(house, key)
        house.files.look()
        daemon.log.finish()
        started = {line.encode() for line in told.read_text().splitlines()}
        yield Evidence(house, [first, house.key], daemon.log.lines, watch.seen | started)
    finally:
        daemon.close()


def test_the_log_has_none_of_it(evidence):
    assert len([line for line in evidence.log if '"request.done"' in line]) >= 75
    found = {line: evidence.house.canaries.found_in(line) for line in evidence.log}
    assert {line: names for line, names in found.items() if names} == {}
    assert not [line for line in evidence.log if "Traceback" in line]


def test_no_process_has_any_of_it_among_its_arguments_or_in_its_environment(evidence):
    for part in (b"--version", b"auth status", b"--print", b"claude_proxy"):
        assert any(part in seen.replace(b"\0", b" ") for seen in evidence.processes)
    assert evidence.house.canaries.found_in(b"\n".join(evidence.processes)) == []


def test_no_file_has_any_of_it_but_that_of_the_kept_responses(evidence):
    files, canaries = evidence.house.files, evidence.house.canaries
    for name, seen in files.contents.items():
        stored = STORED in name
        found = {each for data in seen for each in canaries.found_in(data, kept=not stored)}
        assert found == set(), name
        assert not stored or files.modes[name] & 0o777 == 0o600, name
    # The real CLI has been at home here.
    assert any(name.startswith(".claude") for name in files.contents)
    stored = [data for name, seen in files.contents.items() if STORED in name for data in seen]
    assert {"prompt", "picture"} <= set(canaries.found_in(b"".join(stored)))


def test_nobody_is_told_what_somebody_else_has_sent_and_nobody_the_key(evidence):
    for exchange in evidence.house.exchanges:
        found = evidence.house.canaries.found_in(exchange.received, but=exchange.sent)
        assert found == [], exchange
        assert not any(key.encode() in exchange.received for key in evidence.keys)


class JournalDaemon(Daemon):
    """Logs into a journal of the test's; its ``log`` has each record's every field."""

    # The daemon's own way to journald is a path that only root can take.
    REDIRECTED = (
        "import os, claude_proxy.journal as journal; journal.SOCKET = os.environ['JOURNAL']"
    )

    def __init__(self, *flags: str, place: Path, **options: Any) -> None:
        self._journald = Journald(place / "journal")
        (place / "sitecustomize.py").write_text(self.REDIRECTED)
        env = options.pop("env") | {"PYTHONPATH": str(place), "JOURNAL": self._journald.path}
        super().__init__("--log-format", "journal", *flags, env=env, **options)

    def _log_stream(self) -> Any:
        return self

    def __enter__(self) -> None:
        """As a file's: read to its end."""
        self._journald.socket.settimeout(WAIT)

    def __exit__(self, *_: object) -> None:
        self._journald.close()

    def __iter__(self) -> Iterator[str]:
        while "END" not in (entry := self._journald.entry()):
            yield entry["MESSAGE"].decode()
            yield f"as journald has it: {entry}"

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            self.process.terminate()
            self.process.wait(WAIT)
            one.sendto(b"END=1\n", self._journald.path)
        self.process.stderr.close()
        super().close()


def test_a_cli_that_repeats_its_words_everywhere_tells_nobody_but_the_client(tmp_path):
    canaries = Canaries()
    with tempfile.TemporaryDirectory() as short, contextlib.ExitStack() as stack:
        daemon = JournalDaemon(
            *(
                "--claude",
                FAKE,
                "--timeout",
                "1",
                "--api-key-file",
                str(key_file(tmp_path, canaries)),
            ),
            place=Path(short),
            env={"PROXY_API_KEY": None},
        )
        stack.callback(daemon.close)
        house = House(daemon, canaries, (tmp_path / "key").read_text().strip(), Files(daemon.home))
        for how in ("tells", "tells-torn", "tells-error", "tells-crash", "fine"):
            for stream in (False, True):
                text = f"{canaries.word('prompt')} {how}"
                house.ask("POST", CHAT, chat(text, stream=stream))
                house.ask("POST", RESPONSES, respond(text, stream=stream, store=False))
        daemon.log.wait_for("turn.failed_after_its_answer")
    assert daemon.log.records("request.done")
    assert canaries.found_in("\n".join(daemon.log.lines)) == []
    contents = [data for seen in house.files.contents.values() for data in seen]
    assert canaries.found_in(b"\n".join(contents)) == []
    for exchange in house.exchanges:
        assert canaries.found_in(exchange.received, but=exchange.sent) == []


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PROXY_API_KEY", "{} with a blank"),
        ("CLAUDE_PROXY_API_KEI", "{}"),
        ("config", 'api-key = "{}"'),
        ("config", 'api-key = "{}'),
        ("keys", "{}"),
        ("keys", "phone {} and more"),
        ("keys", "phone sha256:{}"),
        ("keys", "phone k budget={}"),
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated_to_the_journal(tmp_path, variable, text):
    canaries = Canaries()
    given = text.format(canaries.word("key"))
    flags = []
    if variable == "config":
        (tmp_path / "config.toml").write_text(given)
        flags = ["--config", str(tmp_path / "config.toml")]
    elif variable == "keys":
        (tmp_path / "keys").write_text(given)
        flags = ["--api-keys-file", str(tmp_path / "keys")]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), variable: given}
    done = subprocess.run(
        [sys.executable, "-m", "claude_proxy", *flags],
        env=environment,
        capture_output=True,
        check=False,
        timeout=WAIT,
    )
    assert done.returncode in (2, 78)
    assert done.stderr.startswith(b"claude-proxy: ")
    assert canaries.found_in(done.stdout + done.stderr) == []


def test_a_daemon_that_is_aborted_says_where_it_was_and_nothing_dumps_core(start, simulator, tag):
    daemon = start("--spares", "1")
    house = House(daemon, Canaries(), "test-key-d6c7f0", Files(daemon.home))
    held = f"text='{house.canaries.word('begun')} b c' hold={tag} hold_after=1"
    connection, _ = house.hold(CHAT, chat(house.prompt(tag, held), stream=True))
    with connection:
        assert wait_until(lambda: len(daemon.turns()) == 2)
        for pid in (daemon.process.pid, *daemon.turns()):
            lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
            (core,) = (line.split() for line in lines if line.startswith("Max core file size"))
            assert core[4:6] in (["1", "1"], ["0", "0"])
        daemon.process.send_signal(signal.SIGABRT)
        assert daemon.process.wait(WAIT) == -signal.SIGABRT
    daemon.log.finish()
    said = "\n".join(daemon.log.lines)
    assert "Fatal Python error: Aborted" in said
    assert "Current thread" in said
    assert house.canaries.found_in(said) == []
    for left in daemon.home.glob("claude-proxy-*"):
        left.rmdir()
