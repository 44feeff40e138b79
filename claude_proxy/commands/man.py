"""``claude-proxy man``: the manual page."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from claude_proxy import manual
from claude_proxy.command_line import Invocation


def run(_: Invocation, __: Mapping[str, str]) -> int:
    sys.stdout.write(manual.page())
    return 0
