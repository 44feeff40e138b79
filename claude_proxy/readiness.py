"""Why a request that came now would not be answered."""

from __future__ import annotations

from claude_proxy.claude.pool import Pool
from claude_proxy.current import Current
from claude_proxy.money.allowance import Allowance


def why_not_ready(current: Current, pool: Pool, allowance: Allowance) -> list[str]:
    """Asks nobody."""
    installation = pool.installation
    reasons = {
        "it is shutting down": current.draining,
        installation.problem or "": installation.problem is not None,
        "Claude Code is not logged in": installation.last_login.logged_in is False,
        "all turns are running and the queue is full": pool.is_full,
        "a budget is spent": any(state.is_over for state in allowance.common()),
    }
    return [reason for reason, is_so in reasons.items() if is_so]
