"""OpenAI's dialects: wire structs and pure translators, no I/O."""
