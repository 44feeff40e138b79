"""Anthropic's Messages API: its wire shapes and their translation. No I/O."""
