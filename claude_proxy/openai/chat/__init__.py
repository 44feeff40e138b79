"""The Chat Completions API: its wire shapes and their translation. No I/O."""
