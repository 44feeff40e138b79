"""A child process that speaks in lines: spawn, frame, write, end. Knows nothing of Claude."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

READ_SIZE = 65_536
LONGEST_LINE = 64 * 2**20
STDERR_KEPT = 4_096
LAST_LOOK = 0.05
EXIT_TIMEOUT = 0.5
REAP_TIMEOUT = 2.0
PR_SET_PDEATHSIG = 1
# Both ends of the pipes of a child, and what else it takes to start one.
DESCRIPTORS = 12


class LineTooLong(ValueError):
    """A line above LONGEST_LINE bytes."""


class ProcessEnded(Exception):
    """The child has closed its output; ``returncode`` is negative for a signal."""

    def __init__(self, returncode: int | None) -> None:
        super().__init__(describe_exit(returncode))
        self.returncode = returncode


def describe_exit(returncode: int | None) -> str:
    if returncode is None:
        return "closed its output"
    if returncode < 0:
        with suppress(ValueError):
            return f"ended by {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode}"


class LineBuffer:
    """Cuts a byte stream into lines. Each byte is searched for a newline once only."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their newlines. Raises LineTooLong."""
        *complete, rest = data.split(b"\n")
        if complete:
            complete[0] = b"".join((*self._parts, complete[0]))
            self._parts.clear()
            self._size = 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
            if self._size > LONGEST_LINE:
                raise LineTooLong(f"a line of more than {LONGEST_LINE} bytes")
        return complete


def die_with_parent() -> Callable[[], None] | None:
    """Runs in the child before exec: Linux then kills it when this daemon dies, however it dies.

    The signal is tied to the thread that forks, here the event loop's, which is the main one.
    Where there is no prctl the closed stdin ends the CLI, within about 3 s in mid-turn.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def expect_descriptors() -> None:
    """Raises OSError where DESCRIPTORS are not left: ``subprocess`` of Python before 3.11.4 loses
    the pipes that it has when there is none left for the next.
    """
    with ExitStack() as opened:
        for _ in range(DESCRIPTORS):
            opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))


class Process:
    """One child in a process group of its own."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        # asyncio gives no other way to close what a child that was left alone keeps open.
        self._transport: asyncio.SubprocessTransport = getattr(child, "_transport")  # noqa: B009
        self._lines = LineBuffer()
        self._waiting: asyncio.Timeout | None = None
        self._failure: Exception | None = None
        self.stderr_bytes = 0
        self._stderr = b""
        self._stderr_reader = asyncio.create_task(self._drain_stderr())

    @classmethod
    async def spawn(
        cls, argv: Sequence[str | Path], environment: Mapping[str, str], directory: Path
    ) -> Process:
        """Raises OSError when it cannot be started."""
        expect_descriptors()
        child = await asyncio.create_subprocess_exec(
            *argv,
            env=environment,
            cwd=directory,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=READ_SIZE,
            process_group=0,
            preexec_fn=die_with_parent(),
        )
        return cls(child)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        return self._child.returncode

    @property
    def stderr_tail(self) -> str:
        """May hold anything the child prints, so it is only for children that saw no prompt."""
        return self._stderr.decode(errors="replace").strip()

    async def read(self, timeout: float) -> list[bytes] | None:  # noqa: ASYNC109 - not an error
        """The lines that the next bytes complete; None after ``timeout`` seconds of silence.

        Raises ProcessEnded at the end of the output, LineTooLong, or what ``fail`` was given.
        """
        data = await self._receive(timeout)
        if data is None:  # it may have come while this process was stopped, or busy for too long
            data = await self._receive(LAST_LOOK)
        if data is None:
            return None
        if not data:
            raise ProcessEnded(await self._exit_code())
        return self._lines.feed(data)

    async def _receive(self, timeout: float) -> bytes | None:  # noqa: ASYNC109
        assert self._child.stdout is not None  # noqa: S101 - spawned with pipes
        if self._failure is not None:
            raise self._failure
        try:
            async with asyncio.timeout(timeout) as self._waiting:
                return await self._child.stdout.read(READ_SIZE)
        except TimeoutError:
            if self._failure is not None:
                raise self._failure from None
            return None
        finally:
            self._waiting = None

    def fail(self, failure: Exception) -> None:
        """Makes the present and every later ``read`` raise ``failure``."""
        self._failure = failure
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(0)

    def recover(self) -> None:
        """Takes ``fail`` back, so that what is still to come can be read."""
        self._failure = None

    async def write(self, data: bytes, timeout: float) -> None:  # noqa: ASYNC109
        """Raises ProcessEnded, or TimeoutError when the child does not read."""
        assert self._child.stdin is not None  # noqa: S101 - spawned with pipes
        try:
            self._child.stdin.write(data)
            async with asyncio.timeout(timeout):
                await self._child.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise ProcessEnded(await self._exit_code()) from None

    async def wait(self) -> int:
        return await self._child.wait()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    async def end(self, grace: float) -> None:
        """SIGTERM, after ``grace`` seconds SIGKILL; returns when nothing of it is left."""
        if self.returncode is None:
            self._signal(signal.SIGTERM)
            await self._gone(grace)
        self.kill()  # also whatever the child may have started in its group and left behind
        self._close_pipes()
        await self._gone(REAP_TIMEOUT)
        self._transport.close()
        self._stderr_reader.cancel()
        await asyncio.wait({self._stderr_reader})

    async def _gone(self, timeout: float) -> None:  # noqa: ASYNC109 - its end is no error
        """Until the child has ended and its pipes are closed; a grandchild may hold those."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._child.wait()

    def _close_pipes(self) -> None:
        """Before the transport itself, whose close() may reap the child and lose its exit code."""
        for descriptor in range(3):
            pipe = self._transport.get_pipe_transport(descriptor)
            if pipe is not None:
                pipe.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, number)

    async def _exit_code(self) -> int | None:
        """The output ends a moment before the exit code is known."""
        await self._gone(EXIT_TIMEOUT)
        await asyncio.wait({self._stderr_reader}, timeout=EXIT_TIMEOUT)
        return self.returncode

    async def _drain_stderr(self) -> None:
        assert self._child.stderr is not None  # noqa: S101 - spawned with pipes
        while data := await self._child.stderr.read(READ_SIZE):
            self.stderr_bytes += len(data)
            self._stderr = (self._stderr + data)[-STDERR_KEPT:]
