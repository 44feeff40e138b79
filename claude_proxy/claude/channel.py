"""The line protocol with one process: decoded lines in, bytes out, and the MCP server between.

Knows lines, not turns: what a line means is the session's business.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

from claude_proxy.claude import stream_json, tools
from claude_proxy.claude.process import LineTooLong, Process
from claude_proxy.claude.stream_json import ControlRequestLine, Line, LineError
from claude_proxy.errors import BadUpstream, UpstreamTimeout

WRITE_TIMEOUT = 60.0
HEARTBEAT = 15.0
NOT_READING = "Claude Code does not read its input"


class Channel:
    def __init__(self, process: Process) -> None:
        self.unknown_lines = 0
        self._process = process
        self._ids = (f"proxy-{n}" for n in itertools.count(1))
        self._unreadable: LineError | None = None
        self._heard_at = time.monotonic()

    def control(self, subtype: str, **fields: Any) -> tuple[str, bytes]:
        """A control request's id and line."""
        id_ = next(self._ids)
        return id_, stream_json.control(id_, subtype, **fields)

    async def send(self, data: bytes) -> None:
        """Raises ProcessEnded or UpstreamTimeout."""
        try:
            await self._process.write(data, WRITE_TIMEOUT)
        except TimeoutError:
            raise UpstreamTimeout(NOT_READING) from None

    def listen(self) -> None:
        """Silence counts from now on."""
        self._heard_at = time.monotonic()

    async def next(self, silence: float) -> list[Line] | None:
        """Decoded lines as they come, None after a HEARTBEAT of silence.

        Raises ProcessEnded, BadUpstream, and UpstreamTimeout after ``silence`` s without a line.
        """
        patience = self._heard_at + silence - time.monotonic()
        try:
            batch = await self.read(max(0.0, min(HEARTBEAT, patience)))
        except (LineError, LineTooLong) as error:
            raise BadUpstream(f"Claude Code sent what cannot be read: {error}") from None
        except TimeoutError:
            raise UpstreamTimeout(NOT_READING) from None
        now = time.monotonic()
        if batch is not None:
            self._heard_at = now
        elif now - self._heard_at >= silence:
            raise UpstreamTimeout(
                f"Claude Code has been silent for {silence:g} seconds (--timeout)"
            )
        return batch

    async def read(self, timeout: float) -> list[Line] | None:  # noqa: ASYNC109 - no error
        """Lines that matter, perhaps none of those that came; None after ``timeout`` s of silence.

        What is no JSON object at all (a warning, a banner) is counted. Raises LineError for one
        that is an object but cannot be read, after those before it; and ProcessEnded, LineTooLong,
        or TimeoutError when the CLI does not take the answer to what it has asked.
        """
        if self._unreadable is not None:
            raise self._unreadable
        decoded: list[Line] = []
        lines = await self._process.read(timeout)
        if lines is None:
            return None
        for raw in lines:
            if raw[:1] != b"{" and not raw.lstrip().startswith(b"{"):
                self.unknown_lines += bool(raw.strip())
                continue
            try:
                line = stream_json.decode(raw)
            except LineError as error:
                self._unreadable = error
                if decoded:
                    break
                raise
            if line is None:
                self.unknown_lines += 1
            elif not isinstance(line, ControlRequestLine) or not await self._serve(line):
                decoded.append(line)
        return decoded

    async def _serve(self, line: ControlRequestLine) -> bool:
        """Answers what needs no knowledge of the conversation; False for all else."""
        message = line.request.get("message")
        match line.request.get("subtype"):
            case "mcp_message" if isinstance(message, dict):
                if message.get("method") == "tools/call":
                    return False
                answer = stream_json.mcp_response(line.request_id, tools.serve(message))
            case "hook_callback":
                return False
            case _:
                answer = stream_json.control_error(line.request_id, "not supported")
        await self._process.write(answer, WRITE_TIMEOUT)
        return True
