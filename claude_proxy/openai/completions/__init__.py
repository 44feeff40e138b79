"""The older API of completions: a prompt in, text out."""
