"""``--demo``: the real CLI, but its upstream is the built-in simulator on a loopback port."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from claude_proxy.claude.process import die_with_parent

END_GRACE = 2.0


def listening_socket() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@asynccontextmanager
async def simulator() -> AsyncGenerator[dict[str, str], None]:
    """Runs the simulator; gives the environment that leads a CLI to it and to no login of yours."""
    with tempfile.TemporaryDirectory(
        prefix="claude-proxy-demo-", ignore_cleanup_errors=True
    ) as home:
        with listening_socket() as listener:
            port = listener.getsockname()[1]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "claude_proxy.simulator"),
                *("--fd", str(listener.fileno()), "--until-stdin-closes"),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(listener.fileno(),),
                process_group=0,
                preexec_fn=die_with_parent(),
            )
        try:
            yield {
                "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
                "ANTHROPIC_API_KEY": "sk-simulated",
                "CLAUDE_CONFIG_DIR": home,
                "HOME": home,
            }
        finally:
            await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(END_GRACE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


# Any of these in the user's environment would lead the CLI past the simulator.
OVERRIDING = (
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
)
