"""Child processes that speak in lines, with real children."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.claude.process import (
    LONGEST_LINE,
    STDERR_KEPT,
    LineBuffer,
    LineTooLong,
    Process,
    ProcessEnded,
    describe_exit,
)
from claude_proxy.daemon import watch_children_without_threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts children in /proc")
LONG = 20.0


@given(st.lists(st.binary() | st.just(b"\n") | st.just(b"line\n")))
def test_any_split_of_the_bytes_gives_the_same_lines(pieces):
    buffer = LineBuffer()
    lines = [line for piece in pieces for line in buffer.feed(piece)]
    assert lines == b"".join(pieces).split(b"\n")[:-1]


def test_a_line_may_be_as_long_as_the_limit_and_no_longer():
    piece = bytes(2**20)
    buffer = LineBuffer()
    for _ in range(LONGEST_LINE // len(piece)):
        assert buffer.feed(piece) == []
    assert [len(line) for line in buffer.feed(b"\n")] == [LONGEST_LINE]
    for _ in range(LONGEST_LINE // len(piece)):
        buffer.feed(piece)
    with pytest.raises(LineTooLong):
        buffer.feed(b"x")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (None, "closed its output"),
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (-9, "ended by SIGKILL"),
        (-999, "ended with exit code -999"),
    ],
)
def test_an_exit_is_described_in_words(code, text):
    assert describe_exit(code) == text


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(autouse=True)
def _nothing_is_left():
    before = children(), descriptors()
    yield
    assert (children(), descriptors()) == before


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Runs ``work``, ends its processes and looks that no task is left behind."""

    async def main() -> None:
        watch_children_without_threads()
        try:
            async with asyncio.timeout(3 * LONG):
                await work()
        finally:
            while started:
                await started.pop().end(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


started: list[Process] = []


async def spawn(argv: Sequence[str], environment: Mapping[str, str], directory: Path) -> Process:
    process = await Process.spawn(argv, environment, directory)
    started.append(process)
    return process


async def shell(script: str) -> Process:
    return await spawn(["sh", "-c", script], {"PATH": os.environ["PATH"]}, Path("/"))


async def read_all(process: Process) -> tuple[list[bytes], ProcessEnded]:
    lines: list[bytes] = []
    try:
        while True:
            lines += await process.read(LONG)
    except ProcessEnded as ended:
        return lines, ended


@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        ("exit 0", 0, "ended with exit code 0"),
        ("exit 3", 3, "ended with exit code 3"),
        ("kill -KILL $$", -9, "ended by SIGKILL"),
    ],
)
def test_lines_are_read_until_the_end_which_tells_the_exit(script, code, text):
    async def work():
        process = await shell(f"echo one; echo; echo three; {script}")
        lines, ended = await read_all(process)
        assert lines == [b"one", b"", b"three"]
        assert (ended.returncode, str(ended), process.returncode) == (code, text, code)

    run(work)


def test_the_exit_is_told_also_when_the_childs_own_child_holds_a_pipe():
    async def work():
        process = await shell("sleep 600 >/dev/null & exec >&-; sleep 0.1; exit 3")
        _, ended = await read_all(process)
        assert process.returncode == 3
        assert ended.returncode == 3

    run(work)


def test_an_output_that_ends_before_the_child_does_is_an_end_too():
    async def work():
        process = await shell("exec >&-; read line")
        with pytest.raises(ProcessEnded, match="closed its output") as caught:
            await process.read(LONG)
        assert caught.value.returncode is None
        await process.end(LONG)
        assert process.returncode == -signal.SIGTERM

    run(work)


def test_silence_is_no_lines_and_no_error_and_loses_nothing():
    async def work():
        process = await shell("printf half; read go; echo line")
        assert await process.read(0.05) == []
        assert await process.read(0.05) is None
        await process.write(b"\n", LONG)
        lines, _ = await read_all(process)
        assert lines == [b"halfline"]

    run(work)


