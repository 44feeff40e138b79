"""Start, activation, readiness, drain, restart, idle exit, watchdog: as systemd sees them."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.lab import sse, wait_until
from tests.systemd.service import (
    KEY,
    NAME,
    SOCKET,
    UNITS,
    UNIX_SOCKET,
    Stream,
    ask,
    chat,
    held,
    journal,
    systemctl,
)

PLAIN = "claude-proxy-plain.service"


def without_socket(service, *lines: str) -> None:
    """The service as one without sockets of systemd's has it: a unit text of its own."""
    text = (UNITS / NAME).read_text()
    text = re.sub(r"^(Requires|After|Also)=claude-proxy\.socket$", "", text, flags=re.MULTILINE)
    (service.units / NAME).write_text(text)
    service.edit(*lines)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("unix", [False, True], ids=["inet", "unix"])
def test_the_first_connection_starts_it(service, tag, unix):
    service.start()
    assert service.show("ActiveState") == "inactive"
    answer = ask(service.client(unix=unix), f"{tag} [simulate text=woken]")
    assert answer.json()["choices"][0]["message"]["content"] == "woken"
    assert service.show("ActiveState") == "active"
    listening = service.wait_for_record("daemon.listening")
    assert listening["ADDRESSES"] == f'["http://127.0.0.1:8080", "unix:{UNIX_SOCKET}"]'
    assert listening["SOCKET_NAMES"] == '["claude-proxy.socket", "claude-proxy.socket"]'


def test_the_unix_socket_is_the_users_alone(service):
    service.start()
    assert stat.S_IMODE(UNIX_SOCKET.stat().st_mode) == 0o600
    assert stat.S_IMODE(UNIX_SOCKET.parent.stat().st_mode) == 0o700


def test_started_means_that_it_answers(service):
    """Without a socket of systemd's, only READY=1 in the right moment makes this pass."""
    without_socket(service)
    for _ in range(3):
        service.start(NAME)
        assert service.client().get("/health").status_code == 200
        systemctl("stop", NAME)


def test_the_status_is_a_living_line(service, simulator, tag):
    service.edit(service.flags("--max-concurrency", "1"))
    service.start(NAME)
    service.wait_for_status("1 spare, $0.00 today; logged in as api_key")
    first = Stream(service.client(), f"{tag}a [simulate tokens=3 hold={tag}]")
    simulator.wait(f"{tag}a", "held")
    second = Stream(service.client(), f"{tag}b")
    service.wait_for_status("1 running", "1 queued")
    simulator.release(tag)
    assert first.finish().endswith("[DONE]\n\n")
    assert second.finish().endswith("[DONE]\n\n")
    service.wait_for_status("2 living")
    assert not service.status.startswith("idle")


def test_a_start_that_fails_says_why_and_is_not_repeated(service):
    service.run_instead("echo '1.0.0 (Claude Code)'")
    service.start()
    with pytest.raises(AssertionError, match="failed"):
        service.start(NAME)
    service.wait_for_state("failed")
    assert service.show("ExecMainStatus") == "78"
    assert service.show("NRestarts") == "0"
    assert "is Claude Code 1.0.0; 2.1.248 or newer is needed" in service.status
    failed = service.wait_for_record("daemon.failed")
    assert failed["PRIORITY"] == "2"
    assert "1.0.0" in failed["REASON"]


def test_a_key_that_cannot_be_used_is_no_restart_loop(service):
    key = service.units / "key"
    key.write_text("two words\n")
    del service.environment["PROXY_API_KEY"]
    service.edit(service.flags("--api-key-file", str(key)))
    with pytest.raises(AssertionError, match="failed"):
        service.start(NAME)
    service.wait_for_state("failed")
    assert service.show("ExecMainStatus") == "78"
    assert service.show("NRestarts") == "0"
    assert "two words" not in service.tail()


def test_a_taken_port_is_named_and_not_tried_for_ever(service):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        limit = ("[Unit]", "StartLimitBurst=3")
        without_socket(service, service.flags("--port", str(port)), "RestartSec=50ms", *limit)
        systemctl("start", NAME, check=False)
        service.wait_for_state("failed")
    assert service.show("ExecMainStatus") == "69"
    assert service.show("Result") in ("exit-code", "start-limit-hit")
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in service.status
    assert service.show("StatusErrno") == "98"
    assert wait_until(lambda: len(service.records("daemon.failed")) == 3)


