"""What the kernel may keep of this process, and of those that it starts, which inherit it."""

from __future__ import annotations

import resource

# No file is that small, and where cores are piped into a program, whose size has no limit, Linux
# takes this one number for a no (core(5) has it for 0 only, for files).
NONE = 1


def forbid_core_dumps() -> None:
    """They would hold the key and conversations."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    limit = 0 if hard == 0 else NONE
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
