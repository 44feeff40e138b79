"""The Claude Code CLI: its lines, its process, its conversation, its pool."""
