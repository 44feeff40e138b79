"""The Responses API: its wire shapes and their translation. No I/O."""
