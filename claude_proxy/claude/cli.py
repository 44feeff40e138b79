"""The CLI on disk: where it is, whether it will do, and how it is started.

Nothing here reads a token: whether Claude Code is logged in is asked of Claude Code itself.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from claude_proxy.claude import tools
from claude_proxy.settings import ConfigurationError

MINIMUM_VERSION = (2, 1, 248)
WHY_MINIMUM = "older ones take @path in a prompt for a file to read"
VERSION_TIMEOUT = 20.0
LOGIN_TIMEOUT = 10.0
# A version or a login is some hundred bytes.
LONGEST_OUTPUT = 2**20

ARGUMENTS = (
    "--print",
    *("--input-format", "stream-json"),
    *("--output-format", "stream-json"),
    "--verbose",
    "--include-partial-messages",
    *("--thinking-display", "summarized"),
    # What follows keeps the user's tools, hooks, skills, memory and MCP servers out of the answer.
    *("--tools", ""),
    *("--setting-sources", ""),
    "--strict-mcp-config",
    "--disable-slash-commands",
    "--no-session-persistence",
    # The client's own tools, which the proxy serves; nobody is there to be asked.
    *("--allowedTools", f"mcp__{tools.SERVER}"),
)

ENVIRONMENT = {
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    # The client's conversation is the client's: the CLI must neither shorten nor repeat it.
    "DISABLE_COMPACT": "1",
    "DISABLE_AUTO_COMPACT": "1",
    # One refusal is one answer. Without these the CLI asks once more, at the user's cost.
    "CLAUDE_CODE_DISABLE_REFUSAL_RETRY": "1",
    "CLAUDE_CODE_DISABLE_REFUSAL_FALLBACK": "1",
    # A broken stream is an error. Without this the CLI asks again, and the text comes twice.
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    # The client's tools: offered from the start, and waited for as long as it takes (28 hours).
    "ENABLE_TOOL_SEARCH": "false",
    "CLAUDE_AGENT_SDK_MCP_NO_PREFIX": "1",
    "MCP_TOOL_TIMEOUT": "100000000",
    "MAX_MCP_OUTPUT_TOKENS": "1000000",
    # The API refuses a mark of five minutes, which is ours, before one of an hour.
    "FORCE_PROMPT_CACHING_5M": "1",
}

# Ours and systemd's: not the child's business. The client-side OPENAI_* may hold our key.
SCRUBBED_PREFIXES = ("CLAUDE_PROXY_", "LISTEN_", "WATCHDOG_", "MEMORY_PRESSURE_", "OPENAI_")
SCRUBBED = frozenset(
    {
        *("PROXY_API_KEY", "CLAUDE_MODEL", "HOST", "PORT"),
        *("NOTIFY_SOCKET", "JOURNAL_STREAM", "CREDENTIALS_DIRECTORY", "INVOCATION_ID"),
        *("MAINPID", "MANAGERPID", "SYSTEMD_EXEC_PID", "FDSTORE"),
        *("STATE_DIRECTORY", "CACHE_DIRECTORY", "RUNTIME_DIRECTORY", "LOGS_DIRECTORY"),
        "CONFIGURATION_DIRECTORY",
        # Left by a surrounding Claude Code, or set for one: they would change the answers.
        *("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SIMPLE", "CLAUDE_CODE_SSE_PORT"),
        *("CLAUDE_CODE_EXTRA_BODY", "CLAUDE_CODE_MAX_OUTPUT_TOKENS", "CLAUDE_CODE_EFFORT_LEVEL"),
        *("CLAUDE_CODE_DISABLE_THINKING", "MAX_THINKING_TOKENS", "CLAUDE_CODE_SESSION_ID"),
        *("ANTHROPIC_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL"),
    }
)

Stamp = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class Cli:
    """``path`` as it was found: a symbolic link stays one, so that an upgrade is seen."""

    path: Path
    version: str

    def stamp(self) -> Stamp | None:
        """Identity of the file behind ``path``; None while there is none (in mid-upgrade)."""
        return stamp(self.path)


@dataclass(frozen=True, slots=True)
class Login:
    """``logged_in`` is None when the CLI did not say."""

    logged_in: bool | None
    method: str | None = None
    plan: str | None = None

    def __str__(self) -> str:
        if self.logged_in is None:
            return "login unknown"
        if not self.logged_in:
            return "NOT logged in"
        return f"logged in as {self.plan or self.method or 'somebody'}"


class AuthStatus(msgspec.Struct, rename="camel"):
    """What ``claude auth status`` prints; it also exits 1 when not logged in."""

    logged_in: bool | None = None
    auth_method: str | None = None
    subscription_type: str | None = None


def stamp(path: Path) -> Stamp | None:
    try:
        real = path.resolve(strict=True)
        status = real.stat()
    except OSError:
        return None
    return str(real), status.st_ino, status.st_size, status.st_mtime_ns


def child_environment(environ: Mapping[str, str], retries: int) -> dict[str, str]:
    """The daemon's environment without our secrets and systemd's variables, plus ENVIRONMENT."""
    kept = {
        name: value
        for name, value in environ.items()
        if name not in SCRUBBED and not name.startswith(SCRUBBED_PREFIXES)
    }
    return with_retries(kept | ENVIRONMENT, retries)


def with_retries(environment: Mapping[str, str], retries: int) -> dict[str, str]:
    return {**environment, "CLAUDE_CODE_MAX_RETRIES": str(retries)}


def find(given: str | None, environ: Mapping[str, str]) -> Path:
    """``given``, else ``claude`` on PATH, else the one bundled in an installed claude-agent-sdk."""
    if given is not None:
        try:
            path = Path(given).expanduser()
        except (RuntimeError, ValueError):
            raise ConfigurationError(nothing_at(given)) from None
        if os.sep not in given and (on_path := shutil.which(given, path=environ.get("PATH"))):
            path = Path(on_path)
        return usable(path.absolute())
    if on_path := shutil.which("claude", path=environ.get("PATH")):
        return Path(on_path).absolute()
    if bundled := bundled_path():
        return usable(bundled)
    raise ConfigurationError(
        "Claude Code is not installed: there is no `claude` on PATH. Install it "
        "(https://docs.anthropic.com/en/docs/claude-code), name it with --claude PATH, or install "
        "claude-proxy with its extra `cli`"
    )


def bundled_path() -> Path | None:
    """Found without importing the package, whose dependencies are heavy."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "_bundled" / "claude"
    return path if path.is_file() else None


