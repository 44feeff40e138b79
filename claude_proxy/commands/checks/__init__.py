"""The checks of ``claude-proxy check``: each gives its findings, none when it does not apply."""
