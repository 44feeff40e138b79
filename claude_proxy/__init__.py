"""Your own Claude Code CLI as a local OpenAI and Anthropic API."""

__version__ = "0.2.0"
