"""What the kernel may keep of this process, and of those that it starts, which inherit it."""

from __future__ import annotations

import resource


def forbid_core_files() -> None:
    """They would hold the key and conversations."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