def usable(path: Path) -> Path:
    if not path.is_file():
        raise ConfigurationError(nothing_at(path))
    if not os.access(path, os.X_OK):
        raise ConfigurationError(f"{path} is not executable: chmod +x, or see --claude")
    return path


def nothing_at(path: Path | str) -> str:
    return f"there is no Claude Code CLI at {path}: name another with --claude, or none"


class Output(asyncio.SubprocessProtocol):
    """What a short run says; ``ended`` when it has exited and its pipe is closed."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = asyncio.Event()

    def pipe_data_received(self, _: int, data: bytes) -> None:
        if len(self.data) < LONGEST_OUTPUT:  # the rest of what has no end is dropped
            self.data += data

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set()


async def output_of(
    path: Path, *arguments: str, environment: Mapping[str, str], limit: float
) -> tuple[int, bytes]:
    """Exit code and output of a short run. Raises OSError, or TimeoutError after ``limit`` s."""
    transport, output = await asyncio.get_running_loop().subprocess_exec(
        Output,
        path,
        *arguments,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        async with asyncio.timeout(limit):
            await output.ended.wait()
    finally:
        # Also what a wrapper has started: its end of the pipe would be waited for.
        if (pid := transport.get_pid()) is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        # The pipe may outlive the run. It goes before the transport itself, whose close() may reap
        # the child and lose its exit code.
        if (pipe := transport.get_pipe_transport(1)) is not None:
            pipe.close()
        await output.ended.wait()
        transport.close()
    code = transport.get_returncode()
    return -1 if code is None else code, bytes(output.data)  # it has one, having exited


async def examine(path: Path, environment: Mapping[str, str]) -> Cli:
    """Asks ``--version``. Raises ConfigurationError when the CLI does not run or is too old."""
    try:
        code, output = await output_of(
            path, "--version", environment=environment, limit=VERSION_TIMEOUT
        )
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or "no answer to --version"
        raise ConfigurationError(f"{path} does not run: {reason}; try it by hand") from None
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", output.decode(errors="replace").strip())
    if code != 0 or found is None:
        raise ConfigurationError(
            f"{path} does not look like Claude Code: --version ended with exit code {code} "
            "and no version; name another with --claude"
        )
    if not is_new_enough(found[0]):
        needed = ".".join(map(str, MINIMUM_VERSION))
        raise ConfigurationError(
            f"{path} is Claude Code {found[0]}; {needed} or newer is needed: {WHY_MINIMUM}. "
            f"`{path} update` brings that, or whatever it was installed with"
        )
    return Cli(path, found[0])


def is_new_enough(version: str) -> bool:
    """``version``: numbers and points."""
    return tuple(map(int, version.split("."))) >= MINIMUM_VERSION


async def login(cli: Cli, environment: Mapping[str, str]) -> Login:
    """Whether Claude Code is logged in, as itself says; spends no tokens, takes about 0.25 s."""
    try:
        _, output = await output_of(
            cli.path, "auth", "status", environment=environment, limit=LOGIN_TIMEOUT
        )
        status = msgspec.json.decode(output, type=AuthStatus)
    except (OSError, TimeoutError, msgspec.MsgspecError, UnicodeDecodeError):
        return Login(None)
    return Login(status.logged_in, status.auth_method, status.subscription_type)