def test_what_came_while_this_process_was_held_up_is_no_silence():
    async def work():
        process = await shell("read go; echo $go")
        asyncio.get_running_loop().call_soon(hold_up, process)
        assert await process.read(0.05) == [b"go"]

    run(work)


def hold_up(process: Process) -> None:
    """The child says its line meanwhile, and the time for it is over afterwards."""
    until = time.monotonic() + 0.1
    process._child.stdin.write(b"go\n")
    transport = process._transport.get_pipe_transport(1)
    assert transport is not None
    poll = select.poll()
    poll.register(transport.get_extra_info("pipe"), select.POLLIN)
    assert poll.poll(LONG * 1_000)
    while time.monotonic() < until:
        pass


def test_a_cancelled_read_loses_nothing():
    async def work():
        process = await shell("read go; echo $go")
        reading = asyncio.create_task(process.read(LONG))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        await process.write(b"go\n", LONG)
        assert (await read_all(process))[0] == [b"go"]

    run(work)


def test_the_child_has_the_given_environment_and_directory_and_a_group_of_its_own(tmp_path):
    async def work():
        process = await spawn(
            [sys.executable, "-c", "import os; print(dict(os.environ), os.getcwd())"],
            {"ONLY": "this", "LC_CTYPE": "C.UTF-8"},
            tmp_path,
        )
        assert os.getpgid(process.pid) == process.pid
        (line,), _ = await read_all(process)
        environment = {"ONLY": "this", "LC_CTYPE": "C.UTF-8"}
        assert line.decode() == f"{environment} {tmp_path}"

    run(work)


@pytest.mark.parametrize("argv", [["/nowhere/claude"], ["/"]])
def test_what_cannot_be_started_is_an_os_error(argv):
    async def work():
        with pytest.raises(OSError):
            await spawn(argv, {}, Path("/"))

    run(work)


def test_large_lines_go_in_and_come_out_whole():
    async def work():
        process = await spawn(["cat"], {"PATH": os.environ["PATH"]}, Path("/"))
        line = bytes(range(11, 256)) * 20_000
        writing = asyncio.create_task(process.write(line + b"\n", LONG))
        lines: list[bytes] = []
        while not lines:
            lines = await process.read(LONG)
        await writing
        assert lines == [line]

    run(work)


def test_a_line_too_long_is_refused_as_it_comes():
    async def work():
        process = await shell(f"head -c {LONGEST_LINE + 2**20} /dev/zero; read line")
        with pytest.raises(LineTooLong):
            await read_all(process)

    run(work)


def test_a_child_that_obeys_sigterm_ends_within_the_grace():
    async def work():
        process = await shell("trap 'exit 5' TERM; echo up; while :; do read line; done")
        assert await process.read(LONG) == [b"up"]
        await process.end(LONG)
        assert process.returncode == 5
        assert await process.wait() == 5
        await process.end(LONG)

    run(work)


def test_a_child_that_ignores_sigterm_is_killed():
    async def work():
        process = await shell("trap '' TERM; echo up; read line; echo $line; read line")
        assert await process.read(LONG) == [b"up"]
        await process.end(0.05)
        assert process.returncode == -signal.SIGKILL

    run(work)


def test_how_a_killed_child_has_ended_is_known(caplog):
    """A race: asyncio's transport.close() polls, which may reap the child behind the back of the
    child watcher, and that then warns and reports 255. On one processor it is lost at times."""

    async def work():
        for _ in range(60):
            process = await shell("trap '' TERM; echo up; read line; read line")
            assert await process.read(LONG) == [b"up"]
            await process.end(0.001)
            assert process.returncode == -signal.SIGKILL

    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    try:
        run(work)
    finally:
        os.sched_setaffinity(0, processors)
    assert caplog.records == []


