"""Your own Claude Code CLI as a local, OpenAI-compatible API."""

__version__ = "0.2.0"
