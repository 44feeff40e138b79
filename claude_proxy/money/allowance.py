"""Whether a client may have another answer now: rate and budgets, its own and everybody's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime

import structlog

from claude_proxy.clients import Client
from claude_proxy.current import Current
from claude_proxy.errors import InsufficientQuota, RateLimited
from claude_proxy.http.exchange import Exchange
from claude_proxy.money.budget import Budget, State, budgets
from claude_proxy.money.limit_headers import go_duration, of_requests
from claude_proxy.money.rate import Rates
from claude_proxy.money.spending import Spending

log = structlog.get_logger()


class Allowance:
    def __init__(
        self,
        current: Current,
        spending: Spending,
        pending: Callable[[str | None], float] = lambda _: 0.0,
    ) -> None:
        """``pending``: US dollars of one client's, or of all, that are spent and not booked yet."""
        self._current = current
        self._pending = pending
        self.spending = spending
        self._rates = Rates()
        # What has been warned of: each budget of each period once.
        self._told: set[tuple[Budget, date, bool]] = set()

    def common(self) -> list[State]:
        """Of the budgets that all have together."""
        return [self._state(budget) for budget in budgets(self._current.settings.budget)]

    def states(self, client: Client | None = None) -> list[State]:
        """Of those too that ``client`` has alone, or that anybody has."""
        own: list[Budget] = []
        for each in self._current.clients.all if client is None else [client]:
            own += budgets(each.budget, each.name)
        return self.common() + [self._state(budget) for budget in own]

    def admit(self, client: Client) -> dict[str, str]:
        """One request; returns headers for its answer. Raises RateLimited, InsufficientQuota."""
        headers = self._take(client)
        states = self.states(client)
        refuse_spent(states)
        near = [str(state) for state in states if state.is_near]
        return headers | ({"x-claude-proxy-budget": "; ".join(near)} if near else {})

    def check(self, client: Client) -> None:
        """Raises InsufficientQuota."""
        refuse_spent(self.states(client))

    def warnings(self) -> list[str]:
        """Of the budgets that are spent, or nearly; each is put into the log once."""
        near = [state for state in self.states() if state.is_near]
        for state in near:
            known = (state.budget, state.budget.begins(self.spending.day()), state.is_over)
            if known not in self._told:
                old = {one for one in self._told if one[0] == known[0] and one[1] < known[1]}
                self._told = self._told - old | {known}
                log.warning(
                    "budget.spent" if state.is_over else "budget.nearly_spent",
                    budget=str(state.budget),
                    spent_usd=round(state.spent, 4),
                    opens=state.opens.isoformat(),
                )
        return [str(state) for state in near]

    def _state(self, budget: Budget) -> State:
        today = self.spending.day()
        spent = self.spending.since(budget.begins(today), budget.client)
        return State(budget, spent + self._pending(budget.client), budget.ends(today))

    def _take(self, client: Client) -> dict[str, str]:
        limit = client.rate or self._current.settings.rate
        if not limit:
            return {}
        left = self._rates.take(client.name, limit)
        headers = of_requests(left)
        if not left.is_allowed:
            raise RateLimited(
                f"Rate limit reached for {client.name}: {limit} requests per minute. "
                f"Please try again in {go_duration(left.wait)}.",
                retry_after=left.wait,
                headers=headers,
            )
        return headers


def refuse_spent(states: Sequence[State]) -> None:
    """Raises InsufficientQuota, with the time at which all of them are open again."""
    over = [state for state in states if state.is_over]
    if not over:
        return
    last = max(over, key=lambda state: state.opens)
    wait = (last.opens - datetime.now(last.opens.tzinfo)).total_seconds()
    raise InsufficientQuota(
        f"T{str(last)[1:]} (${last.spent:.2f}). claude-proxy's setting --budget, or its file of "
        "keys, sets it.",
        retry_after=max(1.0, wait),
    )


def admit(exchange: Exchange, allowance: Allowance) -> Callable[[], None]:
    """Admits the request, whose answer gets headers of it; what is returned looks at the budgets
    once more, for when the request has waited. Both raise ProxyError.
    """
    client = exchange.client
    assert client is not None  # noqa: S101 - no route that costs anything is open
    exchange.headers |= allowance.admit(client)
    return lambda: allowance.check(client)