@pytest.fixture
def witness(tmp_path):
    """A FIFO that hangs up when the last process that writes to it is gone."""
    path = tmp_path / "witness"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def all_gone() -> bool:
        poll = select.poll()
        poll.register(reader, select.POLLHUP)
        return bool(poll.poll(LONG * 1_000))

    yield path, all_gone
    os.close(reader)


@pytest.mark.parametrize("leader", ["wait", "exit 0"])
def test_the_childs_own_children_end_with_it_even_when_it_has_left_them(witness, leader):
    path, all_gone = witness

    async def work():
        grandchild = "sleep 600 </dev/null >/dev/null 2>&1"
        process = await shell(f"exec 3>{path}; trap '' TERM; {grandchild} & echo up; {leader}")
        assert await process.read(LONG) == [b"up"]
        if leader != "wait":
            assert await process.wait() == 0
        await process.end(0.05)

    run(work)
    assert all_gone()


def test_a_child_dies_when_its_parent_is_killed(witness):
    """Even one that never reads its stdin."""
    path, all_gone = witness
    script = f"""
import asyncio
from pathlib import Path
from claude_proxy.claude.process import Process
from claude_proxy.daemon import watch_children_without_threads

async def main():
    watch_children_without_threads()
    argv = ["sh", "-c", "exec 3>{path}; trap '' TERM; echo up; exec sleep 600"]
    process = await Process.spawn(argv, {{"PATH": "/usr/bin:/bin"}}, Path("/"))
    await process.read({LONG})
    print("up", flush=True)
    await process.wait()

asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        parent.kill()
    assert all_gone()


def test_much_on_stderr_blocks_nothing_and_only_the_end_is_kept():
    async def work():
        process = await shell("head -c 3000000 /dev/zero >&2; echo done; read line")
        assert await process.read(LONG) == [b"done"]
        assert process.stderr_bytes > 2_000_000
        assert len(process.stderr_tail) <= STDERR_KEPT

    run(work)


def test_the_last_words_on_stderr_are_known_when_the_output_has_ended():
    """Repeated, for it is a race: the pool logs them right after ProcessEnded."""

    async def work():
        missed = 0
        for _ in range(200):
            process = await shell("echo last words >&2; exit 1")
            await read_all(process)
            missed += process.stderr_tail != "last words"
            await process.end(LONG)
        assert missed == 0

    run(work)


def test_writing_to_a_dead_child_tells_that_it_has_ended():
    async def work():
        process = await shell("exit 3")
        await process.wait()
        for _ in range(3):
            with pytest.raises(ProcessEnded, match="ended with exit code 3"):
                await process.write(b"hello\n", LONG)

    run(work)


def test_writing_to_a_child_that_dies_meanwhile_tells_that_it_has_ended():
    async def work():
        process = await shell("head -c 100000 >/dev/null; exit 3")
        with pytest.raises(ProcessEnded, match="ended with exit code 3"):
            await process.write(bytes(10_000_000), LONG)

    run(work)


def test_writing_to_a_child_that_does_not_read_times_out():
    async def work():
        process = await shell("exec sleep 600")
        with pytest.raises(TimeoutError):
            await process.write(bytes(10_000_000), 0.05)

    run(work)


class Told(Exception):
    pass


def test_fail_wakes_a_waiting_read_and_fails_later_ones_until_recovered():
    async def work():
        process = await shell("read go; echo $go; read go")
        reading = asyncio.create_task(process.read(LONG))
        await asyncio.sleep(0)
        process.fail(Told())
        process.fail(Told())
        with pytest.raises(Told):
            await reading
        with pytest.raises(Told):
            await process.read(LONG)
        process.recover()
        await process.write(b"on\n", LONG)
        assert await process.read(LONG) == [b"on"]

    run(work)


def test_reading_and_writing_after_the_end_tell_that_it_has_ended():
    async def work():
        process = await shell("read line")
        await process.end(LONG)
        with pytest.raises(ProcessEnded):
            await process.read(LONG)
        with pytest.raises(ProcessEnded):
            await process.write(b"x", LONG)

    run(work)
