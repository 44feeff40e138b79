"""The processes: none is lost, none outlives its request or the daemon, none learns our secrets."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from claude_proxy.claude import cli
from tests.lab import KEY, sse, wait_until

FAKE = str(Path(__file__).parent.parent / "fakes" / "claude")


def in_background(function, *arguments, **keywords):
    """A future of a call that a test wants to go on meanwhile."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function, *arguments, **keywords)
    pool.shutdown(wait=False)
    return future


def open_stream(daemon, prompt: str, *, stream: bool = True) -> socket.socket:
    """A request on a bare socket, so that leaving is one close()."""
    body = json.dumps(
        {"model": "sonnet", "stream": stream, "messages": [{"role": "user", "content": prompt}]}
    ).encode()
    address = httpx.URL(daemon.url)
    connection = socket.create_connection((address.host, address.port), timeout=30)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


@pytest.fixture
def connect():
    """``open_stream`` whose connections are closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kw: stack.enter_context(open_stream(*args, **kw))


def read_until(connection: socket.socket, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        data = connection.recv(65_536)
        assert data, seen
        seen += data
    return seen


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("moment", ["hold_before", "hold"])
def test_a_client_that_leaves_ends_its_turn(connect, start, simulator, tag, stream, moment):
    daemon = start("--spares", "0")
    held = f"{tag} [simulate tokens=9 {moment}={tag}{' hold_after=3' if moment == 'hold' else ''}]"
    connection = connect(daemon, held, stream=stream)
    simulator.wait(tag, "held")
    if stream and moment == "hold":
        read_until(connection, b"w2 ")
    assert len(daemon.turns()) == 1
    left = time.monotonic()
    connection.close()
    assert wait_until(lambda: not daemon.children(), 3)
    # A second where nothing else runs; but tests may run beside this one.
    assert time.monotonic() - left < 2.0
    assert simulator.wait(tag, "disconnected")["deltas"] == (0 if moment == "hold_before" else 3)
    done = daemon.log.wait_for("request.done", client_gone=True)
    assert done["status"] in (200, 499)


def test_a_client_that_said_more_before_it_left_is_seen_to_leave(connect, start, simulator, tag):
    daemon = start("--spares", "0")
    connection = connect(daemon, f"{tag} [simulate tokens=9 hold_before={tag}]")
    simulator.wait(tag, "held")
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    # What was sent has been taken by the daemon when a later request has been answered.
    assert wait_until(lambda: health(daemon)["sessions"]["running"] == 1)
    connection.close()
    assert wait_until(lambda: not daemon.children(), 3)
    simulator.wait(tag, "disconnected")


def test_a_client_that_leaves_a_deaf_cli_ends_it_too(connect, start):
    daemon = start("--claude", FAKE, "--spares", "0")
    connection = connect(daemon, "deaf")
    read_until(connection, b"one ")
    connection.close()
    left = time.monotonic()
    assert wait_until(lambda: not daemon.children(), 3)
    assert time.monotonic() - left < 1.0


def test_a_client_that_leaves_the_queue_leaves_no_trace(connect, start, simulator, tag):
    daemon = start("--max-concurrency", "1", "--spares", "0")
    first = connect(daemon, f"{tag}first [simulate tokens=3 hold={tag}]")
    simulator.wait(f"{tag}first", "held")
    waiting = connect(daemon, f"{tag}second")
    assert wait_until(lambda: health(daemon)["queue"] == 1)
    waiting.close()
    assert wait_until(lambda: health(daemon)["queue"] == 0)
    simulator.release(tag)
    read_until(first, b"[DONE]")
    first.close()
    assert daemon.chat(f"{tag}third").status_code == 200
    assert simulator.requests(f"{tag}second") == []


def test_nothing_outlives_a_daemon_that_is_killed(connect, start, simulator, tag):
    daemon = start("--spares", "1")
    connect(daemon, f"{tag} [simulate tokens=9 hold={tag} hold_after=1]")
    simulator.wait(tag, "held")
    assert wait_until(lambda: len(daemon.turns()) == 2)
    daemon.process.kill()
    daemon.process.wait()
    assert wait_until(lambda: not daemon.children(), 2)
    for directory in daemon.home.glob("claude-proxy-*"):
        shutil.rmtree(directory)


def test_sigterm_lets_running_answers_finish_and_takes_no_more(connect, start, simulator, tag):
    daemon = start()
    connection = connect(daemon, f"{tag} [simulate tokens=5 hold={tag} hold_after=2]")
    read_until(connection, b"w1 ")
    daemon.process.send_signal(signal.SIGTERM)
    daemon.log.wait_for("daemon.draining", running=1)
    assert wait_until(lambda: not listens(daemon))
    simulator.release(tag)
    assert b"w4" in read_until(connection, b"[DONE]")
    assert daemon.process.wait(10) == 0
    daemon.log.wait_for("daemon.stopped")


def test_after_the_drain_time_an_answer_ends_with_an_error_frame(connect, start, simulator, tag):
    daemon = start("--drain-timeout", "0.5", "--max-concurrency", "1")
    connection = connect(daemon, f"{tag} [simulate tokens=5 hold={tag} hold_after=2]")
    read_until(connection, b"w1 ")
    queued = in_background(daemon.chat, f"{tag} queued")
    assert wait_until(lambda: health(daemon)["queue"] == 1)
    assert daemon.terminate() == 0
    frames = sse(read_all(connection).decode())
    assert frames[-1]["error"]["code"] == "service_unavailable"
    assert queued.result(5).status_code == 503


def test_a_second_sigterm_ends_it_at_once(connect, start, simulator, tag):
    daemon = start("--drain-timeout", "60")
    connection = connect(daemon, f"{tag} [simulate tokens=5 hold={tag} hold_after=2]")
    read_until(connection, b"w1 ")
    daemon.process.send_signal(signal.SIGTERM)
    daemon.log.wait_for("daemon.draining")
    assert daemon.terminate() == 0
    assert sse(read_all(connection).decode())[-1]["error"]["code"] == "service_unavailable"
    assert not [line for line in daemon.log.lines if "Traceback" in line]


def test_two_signals_while_turns_start_leave_nothing_and_answer_everybody(start):
    daemon = start("--demo", "--spares", "3", "--max-concurrency", "4", upstream=None)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(daemon.chat, f"go {n}") for n in range(8)]
        assert wait_until(lambda: health(daemon)["sessions"]["running"] == 4)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.log.wait_for("daemon.draining")
        assert daemon.terminate() == 0
        statuses = [answer.result(30).status_code for answer in answers]
    assert set(statuses) <= {200, 503}
    assert not [line for line in daemon.log.lines if "Traceback" in line]


@pytest.mark.parametrize("moment", ["imports", "simulator", "listening"])
def test_a_signal_during_the_start_is_obeyed(start, moment, tmp_path):
    import subprocess
    import sys

    process = subprocess.Popen(
        [sys.executable, "-m", "claude_proxy", "--demo", "--port", "0", "--log-level", "debug"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
    )
    with process.stderr:
        if moment == "imports":
            assert wait_until(lambda: handles_sigterm(process.pid))
        elif moment == "simulator":
            assert wait_until(lambda: list(tmp_path.glob("claude-proxy-demo-*")))
        else:
            process.stderr.readline()
        process.terminate()
        assert process.wait(10) == 0
    assert not list(tmp_path.glob("claude-proxy-*"))


def test_it_runs_with_its_standard_streams_closed(tmp_path):
    import subprocess
    import sys

    state = tmp_path / ".local/state/claude-proxy/api-key"
    process = subprocess.Popen(
        [
            *("sh", "-c", 'exec "$0" -m claude_proxy --port 0 --claude "$1" 0<&- 1>&- 2>&-'),
            *(sys.executable, FAKE),
        ],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
    )
    assert wait_until(lambda: state.exists() and list(tmp_path.glob("claude-proxy-*")))
    process.terminate()
    assert process.wait(10) == 0


def test_without_a_login_the_start_says_so(start):
    daemon = start("--claude", FAKE)
    assert "log in" in daemon.log.wait_for("claude.not_logged_in")["note"]


def test_more_requests_than_turns_wait_and_more_than_the_queue_are_sent_away(start, simulator, tag):
    daemon = start("--max-concurrency", "1", "--queue", "1")
    running = in_background(daemon.chat, f"{tag} [simulate hold={tag} text=first]")
    simulator.wait(tag, "held")
    queued = in_background(daemon.chat, f"{tag} [simulate text=second]")
    assert wait_until(lambda: health(daemon)["queue"] == 1)
    refused = daemon.chat(f"{tag} third")
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(refused.headers["retry-after"]) > 0
    simulator.release(tag)
    answers = [future.result(30).json() for future in (running, queued)]
    assert [a["choices"][0]["message"]["content"] for a in answers] == ["first", "second"]
    assert len(simulator.requests(tag)) == 2


def test_who_waits_too_long_in_the_queue_is_told(start, simulator, tag):
    daemon = start("--max-concurrency", "1", "--queue-timeout", "0.3")
    running = in_background(daemon.chat, f"{tag} [simulate hold={tag}]")
    simulator.wait(tag, "held")
    late = daemon.chat("late")
    assert late.status_code == 503
    assert late.json()["error"]["code"] == "overloaded"
    simulator.release(tag)
    assert running.result(30).status_code == 200


def test_parallel_requests_each_get_their_own_answer(start, tag):
    daemon = start("--max-concurrency", "3", "--spares", "2")
    with ThreadPoolExecutor(9) as pool:
        words = [f"answer{n}" for n in range(9)]
        answers = list(pool.map(lambda w: daemon.chat(f"{tag} [simulate text={w}]").json(), words))
    assert [a["choices"][0]["message"]["content"] for a in answers] == words
    assert wait_until(lambda: health(daemon)["sessions"]["running"] == 0)


def test_a_slow_client_holds_the_cli_back(connect, start, tmp_path):
    count = tmp_path / "count"
    daemon = start("--claude", FAKE, "--spares", "0", env={"FAKE_CLAUDE_COUNT": str(count)})
    connection = connect(daemon, "chunks")
    read_until(connection, b"yyy")
    # 200 MB are to come; what the pipes and sockets on the way can hold is far less.
    sizes = []
    while len(sizes) < 3 or len(set(sizes[-3:])) > 1:
        threading.Event().wait(0.3)
        sizes.append(count.read_text() if count.exists() else "0")
    assert int(sizes[-1]) < 60_000
    rss = int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * 4_096
    assert rss < 100_000_000
    connection.close()
    assert wait_until(lambda: not daemon.children(), 3)


def test_the_child_sees_no_secret_of_ours_and_an_empty_directory(start):
    secret = "prompt-that-nobody-may-see"
    daemon = start(
        "--claude",
        FAKE,
        env={
            "NOTIFY_SOCKET": "/run/x",
            "LISTEN_PID": "1",
            "JOURNAL_STREAM": "1:2",
            "CREDENTIALS_DIRECTORY": "/nonexistent",
            "OPENAI_API_KEY": KEY,
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "7",
        },
    )
    shown = daemon.chat(f"{secret} shows").json()["choices"][0]["message"]["content"]
    child = json.loads(shown)
    assert child["files"] == []
    assert Path(child["cwd"]).parent == daemon.home
    assert child["env"]["HOME"] == str(daemon.home)
    assert KEY not in json.dumps(child)
    assert secret not in json.dumps(child)
    assert not {"PROXY_API_KEY", "NOTIFY_SOCKET", "LISTEN_PID", "JOURNAL_STREAM"} & set(
        child["env"]
    )
    assert not {"CREDENTIALS_DIRECTORY", "CLAUDE_CODE_MAX_OUTPUT_TOKENS"} & set(child["env"])


def files_with(text, directory):
    """Files below it that hold the text; ones that the CLI removes meanwhile hold nothing."""
    found = []
    for place, _, names in os.walk(directory):  # a directory that goes is passed over
        for path in (Path(place, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and text.encode() in path.read_bytes():
                    found.append(path)
    return found


def test_no_prompt_reaches_an_argument_or_a_file(start, simulator, tag):
    daemon = start("--spares", "0")
    running = in_background(daemon.chat, f"{tag} [simulate hold={tag}]")
    simulator.wait(tag, "held")
    (child,) = daemon.turns().items()
    assert tag not in child[1]
    assert tag.encode() not in Path(f"/proc/{child[0]}/environ").read_bytes()
    assert files_with(tag, daemon.home) == []
    simulator.release(tag)
    assert running.result(30).status_code == 200
    assert files_with(tag, daemon.home) == []
    # It would be seen: the search finds what is there.
    (daemon.home / "note").write_text(f"a {tag} b")
    assert files_with(tag, daemon.home) == [daemon.home / "note"]


def test_the_log_has_one_line_for_a_request_and_no_word_of_it(daemon, tag):
    answer = daemon.chat(f"{tag} [simulate text=secretanswer thinking=1]", stream=True)
    assert "secretanswer" in answer.text
    done = daemon.log.wait_for("request.done", request_id=answer.headers["x-request-id"])
    assert (
        done.items()
        >= {
            "route": "/chat/completions",
            "model": "sonnet",
            "stream": True,
            "status": 200,
            "finish_reason": "stop",
            "client_gone": False,
        }.items()
    )
    assert 0 < done["ttft_ms"] <= done["duration_ms"]
    assert done["input_tokens"] > 0
    assert done["output_tokens"] > 0
    assert done["cost_usd"] > 0
    for bad in (f"{tag} [simulate error=400 message={tag}]", [{"role": tag, "content": tag}]):
        daemon.chat(bad)
    everything = "\n".join(daemon.log.lines)
    assert tag not in everything
    assert "secretanswer" not in everything
    assert KEY not in everything


def test_a_cut_turn_still_tells_what_it_cost(connect, start, simulator, tag):
    daemon = start()
    connection = connect(daemon, f"{tag} [simulate tokens=9 hold={tag} hold_after=3]")
    read_until(connection, b"w2 ")
    connection.close()
    done = daemon.log.wait_for("request.done", client_gone=True)
    assert done["input_tokens"] > 0
    assert done["output_tokens"] > 1
    assert done["cost_usd"] > 0


def test_a_spare_is_renewed_when_the_cli_is_replaced_or_it_grows_old(start, tmp_path):
    real = cli.bundled_path()
    link = tmp_path / "claude"
    link.symlink_to(real)
    daemon = start("--claude", str(link))
    before = daemon.log.wait_for("claude.spare_ready")["pid"]
    copy = tmp_path / "another"
    shutil.copy(real, copy)
    fresh = tmp_path / "new"
    fresh.symlink_to(copy)
    fresh.replace(link)
    daemon.log.wait_for("claude.ended", pid=before)
    daemon.log.wait_for("claude.upgraded")
    assert daemon.chat("hi").status_code == 200
    aging = start("--spare-max-age", "1")
    old = aging.log.wait_for("claude.spare_ready")["pid"]
    aging.log.wait_for("claude.ended", pid=old)
    assert aging.chat("hi").status_code == 200


def test_a_spare_that_dies_is_replaced_and_no_request_notices(start, tag):
    daemon = start("--spares", "1")
    pid = daemon.log.wait_for("claude.spare_ready")["pid"]
    os.kill(pid, signal.SIGKILL)
    assert daemon.chat(f"{tag} [simulate text=ok]").status_code == 200
    assert wait_until(lambda: health(daemon)["sessions"]["spare"] == 1)


def test_health_says_what_it_knows(daemon):
    told = health(daemon)
    assert told["status"] == "ok"
    assert told["claude_version"].startswith("2.")
    assert told["logged_in"] is True
    assert told["login"] == "api_key"
    assert httpx.get(daemon.url + "/health").text == "ok"
    assert httpx.get(daemon.url + "/v1/health").text == "ok"


def test_a_taken_port_is_said_and_is_exit_code_69(daemon, tmp_path):
    import subprocess
    import sys

    port = daemon.url.rsplit(":", 1)[1]
    done = subprocess.run(
        [sys.executable, "-m", "claude_proxy", "--port", port, "--claude", FAKE],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 69
    assert done.stderr.splitlines()[-1] == (
        f"claude-proxy: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "see --port, --host and --listen, or `claude-proxy status`: perhaps it runs already"
    )


def test_the_demo_needs_no_account_and_says_that_it_is_one(start):
    daemon = start("--demo", upstream=None, env={"ANTHROPIC_API_KEY": ""})
    daemon.log.wait_for("daemon.demo")
    with OpenAI(base_url=f"{daemon.url}/v1", api_key=KEY, max_retries=0) as client:
        stream = client.chat.completions.create(
            model="claude-sonnet-4.5", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "simulated" in text
    assert health(daemon)["simulated"] is True
    assert any("claude_proxy.simulator" in line for line in daemon.children().values())


def test_a_key_is_made_when_none_is_given(start, tmp_path):
    import subprocess
    import sys

    daemon = start("--claude", FAKE, env={"PROXY_API_KEY": ""})
    path = daemon.home / ".local/state/claude-proxy/api-key"
    assert daemon.log.wait_for("daemon.listening")["key_from"] == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    printed = subprocess.run(
        [sys.executable, "-m", "claude_proxy", "key"],
        env={"PATH": os.environ["PATH"], "HOME": str(daemon.home)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert printed == path.read_text().strip()
    answer = httpx.get(daemon.url + "/models", headers={"x-api-key": printed})
    assert answer.status_code == 200
    assert printed not in "\n".join(daemon.log.lines)


def health(daemon) -> dict:
    return httpx.get(daemon.url + "/health", headers={"accept": "application/json"}).json()


def handles_sigterm(pid: int) -> bool:
    """Whether a process has a handler of its own for SIGTERM (bit 14 of SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught & 1 << (signal.SIGTERM - 1))


def listens(daemon) -> bool:
    address = httpx.URL(daemon.url)
    with contextlib.suppress(OSError):
        socket.create_connection((address.host, address.port), timeout=5).close()
        return True
    return False


def read_all(connection: socket.socket) -> bytes:
    seen = b""
    while data := connection.recv(65_536):
        seen += data
    return seen