def test_no_request_is_lost_over_twenty_restarts_under_load(service, tag):
    """Cheap requests from new and kept connections, both sockets, and a turn now and then."""
    service.start()
    service.client().get("/health").raise_for_status()
    over = False
    failures: list[str] = []
    answered = [0] * 5

    def load(number: int) -> None:
        kept = service.client(unix=number % 2 == 1)
        while not over:
            try:
                if number < 2:
                    response = kept.get("/v1/responses/unknown")
                elif number < 4:
                    with service.client(unix=number == 3) as fresh:
                        response = fresh.get("/health")
                else:
                    response = ask(kept, f"{tag} [simulate text=ok]")
                if response.status_code not in (200, 404):
                    failures.append(f"{number}: {response.status_code} {response.text}")
                answered[number] += 1
            except httpx.HTTPError as error:
                failures.append(f"{number}: {error!r}")

    with ThreadPoolExecutor(5) as pool:
        for number in range(5):
            pool.submit(load, number)
        pids = set()
        try:
            for _ in range(20):
                before = sum(answered)
                systemctl("restart", NAME)
                pids.add(service.pid)
                assert wait_until(lambda before=before: sum(answered) >= before + 50)
        finally:
            over = True
    assert len(pids) == 20
    assert failures == []
    assert min(answered) >= 20


def test_a_running_stream_ends_before_the_service_does(service, simulator, tag):
    service.start()
    stream = held(service, simulator, tag)
    systemctl("stop", "--no-block", NAME)
    service.wait_for_state("deactivating")
    service.wait_for_status("draining: 1 running")
    simulator.release(tag)
    frames = sse(stream.finish())
    assert frames[-1] == "[DONE]"
    assert frames[-2]["choices"][0]["finish_reason"] == "stop"
    service.wait_for_state("inactive")
    assert service.show("Result") == "success"
    assert service.processes() == []


def test_a_stream_that_takes_too_long_gets_an_error_frame(service, simulator, tag):
    service.edit(service.flags("--drain-timeout", "300ms"))
    service.start()
    stream = held(service, simulator, tag)
    systemctl("stop", NAME)
    frames = sse(stream.finish())
    assert frames[-1]["error"]["message"].startswith("claude-proxy is shutting down")
    assert service.show("Result") == "success"
    assert service.processes() == []


def test_a_second_sigterm_ends_it_at_once(service, simulator, tag):
    service.start()
    stream = held(service, simulator, tag)
    systemctl("stop", "--no-block", NAME)
    service.wait_for_record("daemon.draining")
    systemctl("kill", "--kill-whom=main", "-s", "TERM", NAME)
    assert "told to stop at once" in sse(stream.finish())[-1]["error"]["message"]
    service.wait_for_state("inactive")
    assert service.show("Result") == "success"


def test_systemd_waits_for_a_drain_that_is_longer_than_its_own_patience(service, simulator, tag):
    service.edit("TimeoutStopSec=2")
    service.start()
    stream = Stream(service.client(), f"{tag} [simulate tokens=9 delay_ms=500]")
    service.wait_for_status("1 running")
    begun = time.monotonic()
    systemctl("stop", NAME)
    assert sse(stream.finish())[-1] == "[DONE]"
    assert time.monotonic() - begun > 2
    assert service.show("Result") == "success"


def test_a_killed_daemon_leaves_no_orphan_and_its_conversation_goes_on(service, simulator, tag):
    service.start()
    client = service.client()
    messages = [{"role": "user", "content": f"{tag} [simulate text=first]"}]
    first = client.post("/v1/chat/completions", json={"model": "sonnet", "messages": messages})
    before = service.processes()
    assert len(before) >= 2
    os.kill(service.pid, signal.SIGKILL)
    assert wait_until(lambda: not any(map(alive, before)))
    service.wait_for_state("active")
    assert service.show("NRestarts") == "1"
    messages += [first.json()["choices"][0]["message"], {"role": "user", "content": "and then?"}]
    with service.client() as fresh:
        second = fresh.post("/v1/chat/completions", json={"model": "sonnet", "messages": messages})
    assert second.status_code == 200
    sent = simulator.requests(tag)[-1]["body"]["messages"]
    assert [message["role"] for message in sent if message["role"] != "system"] == [
        "user",
        "assistant",
        "user",
    ]


def test_a_daemon_that_hangs_is_seen_and_started_anew(service):
    service.edit("WatchdogSec=2")
    service.start(NAME)
    stuck = service.pid
    os.kill(stuck, signal.SIGSTOP)
    assert wait_until(lambda: service.show("NRestarts") == "1", 30)
    service.wait_for_state("active")
    assert service.pid != stuck
    assert service.client().get("/health").status_code == 200
    said = [str(entry["MESSAGE"]) for entry in journal("-u", NAME)]
    assert any("Watchdog timeout" in line for line in said)
    assert "Fatal Python error: Aborted" in said
    assert any(
        re.search(r'File ".*/claude_proxy/entry.py", line \d+ in serve', line) for line in said
    )


def test_a_daemon_that_works_gives_signs_of_life(service):
    service.edit("WatchdogSec=1")
    service.start(NAME)
    first = service.show("WatchdogTimestampMonotonic")
    assert wait_until(lambda: service.show("WatchdogTimestampMonotonic") != first)
    assert service.show("NRestarts") == "0"


def test_it_ends_when_nobody_needs_it_and_the_next_connection_wakes_it(service, tag):
    service.edit(service.flags("--idle-exit", "1s", "--keep-alive", "2s"))
    service.start()
    answer = ask(service.client(), f"{tag} [simulate text=one]")
    assert answer.status_code == 200
    service.wait_for_state("inactive")
    assert service.show("Result") == "success"
    assert service.processes() == []
    assert service.show("ActiveState", SOCKET) == "active"
    draining = service.wait_for_record("daemon.draining")
    assert draining["WHY"].startswith("idle for ")
    with service.client() as again:
        assert ask(again, f"{tag} [simulate text=two]").status_code == 200


def test_a_living_conversation_is_not_left(service, tag):
    service.edit(service.flags("--idle-exit", "100ms", "--keep-alive", "60s"))
    service.start()
    client = service.client()
    assert client.post("/v1/chat/completions", json=chat(tag)).status_code == 200
    service.wait_for_status("1 living")
    ended = service.show("NRestarts")
    # The next look at it is a second later; the status shows that it has been looked at.
    assert not wait_until(lambda: service.show("ActiveState") != "active", 3)
    assert service.show("NRestarts") == ended


@pytest.mark.parametrize("unix", [False, True], ids=["inet", "unix"])
def test_who_waits_for_a_start_that_fails_is_told_why(service, unix):
    """And nobody waits any more who would start it again and again."""
    service.edit(service.flags("--claude", "/nonexistent/claude"))
    service.start()
    for _ in range(2):
        with service.client(unix=unix) as client:
            refused = ask(client, "hello")
        assert refused.status_code == 503
        assert refused.json()["error"]["message"] == (
            "claude-proxy cannot start: there is no Claude Code CLI at /nonexistent/claude: "
            "name another with --claude, or none"
        )
        assert refused.headers["x-should-retry"] == "false"
        service.wait_for_state("failed")
    assert service.show("NRestarts") == "0"
    assert service.show("ActiveState", SOCKET) == "active"
    # Mended, the next connection is enough.
    service.edit()
    with service.client(unix=unix) as client:
        assert ask(client, "[simulate text=ok]").status_code == 200


def test_a_request_that_is_half_sent_at_the_stop_gets_its_answer(service):
    """Of each kind of socket: headers in two parts, the second one while the service stops."""
    service.start(NAME)
    head = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer " + KEY.encode()
    with (
        socket.create_connection(("127.0.0.1", 8080), timeout=30) as inet,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.settimeout(30)
        unix.connect(str(UNIX_SOCKET))
        for connection in (inet, unix):
            connection.sendall(head)
        # Both have been taken up when a later request has been answered.
        assert service.client().get("/health").status_code == 200
        systemctl("stop", "--no-block", NAME)
        service.wait_for_record("daemon.draining")
        for connection in (inet, unix):
            connection.sendall(b"\r\n\r\n")
            answer = b"".join(iter(lambda connection=connection: connection.recv(65_536), b""))
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"\r\nconnection: close\r\n" in answer.lower()
    service.wait_for_state("inactive")
    assert service.show("Result") == "success"


def test_a_cli_that_hangs_is_given_up(service):
    """Behind a wrapper, which must not keep anybody waiting either."""
    service.run_instead("sleep 300")
    service.start()
    with service.client() as client:
        refused = ask(client, "hello")
    assert refused.status_code == 503
    assert "no answer to --version" in refused.json()["error"]["message"]
    service.wait_for_state("failed")
    assert service.processes() == []
